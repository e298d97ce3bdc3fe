"""Verdicts: their error rates, against scipy, and by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.reporting.compare import (
    DEFAULT_MARGIN,
    HALF_RANGE_PRINTED,
    MOST_SEEDS,
    RANGE,
    ROUNDING,
    WIDEST_MARGIN,
    Verdict,
    half_width,
    verdict,
)
from harness.reporting.layout import PaperNumber

DRAWS = 1500

points = st.floats(0, 100)
seeds = st.lists(points, min_size=3, max_size=8)
half_ranges = st.none() | st.floats(0.3, 10)
papers = st.builds(PaperNumber, mean=points, half_range=half_ranges)
margins = st.floats(0.05, WIDEST_MARGIN)


def judged(ours: Sequence[float], paper: PaperNumber, margin: float | None = None) -> Verdict:
    found = verdict(ours, paper, margin)
    assert found is not None
    return found


def printed(values: np.ndarray) -> PaperNumber:
    """Three runs as the paper prints them: one decimal, and half the range where it is above 0.25."""
    half_range = float(np.ptp(values)) / 2
    shown = max(round(half_range, 1), 0.3) if half_range > HALF_RANGE_PRINTED else None
    return PaperNumber(mean=round(float(values.mean()), 1), half_range=shown)


def with_moments(mean: float, spread: float, count: int) -> list[float]:
    """So many values of exactly this mean and standard deviation."""
    shape = np.arange(count) - (count - 1) / 2
    return [float(value) for value in mean + spread * shape / shape.std(ddof=1)]


def rates(spread: float, of_paper: float, count: int) -> tuple[float, float, float]:
    """Shares of wrong `equivalent` and `different` at a true difference of the margin, and of `equivalent` at none."""
    draw = np.random.default_rng(20)
    wrong_equivalent = wrong_different = equivalent = 0
    for _ in range(DRAWS):
        paper, ours = printed(draw.normal(70, of_paper, 3)), draw.normal(70, spread, count)
        same = judged(ours.tolist(), paper)
        away = judged((ours + draw.choice([-1, 1]) * same.margin).tolist(), paper).name
        wrong_equivalent += away == "equivalent"
        wrong_different += away == "different"
        equivalent += same.name == "equivalent"
    found = wrong_equivalent / DRAWS, wrong_different / DRAWS, equivalent / DRAWS
    print(
        f"spread {spread}, paper's {of_paper}, {count} seeds: wrong {found[0]:.1%} {found[1]:.1%}, right {found[2]:.0%}"
    )
    return found


@pytest.mark.parametrize(
    ("spread", "count", "least_right"),
    [(0.05, 3, 0.99), (0.1, 3, 0.9), (0.1, 10, 0.99), (0.2, 3, 0.3), (0.2, 10, 0.75), (0.4, 5, 0.0), (1.0, 5, 0.0)],
)
def test_a_verdict_is_wrong_at_most_once_in_twenty(spread: float, count: int, least_right: float) -> None:
    """Protects the promise of both tests, with the paper's rounding and what it leaves unprinted, at equal spreads.

    A true difference of the margin is the worst case of both. 1.5 points are three standard errors of the simulation.
    """
    wrong_equivalent, wrong_different, right = rates(spread, spread, count)
    assert wrong_equivalent <= 0.065
    assert wrong_different <= 0.065
    assert right >= least_right


def test_what_it_costs_if_the_paper_s_runs_spread_more() -> None:
    """Protects docs/verdicts.md from promising too much: the assumption of equal spreads has a price."""
    wrong_equivalent, wrong_different, _ = rates(0.1, 0.25, 5)
    assert 0.05 < wrong_equivalent < 0.15
    assert 0.05 < wrong_different < 0.15


def test_the_range_of_three() -> None:
    """Protects the step from a half-range to a spread: E[max - min] of three unit normals is 3 / sqrt(pi)."""
    assert pytest.approx(3 / math.sqrt(math.pi), abs=1e-4) == RANGE


@pytest.mark.parametrize("count", [3, 5, 20])
def test_pooling_is_that_of_scipy(count: int) -> None:
    """Protects the formula: apart from rounding it is scipy's two-sample t with equal variances.

    Where the paper's own spread is above the pooled one, only its part of the variance is larger.
    """
    spread, half_range = 0.5, 0.4
    of_paper = 2 * half_range / RANGE
    found = stats.ttest_ind_from_stats(71.0, spread, count, 70.0, of_paper, 3, equal_var=True)
    half = stats.t.ppf(0.95, count + 1) * math.sqrt((1.0 / found.statistic) ** 2 + ROUNDING)
    assert half_width(spread, count, half_range) == pytest.approx(half, rel=1e-9)
    assert half_width(0.3, count, half_range) > stats.t.ppf(0.95, count + 1) * of_paper / math.sqrt(3)


def test_by_hand() -> None:
    """Protects the arithmetic where the paper prints no half-range.

    s = 0.2, n = 3: t(2) = 2.92 at 95 %, and 2.92 * sqrt(0.04 / 3 + 0.04 / 3 + 0.01 / 12) = 0.4843.
    """
    found = judged([72.3, 72.5, 72.7], PaperNumber(mean=72.4))
    assert (found.low, found.high) == pytest.approx((0.1 - 0.4843, 0.1 + 0.4843), abs=1e-3)
    assert found.name == "underpowered"
    # with four, t(3) = 2.353 and 2.353 * sqrt(0.04 / 4 + 0.04 / 3 + 0.01 / 12) = 0.3658: inside
    assert (found.more_seeds, found.text) == (1, "underpowered: 1 more seed")


@pytest.mark.parametrize(
    ("ours", "paper", "text"),
    [
        ([72.5, 72.6, 72.5], PaperNumber(mean=72.5), "equivalent"),
        ([0.1, 0.1, 0.1], PaperNumber(mean=0.3), "equivalent"),
        ([71.2, 71.3, 71.4], PaperNumber(mean=72.5), "different (-1.2)"),
        ([74.0, 74.1, 74.2], PaperNumber(mean=72.5), "different (+1.6)"),
        (
            [72.0, 72.5, 73.1],
            PaperNumber(mean=72.5),
            "underpowered: 7 more seeds",
        ),  # 1.833 * sqrt(0.303 / 10 + 0.0299) = 0.45
        ([72.5, 72.6, 73.5], PaperNumber(mean=72.4), "underpowered: more than 50 seeds"),
        ([20.0, 8.0, 35.0], PaperNumber(mean=15.8, half_range=13.4), "underpowered: more than 50 seeds"),
    ],
)
def test_what_a_table_says(ours: list[float], paper: PaperNumber, text: str) -> None:
    """Protects the words in a table's column, the sign among them."""
    assert judged(ours, paper).text == text


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_seeds_have_no_verdict(count: int) -> None:
    """Protects a cell from a verdict on a spread that nobody knows."""
    assert verdict([72.5] * count, PaperNumber(mean=72.5)) is None


