"""A table as Markdown, in the paper's shape, ours beside paper."""

from __future__ import annotations

from harness.reporting.aggregate import Table
from harness.reporting.footer import footer
from harness.reporting.render import Entry, grid


def render_markdown(table: Table) -> str:
    made = grid(table)
    header = [*made.labels, *(", ".join(headings) for headings in made.headings)]
    rows = [[_plain(cell) for cell in header], *([_cell(entry) for entry in row] for row in made.body)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    title = f"**Table {table.layout.table}.** {table.layout.caption}"
    return "\n".join([title, "", *lines, "", *(f"{line}  " for line in footer(table)), ""])


def _cell(entry: Entry) -> str:
    text = _plain(entry.text) if entry.rows else ""
    return f"**{text}**" if entry.bold else text


def _plain(text: str) -> str:
    return text.replace("|", "\\|")
