"""What a sweep survives: killed processes, and another sweep of the same table. Every number comes out the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from checkout import Checkout

from harness.tracking.mlflow_run import EXPERIMENT
from harness.tracking.record import Runs
from harness.tracking.spool import Spool

pytestmark = [pytest.mark.chain, pytest.mark.ray]
COMMAND = ("run", "table5b", "--seeds", "1")
EPOCHS = 20  # about 200 updates, seconds in which something can happen


def results(home: Path) -> dict[str, dict[str, float]]:
    """Every number of every run, by key."""
    runs = Runs(home / "runs")
    records = [runs.read(key) for key in runs.keys()]  # noqa: SIM118  # Runs is no mapping
    assert all(record is not None and record.state == "done" for record in records), records
    return {record.key: record.results for record in records if record is not None}


def curve(home: Path, key: str) -> list[tuple[int, dict[str, float]]]:
    points = Spool(home / "runs" / key / "spool.jsonl").read()
    return [(point.step, point.metrics) for point in points]


def until(happens: Callable[[], object], process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + 120
    while not happens():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends, "it never happened"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The table as it comes out when nothing goes wrong."""
    checkout = Checkout(tmp_path_factory.mktemp("undisturbed"), EPOCHS)
    ended = checkout.harness(*COMMAND)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return checkout


def test_killed_and_begun_again(undisturbed: Checkout, tmp_path: Path) -> None:
    """Kill -9 of a training process, then of the driver: nothing is done twice, and no number changes.

    The training process comes back by itself, the driver by the same command; both go on from a checkpoint.
    """
    checkout = Checkout(tmp_path, EPOCHS)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    def checkpoints() -> list[Path]:
        return sorted(checkout.home.glob("runs/*/checkpoints/checkpoint-*.pt"))

    with subprocess.Popen(**checkout.command(*COMMAND), **pipes) as driver:
        until(lambda: [path for path in checkpoints() if (path.parents[1] / "lease.json").exists()], driver)
        first = checkpoints()[0].parents[1]
        trainer = json.loads((first / "lease.json").read_text())["pid"]
        os.kill(trainer, signal.SIGKILL)

        def followed() -> bool:
            lease = first / "lease.json"
            return lease.exists() and json.loads(lease.read_text() or '{"pid": 0}')["pid"] not in (0, trainer)

        until(followed, driver)
        time.sleep(1)
        driver.send_signal(signal.SIGKILL)
        driver.communicate(timeout=30)
    unfinished = [json.loads(path.read_text())["state"] for path in checkout.home.glob("runs/*/record.json")]
    assert "running" in unfinished, "it was killed in the middle"

    again = checkout.harness(*COMMAND)
    assert again.returncode == 0, again.stdout + again.stderr
    assert results(checkout.home) == results(undisturbed.home)
    for key in results(checkout.home):
        assert curve(checkout.home, key) == curve(undisturbed.home, key)
    assert _history(checkout.home) == {key: len(curve(checkout.home, key)) for key in results(checkout.home)}


def _history(home: Path) -> dict[str, int]:
    """How many points of its curve MLflow holds for each run."""
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        name = "pretrain.loss" if run.data.tags["harness.kind"] == "pretrain" else "linear.loss"
        found[run.data.tags["harness.key"]] = len(client.get_metric_history(run.info.run_id, name))
    return found


def test_two_sweeps_at_once(undisturbed: Checkout, tmp_path: Path) -> None:
    """Started together they share the work: every key is trained once, both end well and print the same table."""
    checkout = Checkout(tmp_path, EPOCHS)
    checkout.harness("prepare", "digits")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(**checkout.command(*COMMAND), **pipes) for _ in range(2)]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    tables = [out[out.index("**Table 5b.**") : out.index("written:")] for out, _ in said]
    assert tables[0] == tables[1]
    assert results(checkout.home) == results(undisturbed.home)
    for key in results(checkout.home):
        _, forgotten = Spool(checkout.home / "runs" / key / "spool.jsonl").history()
        assert forgotten == 0, "somebody began this run a second time"
