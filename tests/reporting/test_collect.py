"""What a cell's runs add up to, where an evaluation is a choice among others."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.expand import Member, expand
from harness.reporting.collect import collect
from harness.reporting.provenance import provenance
from harness.tracking.record import Runs
from harness.tracking.results import Live
from harness.tracking.store import MemoryStore, Stored

EIGHT = expand("8", "laptop", cell="byol")


def member() -> Member:
    """BYOL's row of Table 8 at the laptop: a pretraining, two candidates, a choice."""
    (only,) = EIGHT.members
    return only


def store(**states: str) -> MemoryStore:
    """Results of the four runs, by what they are; others have not begun."""
    keys = dict(zip(("subject", "first", "second", "choice"), member().keys, strict=True))
    made = MemoryStore()
    for name, state in states.items():
        made.runs[keys[name]] = Stored(keys[name], "r", state, "", {"finetune.top1": 70.0, "finetune.valid.top1": 60.0})
    return made


@pytest.mark.parametrize(
    ("states", "state", "top1"),
    [
        ({}, "pending", None),
        ({"subject": "done", "first": "done"}, "pending", None),
        ({"subject": "done", "first": "failed", "second": "done"}, "failed", None),
        ({"subject": "done", "first": "diverged", "second": "done"}, "pending", None),
        ({"subject": "done", "first": "diverged", "second": "done", "choice": "done"}, "done", 70.0),
        ({"subject": "done", "first": "failed", "second": "done", "choice": "done"}, "done", 70.0),
        ({"subject": "diverged"}, "diverged", 10.0),
        ({"subject": "done", "first": "diverged", "second": "diverged", "choice": "diverged"}, "diverged", 10.0),
    ],
)
def test_a_choice_and_its_candidates(states: dict[str, str], state: str, top1: float | None) -> None:
    """Protects a cell from reading as pending for ever when a candidate failed; one that diverged is passed over."""
    (result,) = collect(EIGHT, store(**states))["byol"]
    assert result.state == state
    assert result.value("finetune.top1") == top1


def test_the_page_knows_every_candidate(tmp_path: Path) -> None:
    """Protects the page's counts and its dialog: candidates are runs of their own, named by the choice."""
    results = store(subject="done", first="done")
    said = provenance([], [EIGHT], Live(results, Runs(tmp_path)), {})
    assert set(said["runs"]) == set(member().keys) == set(EIGHT.runs())
    choice = said["runs"][member().evaluation_key]
    assert tuple(choice["candidates"]) == member().keys[1:3]
    kinds = [said["runs"][key]["kind"] for key in member().keys]
    assert kinds == ["pretrain", "finetune", "finetune", "choice"]
