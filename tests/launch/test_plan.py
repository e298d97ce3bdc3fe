"""The plan: what records say of every run, what is shared, and how a person finds a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.config.expand import Expansion, expand
from harness.launch.plan import Plan
from harness.tracking.record import Record

Planning = Callable[..., Plan]
Writing = Callable[..., Record]


def statuses(plan: Plan, cell: str) -> tuple[str, ...]:
    """Of a cell's runs, subject before evaluation."""
    return tuple(run.status for run in plan.runs if f"table5b:{cell}" in run.cells)


def test_nothing_has_run(planned: Planning, two_cells: Expansion) -> None:
    """Without records everything is missing, subjects come first, and the untrained encoder is no run."""
    plan = planned(two_cells)
    assert plan.missing == plan.runs
    assert [run.kind for run in plan.runs] == ["pretrain"] * 2 + ["linear"] * 3
    assert statuses(plan, "untrained") == ("missing",)


@pytest.mark.parametrize(
    ("state", "status", "finished"),
    [
        ("running", "interrupted", False),
        ("failed", "failed", False),
        ("retired", "missing", False),
        ("done", "done", True),
        ("diverged", "diverged", True),
    ],
)
def test_status_follows_the_record(
    planned: Planning, write: Writing, two_cells: Expansion, state: str, status: str, finished: bool
) -> None:
    """What has ended well is not run again; what was interrupted, failed or was retired is."""
    write(two_cells.members[0].evaluation, state)
    run = next(run for run in planned(two_cells).runs if run.key == two_cells.members[0].evaluation_key)
    assert (run.status, run.finished) == (status, finished)
    assert (run in planned(two_cells).missing) is not finished


def test_what_evaluates_a_diverged_run_has_diverged(planned: Planning, write: Writing, two_cells: Expansion) -> None:
    """A diverged run leaves no encoder: its evaluation is finished too, or every sweep would try it again and fail."""
    write(two_cells.members[0].subject, "diverged")
    plan = planned(two_cells)
    assert statuses(plan, "byol") == ("diverged", "diverged")
    assert statuses(plan, "simclr") == ("missing", "missing")


def test_a_choice_has_diverged_with_its_subject(planned: Planning, write: Writing) -> None:
    """Of a diverged subject nothing is fine-tuned; a candidate that diverged leaves the choice to be made."""
    cell = expand("8", "laptop", seeds=1, cell="byol")
    assert [run.kind for run in planned(cell).runs] == ["pretrain", "finetune", "finetune", "choice"]
    member = cell.members[0]
    write(member.subject, "done")
    write(member.candidates[0], "diverged")
    assert [run.status for run in planned(cell).runs] == ["done", "diverged", "missing", "missing"]
    write(member.subject, "diverged")
    assert [run.status for run in planned(cell).runs] == ["diverged"] * 4


def test_a_run_two_tables_want_is_run_once(planned: Planning, two_cells: Expansion) -> None:
    """A second table with the same cells adds no run, and is counted as sharing."""
    members = tuple(replace(member, table="21") for member in two_cells.members)
    other = replace(two_cells, table="21", members=members)
    alone, both = planned(two_cells), planned(two_cells, other)
    assert [run.key for run in both.runs] == [run.key for run in alone.runs]
    assert (alone.wanted, both.wanted) == (5, 10)
    assert both.runs[0].cells == ("table5b:byol", "table21:byol")


def test_labels_say_where_a_run_stands(planned: Planning, two_cells: Expansion) -> None:
    """MLflow's tags name each table and all of its cells that want the run."""
    again = replace(two_cells.members[0], cell="baseline")
    plan = planned(replace(two_cells, members=(*two_cells.members, again)))
    assert plan.labels()[again.subject_key] == {
        "harness.profile": "laptop",
        "table.5b": "byol,baseline",
    }


def test_costs_and_seeds_come_with_every_run(planned: Planning, two_cells: Expansion) -> None:
    """Each run has its own seed and a cost above nothing."""
    shifted: Any = tuple(replace(member, seed=member.seed + 7) for member in two_cells.members)
    plan = planned(replace(two_cells, members=shifted))
    assert {run.seed for run in plan.runs} == {7}
    assert all(run.cost.flops > 0 and run.cost.device_hours > 0 and run.cost.disk_bytes > 0 for run in plan.runs)


def test_a_plan_without_some_data(planned: Planning, write: Writing) -> None:
    """What waits for data goes, finished runs on it and all others stay, and what sharing saves is what it was."""
    table = expand("3", "laptop", 1)
    cell = next(member for member in table.members if member.cell == "linear_byol_dtd")
    write(cell.evaluation, "done")
    whole = planned(table)
    rest = whole.without({"dtd-stand-in", "pets-stand-in"})
    gone = [run for run in whole.runs if run not in rest.runs]
    assert {run.dataset for run in gone} == {"dtd-stand-in", "pets-stand-in"}
    assert [run.key for run in rest.runs if run.dataset in ("dtd-stand-in", "pets-stand-in")] == [cell.evaluation_key]
    assert len(gone) == 2 * (2 + 3 * 3) - 1, "regressions, candidates and choices of two columns, but for what is done"
    assert rest.shared == whole.shared
