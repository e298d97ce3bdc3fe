"""From the points that pretrainings report on their way to curves over epochs: their mean and band over the seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from harness.config.datasets import DATASETS
from harness.config.expand import Expansion
from harness.config.schema import Pretrain
from harness.tracking.record import FINISHED
from harness.tracking.results import Results
from harness.tracking.spool import Point

Line = tuple[tuple[float, float], ...]  # (epoch, value), by epoch


@dataclass(frozen=True)
class Spread:
    """The seeds at one epoch."""

    epoch: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A metric of one cell's pretrainings. `lines` by seed, of those that have reported it.

    states: by seed, of every run that is wanted; `pending` where there is none yet.
    """

    lines: Mapping[int, Line]
    states: Mapping[int, str]
    run_keys: Mapping[int, str]

    @property
    def finished(self) -> bool:
        return bool(self.states) and all(state in FINISHED for state in self.states.values())

    def spread(self) -> list[Spread]:
        """At the epochs that every line has: where one more or less is counted, a mean jumps."""
        if not self.lines:
            return []
        lines = [dict(line) for line in self.lines.values()]
        common = sorted(set.intersection(*(set(line) for line in lines)))
        seeds = [[line[epoch] for line in lines] for epoch in common]
        return [Spread(epoch, fmean(at), min(at), max(at)) for epoch, at in zip(common, seeds, strict=True)]

    def beyond(self) -> dict[int, Line]:
        """By seed, a line from the last common epoch on, where it goes on: others have yet to follow."""
        last = max((one.epoch for one in self.spread()), default=-math.inf)
        rest = {seed: tuple(point for point in line if point[0] >= last) for seed, line in self.lines.items()}
        return {seed: line for seed, line in rest.items() if line[-1][0] > last}


class Curves:
    """The curves of tables at one profile. The points of each run are read once."""

    def __init__(self, results: Results, expansions: Iterable[Expansion]) -> None:
        self._results = results
        self._expansions = {expansion.table: expansion for expansion in expansions}
        self._read: dict[str, list[Point]] = {}

    def curve(self, table: str, cell: str, metric: str) -> Curve:
        """What the pretrainings of a cell report, as `pretrain.loss`; empty where none is wanted here."""
        wanted = self._pretrainings(table, cell)
        stored = self._results.find([key for _, key in wanted.values()])
        lines = {seed: self._line(key, spec, metric) for seed, (spec, key) in wanted.items() if key in stored}
        return Curve(
            lines={seed: line for seed, line in lines.items() if line},
            states={seed: stored[key].state if key in stored else "pending" for seed, (_, key) in wanted.items()},
            run_keys={seed: key for seed, (_, key) in wanted.items()},
        )

    def epochs(self, table: str, cell: str) -> int | None:
        """How long a cell is pretrained at this profile; None where it is not."""
        return max((spec.schedule.epochs for spec, _ in self._pretrainings(table, cell).values()), default=None)

    def _pretrainings(self, table: str, cell: str) -> dict[int, tuple[Pretrain, str]]:
        """By seed: the spec and its key."""
        if table not in self._expansions:
            return {}
        return {
            member.seed: (member.subject, member.subject_key)
            for member in self._expansions[table].members
            if member.cell == cell and isinstance(member.subject, Pretrain)
        }

    def _line(self, key: str, spec: Pretrain, metric: str) -> Line:
        """Update k stands at epoch k * update_batch / images. A number that is not finite has no place on an axis."""
        if key not in self._read:
            self._read[key] = self._results.curve(key)
        images = DATASETS[spec.data.dataset].images(spec.data.split)
        known = {point.step: point.metrics[metric] for point in self._read[key] if metric in point.metrics}
        epochs = ((step * spec.schedule.update_batch / images, value) for step, value in sorted(known.items()))
        return tuple((epoch, value) for epoch, value in epochs if math.isfinite(value))
