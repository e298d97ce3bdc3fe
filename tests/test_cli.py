"""The command line: exit codes, one line for every mistake, and what planning and training import."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.config.expand import expand
from harness.config.files import table_ids
from harness.config.identity import plain
from harness.tracking.record import Record, Runs

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout and a HARNESS_HOME of the test's own, which it runs in."""
    root = tmp_path / "checkout"
    for folder in ("experiments", "tables"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("built"))
    for name in ("PROFILE", "SEEDS", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "HARNESS_DATA", "HARNESS_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(root)
    monkeypatch.setenv("HARNESS_ROOT", str(root))
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return root


Fails = Callable[..., str]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Runs a command that must exit with 2, having said one line on stderr; returns the line."""

    def run(*arguments: str) -> str:
        assert main(list(arguments)) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("harness: ")
        assert told.err.count("\n") == 1
        return told.err.strip()

    return run


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(list(arguments)) == 0
    return json.loads(capsys.readouterr().out)


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("frobnicate", "invalid choice: 'frobnicate'"),
        ("", "required: VERB"),
        ("run", "required: NAME"),
        ("plan 5b --gpu h10", "--gpu: experiments/machines.yaml has no machine 'h10'; known: cpu, v100, a10, a100,"),
        ("plan 5b --gpus 4 --gpus-per-run 8", "--gpus 4: a run alone takes 8 (--gpus-per-run)"),
        ("plan 5b --gpus-per-run 8", "give both"),
        ("plan 5b --budget-gpu-hours lots", "must be a number of hours, 0 or more, not 'lots'"),
        ("plan 5b --budget-gpu-hours nan", "must be a number of hours, 0 or more, not 'nan'"),
        ("plan 5b --jsno", "unrecognized arguments: --jsno"),
        ("plan 5b --seeds 0", "--seeds: must be a whole number of at least 1, not '0'"),
        ("plan 5b --seeds many", "--seeds: must be a whole number of at least 1, not 'many'"),
        ("plan 5b --seeds 4", "SEEDS=4: table 5b declares 3 (experiments/tables/table5b.yaml:6)"),
        ("plan table5bb", "unknown table '5bb'; did you mean '5b'?"),
        ("report tablexy", "unknown table 'xy'; known: 1a, 1b, 2a,"),
        ("status table", "unknown table ''; known: 1a, 1b, 2a,"),
        ("plan 5b --profile labtop", "unknown profile 'labtop'; did you mean 'laptop'?"),
        ("run 5b --profile labtop", "unknown profile 'labtop'; did you mean 'laptop'?"),
        ("plan 5b --cell simclear", "unknown cell 'simclear'; did you mean 'simclr'?"),
        ("explain 5b", "explain takes a table and a cell, as table5b:byol, not '5b'"),
        ("explain tables5b:byol", "unknown table 's5b'; did you mean '5b'?"),
        ("explain 5b:simclear", "unknown cell 'simclear'; did you mean 'simclr'?"),
        ("train no/such.json", "no/such.json"),
    ],
)
def test_a_wrong_command(fails: Fails, arguments: str, problem: str) -> None:
    """Protects the person from a traceback: exit code 2, and one line that says what is wrong."""
    assert problem in fails(*arguments.split())


# The file, what stands there, what is written instead, and what the person reads.
WRONG = [
    ("experiments/recipes/byol_r50_300ep.yaml", "1.0e-6", "1e-6", "byol_r50_300ep.yaml:7: optimizer.weight_decay"),
    ("experiments/recipes/byol_r50_300ep.yaml", "trust:", "turst:", "did you mean 'trust'?"),
    ("experiments/tables/table5b.yaml", "id: simclr", "id: byol", "table5b.yaml:12: cell id 'byol' already stands"),
    ("experiments/tables/table5b.yaml", "byol_r50_300ep", "byol_r5", "table5b.yaml:5: unknown recipe 'byol_r5'"),
    ("experiments/tables/table5b.yaml", "cells:", "cells: [", "table5b.yaml:9: not valid YAML"),
    ("experiments/profiles/laptop.yaml", "{300: 40,", "{200: 40,", "laptop.yaml:22: schedule.epochs: the table"),
    ("tables/table5b.yaml", "cell: simclr", "cell: simclear", "tables/table5b.yaml:10: rows[3]: unknown cell"),
]


@pytest.mark.parametrize(
    ("verb", "wrong"),
    [(verb, wrong) for verb in ("run", "plan", "report") for wrong in WRONG if verb != "plan" or wrong != WRONG[-1]],
)
def test_a_wrong_file(fails: Fails, checkout: Path, verb: str, wrong: tuple[str, str, str, str]) -> None:
    """Protects the same before a run begins: no verb starts work on what is wrong; planning alone needs no layout."""
    file, old, new, problem = wrong
    path = checkout / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert problem in fails(verb, "table5b")


def test_a_nonsense_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects every verb from a damaged record: it is named with what to do, set aside, and the rest goes on."""
    key = expand("5b", "laptop").members[0].subject_key
    path = tmp_path / "home" / "runs" / key / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    for verb in ("plan", "status", "report"):
        assert main([verb, "5b"]) == 0
        told, complaint = capsys.readouterr()
        assert f"{path} is no record" in complaint
        assert "delete its folder" in complaint
        assert "Table 5b" in told or "unreadable" in told


def test_train_refuses_nonsense(fails: Fails, tmp_path: Path) -> None:
    """Protects a bare GPU machine's user as any other: a spec that is none is one line."""
    spec = tmp_path / "spec.json"
    for text, problem in (
        ("{", "spec.json"),
        ('{"kind": "pretrain"}', "spec.json: "),
        ('{"kind": "x"}', "no kind of run"),
    ):
        spec.write_text(text)
        assert problem in fails("train", str(spec))


@pytest.mark.parametrize(
    ("name", "tables"),
    [("table5b", ["5b"]), ("5b", ["5b"]), ("5", ["5a", "5b"]), ("table5", ["5a", "5b"]), ("tables", table_ids())],
)
def test_names_of_tables(capsys: pytest.CaptureFixture[str], name: str, tables: list[str]) -> None:
    """Protects the forms in which a table, its parts or all of them are named."""
    planned = _json(capsys, "plan", name, "--json")
    assert {run["key"] for run in planned["runs"]} == {key for each in tables for key in expand(each, "laptop").runs()}


def test_plan_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Protects scripts: states and costs of each run, and a finished one told apart."""
    expansion = expand("5b", "laptop", 1, "byol")
    (member,) = expansion.members
    record = Record(
        key=member.subject_key,
        kind="pretrain",
        state="done",
        spec=plain(member.subject),
        commit="",
        environment={},
        started_unix_s=1.0,
    )
    Runs(tmp_path / "home" / "runs").write(record)
    planned = _json(capsys, "plan", "5b", "--seeds", "1", "--cell", "byol", "--json")
    assert (planned["profile"], planned["shared"]) == ("laptop", 0)
    assert [(run["key"], run["kind"], run["state"]) for run in planned["runs"]] == [
        (member.subject_key, "pretrain", "done"),
        (member.evaluation_key, "linear", "missing"),
    ]
    assert all(run["flops"] > 0 and run["gpu_hours"] > 0 and run["disk_bytes"] > 0 for run in planned["runs"])
    assert [run["cells"] for run in planned["runs"]] == [["table5b:byol"]] * 2


def test_status(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the live view of what has not begun."""
    board = _json(capsys, "status", "5b", "--cell", "byol", "--json")
    assert [(line["state"], line["share"]) for line in board] == [("missing", 0.0)] * 6
    assert main(["status", "5b", "--cell", "byol"]) == 0
    assert "0 of 6 runs finished" in capsys.readouterr().out


def test_explain_and_report_before_anything_ran(
    capsys: pytest.CaptureFixture[str], checkout: Path, tmp_path: Path
) -> None:
    """Protects looking before running: a cell explains itself, and a table of `--` is written, with nothing started."""
    pytest.importorskip("mlflow")
    facts = _json(capsys, "explain", "table5b:byol", "--json")
    assert [seed["state"] for seed in facts["seeds"]] == ["pending"] * 3
    assert facts["subject"]["objective"]["target"] == "ema"
    assert main(["report", "5b"]) == 0
    assert "Pending, 0 of 3 seeds finished: every cell." in capsys.readouterr().out
    built = checkout / "tables" / "built" / "laptop"
    assert sorted(path.name for path in built.iterdir()) == ["table5b.csv", "table5b.md", "table5b.tex"]
    assert not (tmp_path / "home" / "runs").exists()


def test_a_report_without_its_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    """Protects a report from a tracking server that is down: made from the records, with one warning."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    assert main(["report", "5b"]) == 0
    told = capsys.readouterr().err
    assert "nonsense://nowhere" in told
    assert "`harness sync` sends the rest later" in told
    assert (checkout / "tables" / "built" / "laptop" / "table5b.md").exists()


PLANS = """
import sys
from harness.cli import main
assert main(["plan", "table5b", "--profile", "imagenet"]) == 0
print("heavy:", sorted(sys.modules.keys() & {"torch", "ray", "mlflow", "ffcv", "pandas", "numba"}))
"""


def test_planning_is_quick(tmp_path: Path) -> None:
    """Protects planning on a login node: within five seconds, and without Torch, Ray or MLflow."""
    started = time.monotonic()
    done = _python(PLANS)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 5
    assert "24 pretrainings and 24 evaluations (0 saved by sharing); 0 finished, 48 to run" in done.stdout
    rows = [line.split()[0] for line in done.stdout.splitlines() if "missing" in line]
    assert (rows.count("pretrain"), rows.count("linear")) == (24, 24)
    assert "heavy: []" in done.stdout
    assert not (tmp_path / "home").exists(), "planning writes nothing"


BARE = """
import sys
import harness.launch.standalone
print(sorted(sys.modules.keys() & {"ray", "mlflow", "ffcv", "yaml", "pydantic", "rich", "pandas"}))
"""


def test_training_alone_needs_torch_alone() -> None:
    """Protects `harness train` on a GPU machine that has neither Ray, MLflow, FFCV nor PyYAML."""
    done = _python(BARE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects what a person types first."""
    from harness import __version__  # noqa: PLC0415

    for option, said in (("--version", __version__), ("--help", "explain")):
        with pytest.raises(SystemExit) as left:
            main([option])
        assert left.value.code == 0
        assert said in capsys.readouterr().out


def test_a_reader_may_leave_early() -> None:
    """`harness prepare | head -1` is no failure of the harness."""
    script = f"{sys.executable} -m harness prepare | head -1; exit ${{PIPESTATUS[0]}}"
    told = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("digits")
    assert not told.stderr