@pytest.mark.parametrize(
    ("half_range", "margin"), [(None, 0.5), (0.3, 0.5), (0.5, 0.5), (0.7, 0.7), (1.0, 1.0), (13.4, 1.0)]
)
def test_the_declared_margin(half_range: float | None, margin: float) -> None:
    """Protects the margin from being chosen after the numbers: the paper's half-range alone widens it, up to 1."""
    assert judged([70.0, 70.1, 70.2], PaperNumber(mean=70.0, half_range=half_range)).margin == margin


@pytest.mark.parametrize("margin", [0.0, -0.5, 1.01, math.nan])
def test_a_margin_beyond_reason(margin: float) -> None:
    """Protects from a margin inside which everything is equivalent, or nothing can be."""
    with pytest.raises(ValueError, match="margin"):
        verdict([70.0, 70.1, 70.2], PaperNumber(mean=70.0), margin)


@given(seeds, papers, margins)
def test_one_of_three(ours: list[float], paper: PaperNumber, margin: float) -> None:
    """Protects the reader: the three words exclude each other, and the interval alone decides which it is."""
    found = judged(ours, paper, margin)
    inside = -margin <= found.low and found.high <= margin
    outside = found.low > margin or found.high < -margin
    assert not (inside and outside)
    if min(abs(abs(end) - margin) for end in (found.low, found.high)) > 1e-9:
        assert found.name == ("equivalent" if inside else "different" if outside else "underpowered")
    assert found.difference == pytest.approx(fmean(ours) - paper.mean, abs=1e-9)
    assert (found.more_seeds is None) or found.name == "underpowered"


