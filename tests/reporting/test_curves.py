"""From reported points to curves over epochs."""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import fmean

import pytest
from generated_results import Generated, curve_rule, done, steps
from hypothesis import given
from hypothesis import strategies as st

from harness.config.datasets import DATASETS
from harness.config.expand import expand
from harness.config.schema import Pretrain
from harness.reporting.curves import Curve, Curves

LOSS = "pretrain.loss"


def _of(state=done) -> tuple[Generated, Curves]:  # type: ignore[no-untyped-def]
    expansions = [expand("20", "laptop")]
    results = Generated(expansions, state)
    return results, Curves(results, expansions)


def test_every_number_stands_at_its_epoch() -> None:
    """Protects the axis: update k is epoch k * batch / images, and the last one is the schedule's last epoch."""
    _, curves = _of()
    spec = next(m.subject for m in expand("20", "laptop").members if m.cell == "none")
    assert isinstance(spec, Pretrain)
    images = DATASETS["digits"].train_images + DATASETS["digits"].valid_images
    line = curves.curve("20", "none", LOSS).lines[2]
    wanted = [float(Fraction(step * spec.schedule.update_batch, images)) for step in steps(spec)]
    assert [epoch for epoch, _ in line] == pytest.approx(wanted)
    assert [value for _, value in line] == [curve_rule("none", "loss", 2, report) for report in range(len(wanted))]
    assert curves.epochs("20", "none") == spec.schedule.epochs
    assert line[-1][0] == pytest.approx(spec.schedule.epochs, abs=spec.schedule.update_batch / images)


LINES = st.dictionaries(
    st.integers(0, 4),
    st.dictionaries(st.integers(0, 12).map(float), st.floats(-1e6, 1e6), min_size=1).map(
        lambda line: tuple(sorted(line.items()))
    ),
    min_size=1,
)


@given(lines=LINES)
def test_the_mean_is_of_all_seeds_everywhere(lines: dict[int, tuple[tuple[float, float], ...]]) -> None:
    """Protects the mean from jumps: against brute force, epoch by epoch, it counts every seed or is not drawn."""
    curve = Curve(lines, dict.fromkeys(lines, "done"), {})
    wanted = {}
    for epoch in {epoch for line in lines.values() for epoch, _ in line}:
        seeds = [value for line in lines.values() for at, value in line if at == epoch]
        if len(seeds) == len(lines):
            wanted[epoch] = (fmean(seeds), min(seeds), max(seeds))
    assert {one.epoch: (one.mean, one.low, one.high) for one in curve.spread()} == wanted
    assert [one.epoch for one in curve.spread()] == sorted(wanted)


@given(lines=LINES)
def test_no_seed_is_cut_short(lines: dict[int, tuple[tuple[float, float], ...]]) -> None:
    """Protects what a seed reported after the last common epoch: it is drawn by itself, to its end."""
    curve = Curve(lines, dict.fromkeys(lines, "done"), {})
    common = [one.epoch for one in curve.spread()]
    for seed, line in lines.items():
        if not common or line[-1][0] > common[-1]:
            assert curve.beyond()[seed] == tuple(point for point in line if not common or point[0] >= common[-1])
        else:
            assert seed not in curve.beyond()


def test_one_seed_is_its_own_mean() -> None:
    """Protects a single seed from a band, which would be a claim."""
    curve = Curve({0: ((1.0, 5.0), (2.0, 6.0))}, {0: "done"}, {0: "k"})
    assert [(one.mean, one.low, one.high) for one in curve.spread()] == [(5.0, 5.0, 5.0), (6.0, 6.0, 6.0)]
    assert not curve.beyond()


def test_a_run_that_is_not_stored_has_no_curve() -> None:
    """Protects the figure from a spool that reports do not know of; the seeds that are there are drawn."""
    _, curves = _of(lambda _cell, seed: "pending" if seed == 1 else "done")
    curve = curves.curve("20", "l2", LOSS)
    assert sorted(curve.lines) == [0, 2]
    assert curve.states == {0: "done", 1: "pending", 2: "done"}
    assert not curve.finished


@pytest.mark.parametrize("told", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_left_out(told: float) -> None:
    """Protects the axes from a loss that blew up: the point goes, the rest of the line stays."""
    results, curves = _of()
    key = curves.curve("20", "l2", LOSS).run_keys[0]
    results.curve(key)[3].metrics[LOSS] = told
    assert len(curves.curve("20", "l2", LOSS).lines[0]) == len(results.curve(key)) - 1


def test_what_is_not_pretrained_has_no_curve() -> None:
    """Protects from a crash at an untrained row, a table that is not expanded, and a metric that was not reported."""
    expansion = expand("raft1", "laptop")
    curves = Curves(Generated([expansion]), [expansion])
    assert curves.curve("raft1", "rand_baseline", LOSS) == Curve({}, {}, {})
    assert curves.epochs("raft1", "rand_baseline") is None
    assert curves.curve("20", "l2", LOSS).lines == {}
    assert curves.curve("raft1", "byol", "pretrain.unheard").lines == {}
    assert curves.curve("raft1", "byol", "pretrain.unheard").finished


def test_a_run_is_read_once() -> None:
    """Protects the time of a report: three metrics of a cell are one look at its points."""
    results, curves = _of()
    for metric in (LOSS, "pretrain.align", "pretrain.uniform"):
        curves.curve("20", "l2", metric)
    assert len(results.read) == len(set(results.read)) == 3
