"""`harness plan`: what it prints for one table and for many, what its JSON says, and that both say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.config.expand import expand
from harness.config.files import table_ids
from harness.config.identity import plain
from harness.launch.machines import machine_named
from harness.tracking.record import Record, Runs

IMAGENET = ("--profile", "imagenet")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HARNESS_HOME of the test's own."""
    monkeypatch.delenv("PROFILE", raising=False)
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def finished(home: Path) -> str:
    """The key of the first pretraining of Table 5b: it took 100 hours of an H100."""
    member = expand("5b", "imagenet").members[0]
    record = Record(
        key=member.subject_key,
        kind="pretrain",
        state="done",
        spec=plain(member.subject),
        commit="",
        environment={"device": "NVIDIA H100 80GB HBM3"},
        started_unix_s=1.0,
        cost={"worker_s": 360_000.0},
    )
    Runs(home / "runs").write(record)
    return member.subject_key


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines of a plan."""
    assert main(["plan", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON of a plan."""
    assert main(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_table_lists_its_runs_and_many_their_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """Nine hundred lines help nobody: many tables are a line each, unless every run is asked for."""
    one = printed(capsys, "5b", *IMAGENET)
    assert sum("missing" in line for line in one) == 48
    two = printed(capsys, "5b", "table5a", "5b", *IMAGENET)
    assert sum("missing" in line for line in two) == 0
    assert [line.split()[0] for line in two[1:3]] == ["5b", "5a"]
    assert two[1].split()[1:5] == ["8", "48", "0", "48"]
    both = printed(capsys, "5b", "5a", *IMAGENET, "--runs")
    assert sum("missing" in line for line in both) == 72, "78 wanted, of which the baseline's 6 are shared"
    assert both[-2:] == two[-2:]


def test_without_a_table_all_are_planned(capsys: pytest.CaptureFixture[str]) -> None:
    """`harness plan` is `harness plan tables`; the lines of the tables stand in the paper's order."""
    everything = printed(capsys, *IMAGENET)
    assert everything == printed(capsys, "tables", *IMAGENET)
    assert [line.split()[0] for line in everything[1 : len(table_ids()) + 1]] == table_ids()


def test_json_and_print_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Every figure that a person reads, a script reads."""
    arguments = ("5a", "5b", "14a", *IMAGENET, "--gpu", "h100")
    arguments += ("--gpus", "64", "--gpus-per-run", "8", "--budget-gpu-hours", "5000")
    data, lines = told(capsys, *arguments), printed(capsys, *arguments)
    for one, line in zip(data["tables"], lines[1:4], strict=True):
        counts = [one[name] for name in ("table", "cells", "runs", "done", "to_run")]
        costs = f"{one['gpu_hours']:.2f} {one['beyond_gpu_hours']:.2f} {one['disk_bytes'] / 1e9:.2f}"
        assert line.split() == [*map(str, counts), *costs.split()]
    bought = [[one["table"], str(one["to_run"]), f"{one['gpu_hours']:.2f}"] for one in data["budget"]["bought"]]
    left = [
        [one["table"], str(one["to_run"]), f"{one['gpu_hours']:.2f}", f"{one['short_gpu_hours']:.2f}"]
        for one in data["budget"]["left_out"]
    ]
    assert bought
    assert left
    first = next(number for number, line in enumerate(lines) if line.endswith("cheapest first:")) + 2
    assert [line.split()[:3] for line in lines[first : first + len(bought)]] == bought
    last = next(number for number, line in enumerate(lines) if line.startswith("left out")) + 2
    assert [line.split() for line in lines[last : last + len(left)]] == left
    wall = next(line for line in lines if line.startswith("64 x H100, 8 a run: "))
    assert f"{data['cluster']['wall_hours']:.2f} hours for {data['cluster']['runs']} runs, at most 8 at once" in wall
    assert f"{data['to_run']} to run: {data['gpu_hours']:.2f} H100 hours (assumed speed)" in lines[-1]
    assert f"({data['shared']} saved by sharing)" in lines[-1]


def test_json_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    """What the tables add one after the other is what all runs take, and a budget spends what it buys."""
    data = told(capsys, *IMAGENET, "--budget-gpu-hours", "30000", "--gpus", "64", "--gpus-per-run", "8")
    for unit in ("gpu_hours", "disk_bytes", "to_run"):
        assert sum(one[f"beyond_{unit}"] for one in data["tables"]) == pytest.approx(data[unit])
    assert sum(run["gpu_hours"] for run in data["runs"]) == pytest.approx(data["gpu_hours"])
    assert data["pretrainings"] + data["evaluations"] == len(data["runs"]) == data["done"] + data["to_run"]
    budget, cluster = data["budget"], data["cluster"]
    assert sum(one["gpu_hours"] for one in budget["bought"]) == pytest.approx(budget["spent_gpu_hours"])
    assert budget["spent_gpu_hours"] <= budget["gpu_hours"] == 30000
    assert budget["left_out"]
    rest = budget["gpu_hours"] - budget["spent_gpu_hours"]
    for one in budget["left_out"]:
        assert one["short_gpu_hours"] > 0
        assert one["short_gpu_hours"] == pytest.approx(one["gpu_hours"] - rest)
    assert cluster["runs"] == sum(one["to_run"] for one in budget["bought"])
    assert cluster["busy_fraction"] == pytest.approx(budget["spent_gpu_hours"] / 64 / cluster["wall_hours"])


def test_measured_where_it_was(capsys: pytest.CaptureFixture[str], finished: str) -> None:
    """A run on the machine that is asked for gives the hours of its like; of another machine nothing is known."""
    data = told(capsys, "5b", *IMAGENET, "--gpu", "h100")
    assert [(one["kind"], one["measured_runs"]) for one in data["speeds"]] == [("linear", 0), ("pretrain", 1)]
    again = [run["gpu_hours"] for run in data["runs"] if run["kind"] == "pretrain" and "table5b:byol" in run["cells"]]
    assert again == pytest.approx([100.0] * 3)
    assert [run["state"] for run in data["runs"] if run["key"] == finished] == ["done"]
    lines = printed(capsys, "5b", *IMAGENET, "--gpu", "h100")
    assert any(line.endswith("TFLOP/s, measured on 1 run") for line in lines)
    assert "H100 hours (measured on 1 run, in part assumed)" in lines[-1]
    other = told(capsys, "5b", *IMAGENET, "--gpu", "a100")
    assert {one["measured_runs"] for one in other["speeds"]} == {0}
    assert {one["tflops"] for one in other["speeds"]} == {machine_named("a100", "here").assumed_tflops}


def test_nothing_left_to_do(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    """A complete table costs nothing, whatever the budget, and no hours are called assumed."""
    expansion = expand("5b", "imagenet", 1, "byol")
    for key, spec in expansion.runs().items():
        facts: Any = {"key": key, "kind": spec.kind, "spec": plain(spec), "commit": "", "environment": {}}
        Runs(home / "runs").write(Record(**facts, state="done", started_unix_s=1.0))
    asked = ("5b", *IMAGENET, "--seeds", "1", "--cell", "byol", "--budget-gpu-hours", "0", "--gpus", "1")
    data = told(capsys, *asked)
    assert [one["table"] for one in data["budget"]["bought"]] == ["5b"]
    assert (data["to_run"], data["gpu_hours"], data["cluster"]["wall_hours"]) == (0, 0, 0)
    assert printed(capsys, *asked)[-1].endswith("2 finished, 0 to run: 0.00 A100 hours, 0.00 GB of disk")