@given(seeds, papers, margins, margins)
def test_a_wider_margin_is_more_lenient(ours: list[float], paper: PaperNumber, one: float, other: float) -> None:
    """Protects the margin's meaning: widening it never undoes `equivalent` and never makes `different`."""
    narrow, wide = (judged(ours, paper, margin) for margin in sorted((one, other)))
    order = ["different", "underpowered", "equivalent"]
    assert order.index(narrow.name) <= order.index(wide.name)


@given(st.lists(st.integers(0, 1000), min_size=3, max_size=8), st.integers(0, 1000), half_ranges)
def test_symmetry(ours: list[int], mean: int, half_range: float | None) -> None:
    """Protects from a verdict that favours one side: mirrored at the paper's number it says the same."""
    found = judged([value / 10 for value in ours], PaperNumber(mean=mean / 10, half_range=half_range))
    mirrored = [(2 * mean - value) / 10 for value in ours]
    other = judged(mirrored, PaperNumber(mean=mean / 10, half_range=half_range))
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low), abs=1e-9)
    if min(abs(abs(end) - found.margin) for end in (found.low, found.high)) > 1e-6:
        assert other.name == found.name


@given(st.floats(-3, 3), st.floats(0.01, 1.5), st.integers(3, 8), half_ranges)
def test_as_many_seeds_as_it_says(difference: float, spread: float, count: int, half_range: float | None) -> None:
    """Protects a person's GPUs: with so many more of the same mean and spread there is a decision, with one fewer none.

    At most MOST_SEEDS in all.
    """
    paper = PaperNumber(mean=70.0, half_range=half_range)

    def name(total: int) -> str:
        return judged(with_moments(70.0 + difference, spread, total), paper).name

    found = judged(with_moments(70.0 + difference, spread, count), paper)
    assert stdev(with_moments(70.0 + difference, spread, count)) == pytest.approx(spread)
    if found.name != "underpowered":
        return
    undecided = MOST_SEEDS if found.more_seeds is None else count + found.more_seeds - 1
    for total, wanted in ((undecided, True), (undecided + 1, False)):
        half = half_width(spread, total, half_range)
        if total <= MOST_SEEDS and abs(abs(abs(difference) - found.margin) - half) > 1e-6:  # not on the edge
            assert (name(total) == "underpowered") is wanted


@pytest.mark.parametrize(("spread", "more_seeds"), [(1.708, 47), (1.73, None)])
def test_fifty_seeds_are_the_most(spread: float, more_seeds: int | None) -> None:
    """Protects the cap: t(49) = 1.6766, and 1.6766 * sqrt(1.708^2 / 50 + 0.02909 + 0.00083) is 0.498, with 49 0.502."""
    assert judged(with_moments(70.0, spread, 3), PaperNumber(mean=70.0)).more_seeds == more_seeds


def test_the_default_margin_is_the_documented_one() -> None:
    """Protects docs/verdicts.md, which names both."""
    assert (DEFAULT_MARGIN, WIDEST_MARGIN) == (0.5, 1.0)


@pytest.mark.parametrize("half_range", [None, 0.3])
@pytest.mark.parametrize("wild", [2.4e154, 1e300])
def test_a_wild_result_breaks_no_report(wild: float, half_range: float | None) -> None:
    """Protects every other table from one number whose square no float holds: judged as a smaller one so far off."""
    paper = PaperNumber(mean=72.5, half_range=half_range)
    found, smaller = verdict([wild, 0.0, 0.0], paper), verdict([1e12, 0.0, 0.0], paper)
    assert found is not None
    assert smaller is not None
    assert (found.name, found.more_seeds) == (smaller.name, smaller.more_seeds)
