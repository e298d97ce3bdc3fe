"""From seeds to a number and its status."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.expand import declared_cells, expand
from harness.reporting.aggregate import Table, aggregate, build_table
from harness.reporting.collect import SeedResult, collect
from harness.reporting.footer import footer
from harness.reporting.layout import PaperNumber, layout_ids, read_layout
from harness.reporting.render import ours_text
from harness.tracking.store import MemoryStore, Stored

Build = Callable[..., Table]
TOP1 = "linear_imagenet.top1"


def _seed(subject: str | None, evaluation: str | None, value: float | None = None, seed: int = 0) -> SeedResult:
    def stored(state: str | None, results: dict[str, float]) -> Stored | None:
        return None if state is None else Stored("k", "r", state, "", results)

    return SeedResult(
        seed, "s", "e", stored(subject, {}), stored(evaluation, {} if value is None else {TOP1: value}), classes=2
    )


def test_mean_and_half_range() -> None:
    """Protects the paper's convention: the mean of the seeds, and half of largest minus smallest."""
    number = aggregate(
        "c", TOP1, [_seed("done", "done", v, s) for s, v in enumerate((70.0, 71.0, 70.2))], PaperNumber(mean=70.9)
    )
    assert number.ours == pytest.approx(70.4)
    assert number.half_range == pytest.approx(0.5)
    assert number.delta == pytest.approx(-0.5)
    assert (number.seeds, number.wanted, number.status) == (3, 3, "complete")
    assert number.values == {0: 70.0, 1: 71.0, 2: 70.2}


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
    number = aggregate(
        "c", TOP1, [_seed(s, e, 50.0 if e == "done" else None, n) for n, (s, e) in enumerate(seeds)], None
    )
    assert (number.status, number.seeds, number.wanted) == (status, finished, len(seeds))
    assert number.ours == (50.0 if finished else None)


def test_a_number_of_a_failed_run_is_none() -> None:
    """Protects a table from the number that an evaluation left before it failed."""
    assert aggregate("c", TOP1, [_seed("done", "failed", 50.0)], None).ours is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_no_finite_number_is_not_averaged(value: float | None) -> None:
    """Protects a mean from a seed that is no number, and the reader from a cell that only looks complete."""
    number = aggregate("c", TOP1, [_seed("done", "done", v, s) for s, v in enumerate((70.0, value, 71.0))], None)
    assert (number.ours, number.half_range, number.values) == (70.5, 0.5, {0: 70.0, 2: 71.0})
    assert (number.status, number.seeds, number.wanted, number.not_finite) == ("failed", 2, 3, 1)
    alone = aggregate("c", TOP1, [_seed("done", "done", value)], PaperNumber(mean=72.5))
    assert (alone.ours, alone.half_range, alone.delta, alone.status, alone.not_finite) == (
        None,
        None,
        None,
        "failed",
        1,
    )


STATES = st.sampled_from([None, "running", "done", "failed", "diverged", "retired"])
VALUES = st.none() | st.floats(0, 100) | st.sampled_from([math.nan, math.inf, -math.inf])


@given(st.lists(st.tuples(STATES, STATES, VALUES), min_size=1, max_size=6))
def test_against_brute_force(told: list[tuple[str | None, str | None, float | None]]) -> None:
    """Protects the number of a cell whatever became of its seeds: it is the mean of what counts, told another way."""
    number = aggregate("c", TOP1, [_seed(s, e, v, n) for n, (s, e, v) in enumerate(told)], None)
    counted, finished = {}, True
    for seed, (subject, evaluation, value) in enumerate(told):
        worst = next((state for state in (evaluation, subject) if state in ("failed", "diverged")), evaluation)
        if worst == "diverged":
            counted[seed] = 50.0  # chance of two classes
        elif worst == "done" and value is not None and np.isfinite(value):
            counted[seed] = value
        finished = finished and worst == "done" and seed in counted
    assert number.values == counted
    assert (number.seeds, number.wanted) == (len(counted), len(told))
    assert (number.status == "complete") == finished
    assert number.ours == (pytest.approx(np.mean(list(counted.values()))) if counted else None)
    spread = pytest.approx(np.ptp(list(counted.values())) / 2) if len(counted) > 1 else None
    assert number.half_range == spread


def test_a_verdict_needs_the_papers_scale(table: Build) -> None:
    """Protects the paper from being contradicted by another scale, by stand-in data, or by an unfinished cell."""
    found = {cell: number.verdict for (cell, _), number in table().numbers.items()}
    assert found["byol"] is not None
    assert (found["byol"].name, found["nopred_ema_beta1"]) == ("equivalent", None)
    assert not any(number.verdict for number in table("laptop").numbers.values())
    small = table("cifar10").numbers["byol", TOP1]
    assert (small.verdict, small.at_paper_scale, small.stand_in) == (None, False, False)
    laptop = table("laptop").numbers["byol", TOP1]
    assert (laptop.at_paper_scale, laptop.stand_in) == (False, True)


def test_every_printed_cell_has_a_number(example: Build) -> None:
    """Protects what reads tables by cell and metric: quoted and described cells have numbers too."""
    for name in layout_ids():
        made = example(name, "partial")
        for cell, told in made.layout.paper.items():
            assert {metric: made.numbers[cell, metric].paper for metric in told} == told
    statuses = {cell: number.status for (cell, _), number in example("1a", "none").numbers.items()}
    assert (statuses["simclr"], statuses["byol"]) == ("quoted", "pending")
    six = example("6", "none").numbers["flip", "views.t"]
    assert (six.ours, six.delta, six.status, six.wanted) == (0.5, 0.0, "complete", 0)


def test_a_diverged_encoder_has_no_map() -> None:
    """Protects Table 3 where a subject diverged: chance is a number in top-1, and none in mAP, which shows its mark."""
    layout = read_layout("3", declared_cells("3"))
    for cell, metric, chance in (
        ("linear_byol_voc2007", "transfer.map11", None),
        ("finetune_byol_pets", "transfer.mean_per_class", 100 / 37),
    ):
        expansion, store = expand("3", "imagenet", cell=cell), MemoryStore()
        subject = expansion.members[0].subject_key
        store.runs[subject] = Stored(subject, "r", "diverged", "")
        made = build_table(layout, expansion, collect(expansion, store))
        number = made.numbers[cell, metric]
        assert (number.ours, number.status, number.diverged) == (chance, "diverged", 1)
        assert ours_text(number).endswith("‡")
        assert any(line.startswith("‡ diverged") for line in footer(made))


def test_an_encoder_that_was_not_trained_has_no_losses(example: Build) -> None:
    """Protects RAFT's tables from a cell that is pending for ever: a random encoder never had a pretraining."""
    numbers = example("raft1", "complete").numbers
    assert numbers["rand_baseline", "pretrain.align"].status == "quoted"
    assert numbers["rand_baseline", "linear_raft.top1"].status == "complete"
    assert {number.status for number in numbers.values()} == {"complete", "quoted"}


def test_runs_of_another_profile_are_not_ours(table: Build) -> None:
    """Protects the paper's scale from numbers made at a smaller one: keys differ, so that nothing is found."""
    small, paper = expand("5b", "cifar10"), expand("5b", "imagenet")
    store = MemoryStore()
    for member in small.members:
        store.runs[member.evaluation_key] = Stored(member.evaluation_key, "r", "done", "", {TOP1: 50.0})
    made = build_table(read_layout("5b", declared_cells("5b")), paper, collect(paper, store))
    assert {number.status for number in made.numbers.values()} == {"pending"}


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
