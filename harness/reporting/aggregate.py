"""From seeds to a cell's number: mean, half-range, and how complete it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from harness.config.expand import UNTRAINED, Expansion, Member
from harness.config.metrics import METRICS
from harness.config.schema import Imported, Pretrain, RandomEncoder
from harness.reporting.collect import PRETRAINED, SeedResult
from harness.reporting.described import COUNTED, described
from harness.reporting.layout import Layout, PaperNumber, cells_of
from harness.reporting.prepared import Prepared

if TYPE_CHECKING:
    from harness.reporting.compare import Verdict

Status = Literal["complete", "partial", "pending", "failed", "diverged", "quoted"]


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
    values: Mapping[int, float] = field(default_factory=dict)  # by seed
    not_finite: int = 0  # seeds that finished without a finite number, and count as failed
    at_paper_scale: bool = False
    stand_in: bool = False
    verdict: Verdict | None = None  # where data and scale are the paper's and every seed has a number
    commands: tuple[str, ...] = ()  # that prepare the data it waits for

    @property
    def delta(self) -> float | None:
        return None if self.ours is None or self.paper is None else self.ours - self.paper.mean


def aggregate(cell: str, metric: str, results: list[SeedResult], paper: PaperNumber | None) -> CellNumber:
    values: dict[int, float] = {}
    states: list[str] = []
    for result in results:
        value = result.value(metric)
        if value is not None and math.isfinite(value):
            values[result.seed] = value
        states.append("not finite" if result.state == "done" and result.seed not in values else result.state)
    return CellNumber(
        cell=cell,
        metric=metric,
        ours=fmean(values.values()) if values else None,
        half_range=(max(values.values()) - min(values.values())) / 2 if len(values) > 1 else None,
        seeds=len(values),
        wanted=len(results),
        paper=paper,
        status=_status(states),
        collapsed=sum(result.collapsed for result in results),
        diverged=states.count("diverged"),
        run_keys=tuple(result.evaluation_key for result in results),
        values=values,
        not_finite=states.count("not finite"),
    )


def _status(states: list[str]) -> Status:
    if all(state == "done" for state in states):
        return "complete"
    if "failed" in states or "not finite" in states:
        return "failed"
    if "diverged" in states:
        return "diverged"
    return "partial" if "done" in states else "pending"


def _without_runs(cell: str, metric: str, paper: PaperNumber | None, status: Status, ours: float | None) -> CellNumber:
    """A number that is quoted, or described."""
    return CellNumber(cell, metric, ours, None, 0, 0, paper, status, collapsed=0, diverged=0, run_keys=())


@dataclass(frozen=True)
class Table:
    """A table ready to be rendered. `numbers` by cell and metric; `untrained` where the profile evaluates it.

    imported: the cells whose encoder is from elsewhere.
    used: by cell and column, the setting that was really used where it is not the one that the row names.
    """

    layout: Layout
    profile: str
    stand_in: bool
    numbers: dict[tuple[str, str], CellNumber]
    untrained: dict[str, CellNumber]
    cells: tuple[str, ...]
    imported: tuple[str, ...]
    used: Mapping[tuple[str, str], Any] = field(default_factory=dict)


def build_table(
    layout: Layout,
    expansion: Expansion | None,
    collected: Mapping[str, list[SeedResult]],
    profile: str = "",
    prepared: Prepared = Prepared(),  # noqa: B008  # frozen
) -> Table:
    """`expansion` is None for a table that no runs are declared for; `profile` then says where it is printed."""
    members = expansion.members if expansion else ()
    facts = described(layout.table, prepared)
    numbers = {}
    for cell, metric in _printed(layout, collected):
        paper = layout.paper.get(cell, {}).get(metric)
        if cell in collected:
            own = [member for member in members if member.cell == cell]
            numbers[cell, metric] = _of_runs(cell, metric, collected[cell], own, paper)
        elif (cell, metric) in facts:
            fact = _without_runs(cell, metric, paper, "complete", facts[cell, metric])
            numbers[cell, metric] = replace(fact, stand_in=layout.table == COUNTED and prepared.stand_ins)
        else:
            status: Status = "quoted" if cell in layout.quoted else "pending"
            numbers[cell, metric] = _without_runs(cell, metric, paper, status, None)
        if numbers[cell, metric].status not in ("complete", "quoted"):
            commands = prepared.commands.get((layout.table, cell), ())
            numbers[cell, metric] = replace(numbers[cell, metric], commands=commands)
    return Table(
        layout=layout,
        profile=expansion.profile if expansion else profile,
        stand_in=any(number.stand_in for number in numbers.values()),
        numbers={key: number for key, number in numbers.items() if key[0] != UNTRAINED},
        untrained={metric: number for (cell, metric), number in numbers.items() if cell == UNTRAINED},
        cells=tuple(dict.fromkeys(cell for cell, _ in numbers if cell != UNTRAINED)),
        imported=tuple(dict.fromkeys(m.cell for m in members if isinstance(m.subject, Imported))),
        used=_used(layout, members),
    )


def _printed(layout: Layout, collected: Mapping[str, list[SeedResult]]) -> Iterable[tuple[str, str]]:
    """Cells and metrics in the order of the rows; of a table restricted to one cell, that cell alone."""
    cells = {cell: group for row in layout.rows for group, cell in cells_of(row).items()}
    restricted = bool(collected) and any(cell not in collected and cell not in layout.quoted for cell in cells)
    for cell, group in cells.items():
        if cell in collected or not restricted:
            yield from ((cell, metric) for metric in layout.metrics_of(group))
    if UNTRAINED in collected:
        yield from ((UNTRAINED, metric) for metric in layout.metrics if not metric.startswith(PRETRAINED))


def _of_runs(
    cell: str, metric: str, results: list[SeedResult], members: list[Member], paper: PaperNumber | None
) -> CellNumber:
    """An encoder that was not pretrained here has no number of a pretraining: what the paper has is quoted."""
    if metric.startswith(PRETRAINED) and all(isinstance(m.subject, RandomEncoder | Imported) for m in members):
        return _without_runs(cell, metric, paper, "quoted", None)
    number = replace(
        aggregate(cell, metric, results, paper),
        at_paper_scale=all(member.at_paper_scale for member in members),
        stand_in=any(member.evaluation.data.stand_in for member in members),
    )
    return replace(number, verdict=_verdict(number))


def _verdict(number: CellNumber) -> Verdict | None:
    if number.paper is None or number.seeds < number.wanted or METRICS[number.metric].unit != "percent":
        return None
    if number.stand_in or not number.at_paper_scale:
        return None
    from harness.reporting.compare import verdict  # noqa: PLC0415  # scipy takes a second to import

    return verdict(list(number.values.values()), number.paper)


def _used(layout: Layout, members: Iterable[Member]) -> dict[tuple[str, str], Any]:
    """What the profile made of the settings that rows name. Those that are off (null) do nothing, and are left out."""
    subjects = {member.cell: member.subject for member in members if isinstance(member.subject, Pretrain)}
    return {
        (cell, column): value
        for row in layout.rows
        for cell in cells_of(row).values()
        if cell in subjects
        for column, setting in layout.settings.items()
        if (value := _value(subjects[cell], setting)) is not None and value != row.get(column)
    }


def _value(spec: Pretrain, setting: str) -> Any:
    """`model.projector[-1]` of a spec."""
    path, _, place = setting.partition("[")
    value = reduce(getattr, path.split("."), spec)
    return value[int(place.removesuffix("]"))] if place else value  # type: ignore[index]
