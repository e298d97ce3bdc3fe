"""The files of a figure: svg and png for people, and csv with every number that is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.config.document import Document
from harness.config.durable import write_whole
from harness.config.files import paper_order, project_root
from harness.config.structure import unknown
from harness.reporting.aggregate import Table
from harness.reporting.curves import Curves
from harness.reporting.figure_layout import Figure, read_figure
from harness.reporting.layout import cells_of
from harness.reporting.traces import long_form, picture


def figure_ids() -> list[str]:
    """The ids of all figures in the paper's order, `3a` for figure3a.yaml."""
    folder = project_root() / "tables"
    return sorted((path.stem.removeprefix("figure") for path in folder.glob("figure*.yaml")), key=paper_order)


def write_figure(figure: str, tables: Mapping[str, Table], curves: Curves, folder: Path) -> list[Path]:
    """figure<ID>.{svg,png,csv} from the tables it names; each whole, and none before all are made."""
    from harness.reporting.draw import files  # noqa: PLC0415  # matplotlib takes a second to import

    described, document = read_figure(figure)
    _check(described, document, tables)
    shown = picture(described, tables, curves)
    forms = {**files(shown), "csv": long_form(shown).encode()}
    written = {folder / f"figure{figure}.{suffix}": content for suffix, content in forms.items()}
    for path, content in written.items():
        write_whole(path, content)
    return list(written)


def _check(figure: Figure, document: Document, tables: Mapping[str, Table]) -> None:
    for asked in figure.asks():
        if asked.table not in tables:
            raise document.error(asked.key, unknown(asked.table, tables, "table"))
        cells = [cell for row in tables[asked.table].layout.rows for cell in cells_of(row).values()]
        if asked.cell not in cells:
            raise document.error(asked.key, unknown(asked.cell, cells, f"cell of table {asked.table}"))
