"""tables/table<ID>.yaml: the shape of a table, its caption, and the paper's numbers by cell and metric."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from harness.config.document import Document, read_yaml
from harness.config.files import project_root, read_as
from harness.config.metrics import METRICS
from harness.config.structure import unknown

LabelValue = bool | int | float | str | None


@dataclass(frozen=True, kw_only=True)
class PaperNumber:
    """What the paper prints; half_range where it prints one (half the spread of three seeds, if above 0.25)."""

    mean: float
    half_range: float | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """`columns` name what each row says of itself, with their headings; metrics follow as columns of their own."""

    table: str
    caption: str
    metrics: tuple[str, ...]
    columns: dict[str, str]
    rows: tuple[dict[str, LabelValue], ...]
    paper: dict[str, dict[str, PaperNumber]]
    source: str
    doubts: tuple[str, ...] = field(default_factory=tuple)


def read_layout(table: str, cells: tuple[str, ...]) -> Layout:
    """The layout of a table whose rows must be exactly its declared cells."""
    document = read_yaml(project_root() / "tables" / f"table{table}.yaml")
    layout = read_as(Layout, document)
    if layout.table != table:
        raise document.error("table", f"says '{layout.table}' in the file of table {table}")
    _check(layout, document, cells)
    return layout


def _check(layout: Layout, document: Document, cells: tuple[str, ...]) -> None:
    for number, row in enumerate(layout.rows):
        if "cell" not in row:
            raise document.error(f"rows[{number}]", "names no cell")
        for name in row:
            _known(name, ["cell", *layout.columns], "column", document, f"rows[{number}]")
        _known(str(row["cell"]), cells, "cell", document, f"rows[{number}]")
    shown = [row["cell"] for row in layout.rows]
    missing = [cell for cell in cells if cell not in shown]
    if missing or len(set(shown)) != len(shown):
        raise document.error("rows", f"has no row for {', '.join(missing)}" if missing else "shows a cell twice")
    for metric in layout.metrics:
        _known(metric, METRICS, "metric", document, "metrics")
    for cell, numbers in layout.paper.items():
        _known(cell, cells, "cell", document, f"paper.{cell}")
        for metric in numbers:
            _known(metric, METRICS, "metric", document, f"paper.{cell}")


def _known(name: str, known: Collection[str], what: str, document: Document, key: str) -> None:
    if name not in known:
        raise document.error(key, unknown(name, known, what))
