"""The forms in which a table is written to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.config.durable import write_whole
from harness.reporting.aggregate import Table
from harness.reporting.latex import render_latex
from harness.reporting.long_form import render_csv
from harness.reporting.markdown import render_markdown

FORMS: dict[str, Callable[[Table], str]] = {"csv": render_csv, "md": render_markdown, "tex": render_latex}


def write_table(table: Table, folder: Path) -> list[Path]:
    """tables/built/<profile>/table<ID>.{csv,md,tex}, each whole or not at all."""
    written = []
    for suffix, render in FORMS.items():
        path = folder / f"table{table.layout.table}.{suffix}"
        write_whole(path, render(table).encode())
        written.append(path)
    return written
