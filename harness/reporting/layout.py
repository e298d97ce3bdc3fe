"""tables/table<ID>.yaml: the shape of a table, its caption, and the paper's numbers by cell and metric."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, get_type_hints

from harness.config.document import Document, read_yaml
from harness.config.files import paper_order, project_root, read_as
from harness.config.metrics import METRICS
from harness.config.schema import Pretrain
from harness.config.structure import unknown
from harness.reporting.described import described_cells

LabelValue = bool | int | float | str | None
Row = dict[str, LabelValue | dict[str, str]]
ALONE = ""  # the group of a table that has none


@dataclass(frozen=True, kw_only=True)
class PaperNumber:
    """What the paper prints; half_range where it prints one (half the spread of three seeds, if above 0.25)."""

    mean: float
    half_range: float | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """A block that stands beside others, with the table's metrics or its own."""

    title: str
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Bold:
    """What the best number is best of: its column, that of every group (`across_groups`), or the rows of one label."""

    best: bool = True
    across_groups: bool = False
    within: str | None = None


@dataclass(frozen=True)
class Leaf:
    """A column of numbers, and its headings from the top down."""

    group: str
    metric: str
    headings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """`columns` name what each row says of itself, with their headings; the metrics of each group follow.

    rows: `cell`, or of a table with groups `cells`, one a group; `"{group}_4096"` stands for them all here and below.
    merged: columns of which equal neighbours are printed once.
    settings: columns that name a field of the run, whose value at other scales than the paper's stands beside it.
    doubts: where the paper, or what is left of it, contradicts itself. notes: what else a reader should know.
    quoted: cells that the paper quotes from other work.
    """

    table: str
    caption: str
    metrics: tuple[str, ...] = ()
    columns: dict[str, str]
    rows: tuple[Row, ...]
    paper: dict[str, dict[str, PaperNumber]]
    source: str
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    groups: dict[str, Group] = field(default_factory=dict)
    merged: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    bold: Bold = Bold()
    quoted: tuple[str, ...] = ()

    def metrics_of(self, group: str) -> tuple[str, ...]:
        own = self.groups[group].metrics if group in self.groups else ()
        return own or self.metrics

    def leaves(self) -> list[Leaf]:
        """The columns of numbers. Groups that share their metrics stand below each metric, as in the paper."""
        if not self.groups:
            return [Leaf(ALONE, metric, (METRICS[metric].title,)) for metric in self.metrics]
        titles = {name: group.title for name, group in self.groups.items()}
        if not any(group.metrics for group in self.groups.values()):
            return [
                Leaf(name, metric, (METRICS[metric].title, title))
                for metric in self.metrics
                for name, title in titles.items()
            ]
        plain = self.metrics_stand_below
        return [
            Leaf(name, metric, (title,) if plain else (title, METRICS[metric].title))
            for name, title in titles.items()
            for metric in self.metrics_of(name)
        ]

    @property
    def metrics_stand_below(self) -> bool:
        """Each group has one metric of its own, which the paper names elsewhere, and we in the footer."""
        return bool(self.groups) and all(len(group.metrics) == 1 for group in self.groups.values())


def cells_of(row: Row) -> dict[str, str]:
    """The cell of each group; of a table without groups, its one cell."""
    cells = row.get("cells")
    return cells if isinstance(cells, dict) else {ALONE: str(row["cell"])}


def layout_ids() -> list[str]:
    """The ids of all tables that can be printed, in the paper's order."""
    folder = project_root() / "tables"
    return sorted((path.stem.removeprefix("table") for path in folder.glob("table*.yaml")), key=paper_order)


def read_layout(table: str, cells: tuple[str, ...]) -> Layout:
    """The layout of a table whose rows must be exactly its declared cells, and what it quotes or describes."""
    document = read_yaml(project_root() / "tables" / f"table{table}.yaml")
    layout = read_as(Layout, document)
    if layout.table != table:
        raise document.error("table", f"says '{layout.table}' in the file of table {table}")
    layout = replace(
        layout,
        rows=tuple(_rows(layout, document)),
        quoted=tuple(cell for told in layout.quoted for cell in _of_groups(layout, told).values()),
    )
    _check_rows(layout, document, cells)
    _check_metrics(layout, document)
    _check_columns(layout, document)
    return layout


