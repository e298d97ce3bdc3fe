"""From seeds to a number and its status."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.config.expand import expand
from harness.reporting.aggregate import Table, aggregate
from harness.reporting.collect import SeedResult, collect
from harness.reporting.layout import PaperNumber
from harness.tracking.store import MemoryStore, Stored

Build = Callable[..., Table]
TOP1 = "linear_imagenet.top1"


def _seed(subject: str | None, evaluation: str | None, value: float | None = None) -> SeedResult:
    def stored(state: str | None, results: dict[str, float]) -> Stored | None:
        return None if state is None else Stored("k", "r", state, "", results)

    return SeedResult(
        0, "s", "e", stored(subject, {}), stored(evaluation, {} if value is None else {TOP1: value}), classes=2
    )


def test_mean_and_half_range() -> None:
    """Protects the paper's convention: the mean of the seeds, and half of largest minus smallest."""
    number = aggregate("c", TOP1, [_seed("done", "done", v) for v in (70.0, 71.0, 70.2)], PaperNumber(mean=70.9))
    assert number.ours == pytest.approx(70.4)
    assert number.half_range == pytest.approx(0.5)
    assert number.delta == pytest.approx(-0.5)
    assert (number.seeds, number.wanted, number.status) == (3, 3, "complete")


def test_one_seed_has_no_range() -> None:
    """Protects a single seed from a spread of 0, which would be a claim."""
    number = aggregate("c", TOP1, [_seed("done", "done", 70.0)], None)
    assert (number.ours, number.half_range, number.delta, number.status) == (70.0, None, None, "complete")


@pytest.mark.parametrize(
    ("seeds", "status", "finished"),
    [
        ([(None, None)] * 3, "pending", 0),
        ([("running", None), (None, None)], "pending", 0),
        ([("done", "running"), (None, None)], "pending", 0),
        ([("retired", None), ("done", "retired")], "pending", 0),
        ([("done", "done"), ("done", None)], "partial", 1),
        ([("done", "done"), ("failed", None)], "failed", 1),
        ([("done", "done"), ("done", "failed")], "failed", 1),
        ([("diverged", None), ("failed", None)], "failed", 1),
        ([("done", "done"), ("diverged", None)], "diverged", 2),
        ([("done", "diverged"), (None, None)], "diverged", 1),
        ([("done", "done"), (None, "done")], "complete", 2),
    ],
)
def test_status(seeds: list[tuple[str | None, str | None]], status: str, finished: int) -> None:
    """Protects the reader: what is unfinished, failed or diverged never reads as complete.

    Unfinished and failed seeds count no number; a diverged one counts chance, which is 50 for two classes.
    """
    number = aggregate("c", TOP1, [_seed(s, e, 50.0 if e == "done" else None) for s, e in seeds], None)
    assert (number.status, number.seeds, number.wanted) == (status, finished, len(seeds))
    assert number.ours == (50.0 if finished else None)


def test_a_number_of_a_failed_run_is_none() -> None:
    """Protects a table from the number that an evaluation left before it failed."""
    assert aggregate("c", TOP1, [_seed("done", "failed", 50.0)], None).ours is None


def test_collect_looks_up_every_cell_in_order() -> None:
    """Protects the way from keys to cells: each seed meets the runs of its own keys."""
    expansion = expand("5b", "laptop", 2)
    store = MemoryStore()
    wanted = expansion.members[3]
    store.runs[wanted.evaluation_key] = Stored(wanted.evaluation_key, "r", "done", "", {TOP1: 50.0})
    cells = collect(expansion, store)
    assert tuple(cells) == expansion.cells
    found = [(cell, one.seed) for cell, seeds in cells.items() for one in seeds if one.value(TOP1) is not None]
    assert found == [(wanted.cell, wanted.seed)]


def test_the_untrained_encoder_is_no_row(table: Build) -> None:
    """Protects the shape of the table: the extra cell goes to the footer alone."""
    laptop = table("laptop")
    assert laptop.stand_in
    assert laptop.untrained[TOP1].ours == 13.0
    assert "untrained" not in laptop.cells
    assert not [cell for cell, _ in laptop.numbers if cell == "untrained"]
    assert not table("imagenet").untrained
