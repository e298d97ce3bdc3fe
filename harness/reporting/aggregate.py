"""From seeds to a cell's number: mean, half-range, and how complete it is."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from harness.config.expand import UNTRAINED, Expansion
from harness.config.schema import Imported
from harness.reporting.collect import SeedResult
from harness.reporting.layout import Layout, PaperNumber

Status = Literal["complete", "partial", "pending", "failed", "diverged"]


@dataclass(frozen=True)
class CellNumber:
    """One cell and metric. `half_range` is half of max - min over the seeds; None with fewer than two."""

    cell: str
    metric: str
    ours: float | None
    half_range: float | None
    seeds: int
    wanted: int
    paper: PaperNumber | None
    status: Status
    collapsed: int  # seeds whose diagnostics flag a collapse
    diverged: int  # seeds that diverged and count as chance
    run_keys: tuple[str, ...]

    @property
    def delta(self) -> float | None:
        return None if self.ours is None or self.paper is None else self.ours - self.paper.mean


def aggregate(cell: str, metric: str, results: list[SeedResult], paper: PaperNumber | None) -> CellNumber:
    values = [value for result in results if (value := result.value(metric)) is not None]
    return CellNumber(
        cell=cell,
        metric=metric,
        ours=fmean(values) if values else None,
        half_range=(max(values) - min(values)) / 2 if len(values) > 1 else None,
        seeds=len(values),
        wanted=len(results),
        paper=paper,
        status=_status([result.state for result in results]),
        collapsed=sum(result.collapsed for result in results),
        diverged=sum(result.state == "diverged" for result in results),
        run_keys=tuple(result.evaluation_key for result in results),
    )


def _status(states: list[str]) -> Status:
    if all(state == "done" for state in states):
        return "complete"
    if "failed" in states:
        return "failed"
    if "diverged" in states:
        return "diverged"
    return "partial" if "done" in states else "pending"


@dataclass(frozen=True)
class Table:
    """A table ready to be rendered. `numbers` by cell and metric; `untrained` where the profile evaluates it.

    imported: the cells whose encoder is from elsewhere.
    """

    layout: Layout
    profile: str
    stand_in: bool
    numbers: dict[tuple[str, str], CellNumber]
    untrained: dict[str, CellNumber]
    cells: tuple[str, ...]
    imported: tuple[str, ...]


def build_table(layout: Layout, expansion: Expansion, collected: dict[str, list[SeedResult]]) -> Table:
    numbers = {
        (cell, metric): aggregate(cell, metric, results, layout.paper.get(cell, {}).get(metric))
        for cell, results in collected.items()
        for metric in layout.metrics
    }
    stand_in = any(member.evaluation.data.stand_in for member in expansion.members)
    return Table(
        layout=layout,
        profile=expansion.profile,
        stand_in=stand_in,
        numbers={key: number for key, number in numbers.items() if key[0] != UNTRAINED},
        untrained={metric: number for (cell, metric), number in numbers.items() if cell == UNTRAINED},
        cells=tuple(cell for cell in expansion.cells if cell != UNTRAINED),
        imported=tuple(dict.fromkeys(m.cell for m in expansion.members if isinstance(m.subject, Imported))),
    )
