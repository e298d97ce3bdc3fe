"""The whole pipeline through the command line, at a scale of seconds: YAML, Ray, training, MLflow, the table."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from checkout import CELLS, Checkout

from harness.tracking.record import Runs
from harness.tracking.spool import Spool

pytestmark = [pytest.mark.chain, pytest.mark.ray]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Shared by this module's tests, which follow one another as a person's commands do."""
    return Checkout(tmp_path_factory.mktemp("chain"))


def test_interrupted_by_hand(checkout: Checkout) -> None:
    """Ctrl-C ends a sweep with one line and 130; what had begun says so and is kept."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(**checkout.command("run", "table5b", "--seeds", "1"), **pipes) as process:
        runs = Runs(checkout.home / "runs")
        ends = time.monotonic() + 120
        while not runs.keys() and process.poll() is None and time.monotonic() < ends:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, said + complaint
    assert "digits: ready in" in said
    assert "5 runs to do" in said
    assert complaint.splitlines()[-1].startswith("harness: stopped; finished runs are kept")
    begun = checkout.harness("status", "table5b", "--seeds", "1").stdout
    assert "missing" in begun, "it was stopped in the middle"
    assert "interrupted" in begun or "done" in begun


def test_a_table_from_nothing(checkout: Checkout) -> None:
    """One command makes the table, from wherever it was; a second has nothing to do; numbers lead to their runs."""
    first = checkout.harness("run", "table5b", "--seeds", "1")
    assert first.returncode == 0, first.stdout + first.stderr
    for text in ("runs to do", "done: linear table5b:byol seed 0", "written: "):
        assert text in first.stdout
    built = checkout.root / "tables" / "built" / "laptop"
    with (built / "table5b.csv").open() as file:
        rows = {row["cell"]: row for row in csv.DictReader(file) if row["cell"] in CELLS}
    assert set(rows) == set(CELLS)
    assert all(row["status"] == "complete" and 10 < float(row["ours"]) <= 100 for row in rows.values())
    assert f"{float(rows['byol']['ours']):.1f}" in (built / "table5b.md").read_text()
    assert r"\begin{tabular}" in (built / "table5b.tex").read_text()
    assert not list((checkout.home / "ray").iterdir()), "what Ray wrote for itself is gone"
    assert not list(checkout.elsewhere.iterdir()), "nothing is written where the command happens to stand"
    _check_mlflow(checkout)

    second = checkout.harness("run", "table5b", "--seeds", "1", PYTHONPROFILEIMPORTTIME="1")
    assert second.returncode == 0, second.stdout + second.stderr[-2000:]
    assert "5 of 5 runs are finished; nothing is left to run" in second.stdout
    imported = {line.rpartition("|")[2].strip() for line in second.stderr.splitlines() if "|" in line}
    assert "sqlite3" in imported, "the list is one"
    assert not {"ray", "torch", "ffcv", "mlflow"} & imported, "seconds that a report does not need"

    explained = checkout.harness("explain", "table5b:byol", "--json")
    assert explained.returncode == 0, explained.stderr
    key = rows["byol"]["run_keys"].split()[0]
    assert key in explained.stdout
    json.loads(explained.stdout)

    before = {path.name: path.read_bytes() for path in built.iterdir()}
    assert checkout.harness("export-results", str(checkout.home / "results.json.gz")).returncode == 0
    shutil.rmtree(built)
    told = ("report", "table5b", "--seeds", "1", "--from", str(checkout.home / "results.json.gz"))
    rebuilt = checkout.harness(*told, HARNESS_HOME=str(checkout.home / "nowhere"), MLFLOW_TRACKING_URI="nonsense://")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert {path.name: path.read_bytes() for path in built.iterdir()} == before, "with neither runs nor server"
    assert not (checkout.home / "nowhere").exists()


def _check_mlflow(checkout: Checkout) -> None:
    """The store holds one run a key, with the tags a person searches by and the points of its spool."""
    from mlflow.tracking import MlflowClient  # noqa: PLC0415  # seconds to import

    runs = Runs(checkout.home / "runs")
    client = MlflowClient(f"sqlite:///{checkout.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("byol-tables")
    stored = {run.data.tags["harness.key"]: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(stored) == runs.keys()
    assert len(stored) == 5
    for key, run in stored.items():
        record = runs.read(key)
        assert record is not None
        assert run.info.status == "FINISHED"
        assert run.data.tags["harness.state"] == "done"
        assert run.data.tags["table.5b"] in (*CELLS, "untrained")
        assert {name: run.data.metrics[f"result.{name}"] for name in record.results} == record.results
    byol = next(run for run in stored.values() if run.data.tags["table.5b"] == "byol")
    name = "pretrain.loss" if byol.data.tags["harness.kind"] == "pretrain" else "linear.loss"
    points = Spool(runs.folder(byol.data.tags["harness.key"]) / "spool.jsonl").read()
    history = {metric.step for metric in client.get_metric_history(byol.info.run_id, name)}
    assert {point.step for point in points} <= history


def test_a_run_that_diverges(checkout: Checkout, tmp_path: Path) -> None:
    """A loss that is no longer a number ends that run alone: it counts as chance, is marked, and is not tried again."""
    wild = Checkout(tmp_path / "wild", cells={"wild": {"optimizer.base_lr": 1.0e30}, "calm": {}})
    ended = wild.harness("run", "table5b", "--seeds", "1", HARNESS_DATA=str(checkout.home / "data"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = list(csv.DictReader((wild.root / "tables" / "built" / "laptop" / "table5b.csv").open()))
    told = {row["cell"]: (row["status"], row["ours"]) for row in rows}
    assert told["wild"] == ("diverged", "10.0"), "chance for ten digits"
    assert told["calm"][0] == "complete"
    assert "10.0 ‡" in ended.stdout
    again = wild.harness("run", "table5b", "--seeds", "1")
    assert "4 of 4 runs are finished; nothing is left to run" in again.stdout
