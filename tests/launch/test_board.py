"""The live view: what it says, and how often."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from harness.config.expand import Expansion
from harness.launch import board
from harness.launch.board import Board, Line, duration, lines, render, summary, title
from harness.launch.observer import Observer, Seen
from harness.launch.plan import Plan
from harness.tracking.record import Runs
from harness.training.loop import Progress

Planning = Callable[..., Plan]


def seen(done: int, total: int, rate: float) -> Seen:
    """A run's progress file."""
    return Seen(done=done, total=total, updates_per_s=rate, spent_s=65.0, time_unix_s=0.0)


def test_share_and_time_left_of_a_line(planned: Planning, two_cells: Expansion) -> None:
    """75 % done at 2 updates a second leaves 50 seconds of 400 updates."""
    run = planned(two_cells).runs[0]
    line = Line(run, "interrupted", seen(300, 400, 2.0))
    assert (line.share, line.eta_s) == (0.75, 50.0)
    assert Line(run, "done", None).share == 1.0
    assert Line(run, "diverged", seen(3, 400, 1.0)).share == 1.0
    assert (Line(run, "missing", None).share, Line(run, "missing", None).eta_s) == (0.0, None)
    assert Line(run, "interrupted", seen(0, 400, 0.0)).eta_s is None


def test_durations() -> None:
    """Minutes and seconds, hours where there are any, a dash where nothing is known."""
    assert [duration(s) for s in (None, 0, 59.6, 61, 3661)] == ["-", "0:00", "1:00", "1:01", "1:01:01"]


def test_summary_counts_what_ended(planned: Planning, two_cells: Expansion) -> None:
    """Diverged runs are finished; failures are said only where there are any."""
    runs = planned(two_cells).runs
    states = ("done", "diverged", "interrupted", "missing", "missing")
    mixed = [Line(run, state, None) for run, state in zip(runs, states, strict=True)]
    assert summary(mixed, 61, None) == "2 of 5 runs finished; 1:01 gone, about - to go"
    mixed[3] = Line(runs[3], "failed", None)
    assert summary(mixed, 61, 120) == "2 of 5 runs finished, 1 failed; 1:01 gone, about 2:00 to go"


def test_the_screen_shows_what_runs(planned: Planning, two_cells: Expansion) -> None:
    """A line for each running run with progress, speed and time left; none for those that wait."""
    runs = planned(two_cells).runs
    shown = [Line(runs[0], "running", seen(300, 400, 2.0)), Line(runs[1], "missing", None)]
    console = Console(file=io.StringIO(), width=100)
    console.print(render(shown, 10, 20))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert title(runs[0]) in text
    assert title(runs[1]) not in text
    for part in ("75%", "2.0", "0:50", "0 of 2 runs finished"):
        assert part in text


def test_title_counts_the_other_cells(planned: Planning, two_cells: Expansion) -> None:
    """A shared run names one cell and how many more want it."""
    from dataclasses import replace  # noqa: PLC0415

    run = planned(two_cells).runs[0]
    assert title(run) == "pretrain table5b:byol seed 0"
    assert title(replace(run, cells=("table5b:byol", "table21:byol"))) == "pretrain table5b:byol (+1) seed 0"


def test_time_left_weighs_runs_by_their_cost(planned: Planning, two_cells: Expansion, runs: Runs) -> None:
    """Half of one pretraining done in 60 s: what is left follows from planned costs, not from the number of runs."""
    plan = planned(two_cells)
    watching = Board(plan, runs, lambda _: None)
    hours = [run.cost.device_hours for run in plan.runs]
    shown = [Line(plan.runs[0], "interrupted", seen(1, 2, 1.0)), *(Line(run, "missing", None) for run in plan.runs[1:])]
    expected = (sum(hours) - hours[0] / 2) / (hours[0] / 2) * 60
    assert watching._left_s(shown, 60.0) == pytest.approx(expected)
    assert watching._left_s([Line(run, "missing", None) for run in plan.runs], 60.0) is None


def test_without_a_terminal_each_end_is_said_once(
    planned: Planning, two_cells: Expansion, runs: Runs, write: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line when a run ends, also for the last one of a sweep, and none for what was finished before."""
    monkeypatch.setattr(board, "POLL_SECONDS", 0.02)
    write(two_cells.members[0].subject, "done")
    said: list[str] = []
    with Board(planned(two_cells), runs, said.append, Console(file=io.StringIO())):
        folder = runs.folder(two_cells.members[1].subject_key)
        folder.mkdir(parents=True)
        Observer(folder, lambda: None).progress(Progress(done=1, total=1, seconds=1.0, resumed_at=0))
        write(two_cells.members[1].subject, "done")
        time.sleep(0.2)
        monkeypatch.setattr(board, "POLL_SECONDS", 60)
        time.sleep(0.1)
        write(two_cells.members[0].evaluation, "diverged")
    assert said == ["done: pretrain table5b:simclr seed 0 in 0:00", "diverged: linear table5b:byol seed 0"]


def test_lines_read_the_folder(planned: Planning, two_cells: Expansion, runs: Runs, write: Callable[..., Any]) -> None:
    """The board sees runs as they are on disk, whoever runs them."""
    plan = planned(two_cells)
    write(plan.runs[0].spec, "running")
    Observer(runs.folder(plan.runs[0].key), lambda: None).progress(Progress(done=1, total=1, seconds=1.0, resumed_at=0))
    found = lines(plan, runs)
    assert [line.status for line in found] == ["interrupted", *["missing"] * 4]
    assert found[0].seen is not None