def _rows(layout: Layout, document: Document) -> Iterator[Row]:
    """The rows with the cell of each group in place of a pattern."""
    for number, row in enumerate(layout.rows):
        where, name = f"rows[{number}]", "cells" if layout.groups else "cell"
        for key in row:
            _known(key, [name, *layout.columns], "column", document, where)
        told = row.get(name)
        if told is None:
            raise document.error(where, f"names no {name.removesuffix('s')}")
        if not layout.groups:
            yield row
            continue
        cells = told if isinstance(told, dict) else _of_groups(layout, str(told))
        if ALONE in cells:
            raise document.error(
                where, f"cells: '{told}' needs a {{group}}, which stands for {', '.join(layout.groups)}"
            )
        for group in cells:
            _known(group, layout.groups, "group", document, f"{where}.cells")
        yield {**row, "cells": cells}


def _of_groups(layout: Layout, cells: str) -> dict[str, str]:
    """`{group}_4096` is one cell a group; a name without `{group}` is one cell."""
    if "{group}" not in cells:
        return {ALONE: cells}
    return {group: cells.replace("{group}", group) for group in layout.groups}


def _check_rows(layout: Layout, document: Document, declared: tuple[str, ...]) -> None:
    for cell in layout.quoted:
        if cell in declared:
            problem = f"'{cell}' has runs: experiments/tables/table{layout.table}.yaml declares it"
            raise document.error("quoted", problem)
    cells = (*declared, *layout.quoted, *described_cells(layout.table))
    shown = [(number, cell) for number, row in enumerate(layout.rows) for cell in cells_of(row).values()]
    for number, cell in shown:
        _known(cell, cells, "cell", document, f"rows[{number}]")
    once = {cell for _, cell in shown}
    if missing := [cell for cell in cells if cell not in once]:
        raise document.error("rows", f"has no row for {', '.join(missing)}")
    if len(once) != len(shown):
        raise document.error("rows", "shows a cell twice")
    for cell in layout.paper:
        _known(cell, cells, "cell", document, f"paper.{cell}")


def _check_metrics(layout: Layout, document: Document) -> None:
    groups = {cell: group for row in layout.rows for group, cell in cells_of(row).items()}
    for group in layout.groups or (ALONE,):
        own = bool(layout.groups) and bool(layout.groups[group].metrics)
        key = f"groups.{group}.metrics" if own else "metrics"
        if not layout.metrics_of(group):
            raise document.error(f"groups.{group}" if layout.groups else "metrics", "names no metric")
        for metric in layout.metrics_of(group):
            _known(metric, METRICS, "metric", document, key)
    for cell, numbers in layout.paper.items():
        for metric in numbers:
            _known(metric, METRICS, "metric", document, f"paper.{cell}")
            if metric not in layout.metrics_of(groups[cell]):
                raise document.error(f"paper.{cell}", f"'{metric}' has no column in this table")


def _check_columns(layout: Layout, document: Document) -> None:
    within = () if layout.bold.within is None else (layout.bold.within,)
    for key, names in (("merged", layout.merged), ("settings", layout.settings), ("bold.within", within)):
        for name in names:
            _known(name, layout.columns, "column", document, key)
    for name, setting in layout.settings.items():
        if not _is_field(Pretrain, setting.partition("[")[0]):
            raise document.error(f"settings.{name}", f"'{setting}' is no field of a pretraining")


def _is_field(cls: Any, dotted: str) -> bool:
    name, _, rest = dotted.partition(".")
    if not is_dataclass(cls) or name not in (one.name for one in fields(cls)):
        return False
    return not rest or _is_field(get_type_hints(cls)[name], rest)


def _known(name: str, known: Collection[str], what: str, document: Document, key: str) -> None:
    if name not in known:
        raise document.error(key, unknown(name, known, what))
