"""Tables as Markdown."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config.expand import declared_cells, expand
from harness.config.files import table_ids
from harness.reporting.aggregate import Table, build_table
from harness.reporting.collect import collect
from harness.reporting.layout import layout_ids, read_layout
from harness.reporting.markdown import render_markdown
from harness.tracking.store import MemoryStore

Build = Callable[..., Table]
GOLDEN = Path(__file__).parents[1] / "golden" / "reporting"

# A table without runs has one state.
STATES = [
    (table, state)
    for table in layout_ids()
    for state in (("none", "partial", "complete") if table in table_ids() else ("none",))
]


@pytest.mark.parametrize(("table", "state"), STATES)
def test_golden(example: Build, table: str, state: str) -> None:
    """Protects every character of every table, with nothing, something and everything finished.

    After a change that is meant, write the files anew and look at their diff:
    HARNESS_WRITE_GOLDEN=1 python -m pytest tests/reporting/test_markdown.py tests/reporting/test_forms.py
    """
    path = GOLDEN / state / f"table{table}.md"
    text = render_markdown(example(table, state))
    if os.environ.get("HARNESS_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "the rendering moved: see this test's docstring"


def test_an_unfinished_cell_is_seen(table: Build) -> None:
    """Protects the reader from taking a gap for a result."""
    row = next(line for line in render_markdown(table()).splitlines() if line.startswith("| SimCLR"))
    assert [cell.strip() for cell in row.strip("|").split("|")][-2:] == ["--", "69.4"]


def test_spread_and_collapse(table: Build) -> None:
    """Protects the marks: a spread from above 0.25 alone, † with the share of seeds where it is not all of them."""
    rows = {row[0]: line for row, line in zip(table().numbers, render_markdown(table()).splitlines()[4:], strict=False)}
    assert re.search(r"\| 72\.5 +\| \*\*72\.5\*\* ", rows["byol"])
    assert "| 70.5 ± 0.5 " in rows["pred_ema_beta1"]
    assert re.search(r"\| 0\.2 † +\|", rows["pred_online_beta0"])
    assert "| 0.2 † 1/3 " in rows["nopred_ema_beta0"]


def test_one_cell(table: Build) -> None:
    """Protects CELL: the row that was asked for, and of blocks side by side the one that holds it, alone."""
    lines = render_markdown(table(cell="nopred_ema_beta1")).splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 3
    expansion = expand("16", "imagenet", 1, "byol_512")
    one = build_table(read_layout("16", declared_cells("16")), expansion, collect(expansion, MemoryStore()))
    header, _, row = [line for line in render_markdown(one).splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        *("Batch size", "Top-1, BYOL, ours", "Top-1, BYOL, paper", "Top-5, BYOL, ours", "Top-5, BYOL, paper")
    ]
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["512", "--", "72.2", "--", "90.8"]


def test_a_bar_in_a_label(table: Build) -> None:
    """Protects the columns of a row from a label that holds their separator."""
    made = table()
    first = {**made.layout.rows[0], "label": "a|b"}
    text = render_markdown(replace(made, layout=replace(made.layout, rows=(first, *made.layout.rows[1:]))))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert "a\\|b" in text
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {7}
