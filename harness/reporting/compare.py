"""Is our number the paper's? Two one-sided tests against a margin; docs/verdicts.md has the reasons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from scipy import special

from harness.reporting.layout import PaperNumber

DEFAULT_MARGIN = 0.5  # points
WIDEST_MARGIN = 1.0
LEVEL = 0.05  # of each of the two tests
FEWEST_SEEDS = 3
MOST_SEEDS = 50
PAPER_SEEDS = 3
HALF_RANGE_PRINTED = 0.25  # the paper prints a half-range above this alone
RANGE = 1.6926  # expected range of three draws from a unit normal
ROUNDING = 0.1**2 / 12  # variance of what the paper's one decimal cuts off


@dataclass(frozen=True)
class Verdict:
    """`low` and `high` are the 90 % interval of ours - paper. `more_seeds` are needed beside those there are.

    equivalent: the interval lies inside [-margin, margin]; different: outside; underpowered: it holds an end.
    more_seeds is None where there is a decision, and where MOST_SEEDS of ours would not bring one.
    """

    name: Literal["equivalent", "different", "underpowered"]
    margin: float
    more_seeds: int | None
    low: float
    high: float

    @property
    def difference(self) -> float:
        return (self.low + self.high) / 2

    @property
    def detail(self) -> str:
        """How different, or how many more seeds would tell."""
        if self.name == "equivalent":
            return ""
        if self.name == "different":
            return f"{self.difference:+.1f}"
        if self.more_seeds is None:
            return f"more than {MOST_SEEDS} seeds"
        return f"{self.more_seeds} more seed{'' if self.more_seeds == 1 else 's'}"

    @property
    def text(self) -> str:
        forms = {"equivalent": "{}", "different": "{} ({})", "underpowered": "{}: {}"}
        return forms[self.name].format(self.name, self.detail)


def verdict(ours: Sequence[float], paper: PaperNumber, margin: float | None = None) -> Verdict | None:
    """Both in points. None with fewer than three seeds of ours, whose spread says too little."""
    if margin is None:
        margin = declared_margin(paper)
    if not 0 < margin <= WIDEST_MARGIN:
        raise ValueError(f"a margin is above 0 and at most {WIDEST_MARGIN} points, not {margin}")
    seeds = len(ours)
    if seeds < FEWEST_SEEDS:
        return None
    difference, spread = fmean(ours) - paper.mean, stdev(ours)

    def decision(count: int) -> Literal["equivalent", "different", "underpowered"]:
        half = half_width(spread, count, paper.half_range)
        if abs(difference) + half <= margin:
            return "equivalent"
        return "different" if abs(difference) - half > margin else "underpowered"

    name, more = decision(seeds), None
    if name == "underpowered":  # as many as settle it if mean and spread stay what they are
        enough = (count for count in range(seeds + 1, MOST_SEEDS + 1) if decision(count) != "underpowered")
        total = next(enough, None)
        more = None if total is None else total - seeds
    half = half_width(spread, seeds, paper.half_range)
    return Verdict(name, margin, more, difference - half, difference + half)


def declared_margin(paper: PaperNumber) -> float:
    """0.5 points; where the paper's own runs lie further apart, their half-range, up to 1.0."""
    return min(max(DEFAULT_MARGIN, paper.half_range or 0.0), WIDEST_MARGIN)


def half_width(spread: float, seeds: int, half_range: float | None) -> float:
    """Half of the 90 % interval: t * sqrt(s^2 / n + s_paper^2 / 3 + rounding).

    s: one spread for both sides, as they run the same experiment: ours, pooled with 2 h / 1.6926 where the paper
    prints a half-range h. s_paper: the larger of the two; without h our own, but no more than h = 0.25 would give.
    """
    freedom = seeds - 1
    if half_range is None:
        of_paper = min(spread, 2 * HALF_RANGE_PRINTED / RANGE)
    else:
        printed = 2 * half_range / RANGE
        both = math.hypot(spread * math.sqrt(freedom), printed * math.sqrt(PAPER_SEEDS - 1))
        freedom += PAPER_SEEDS - 1
        spread = both / math.sqrt(freedom)
        of_paper = max(spread, printed)
    # no square of a result, however wild the result, is above what a float holds
    deviation = math.hypot(spread / math.sqrt(seeds), of_paper / math.sqrt(PAPER_SEEDS), math.sqrt(ROUNDING))
    return float(special.stdtrit(freedom, 1 - LEVEL)) * deviation
