"""A table as csv: one row a cell and metric, every digit, and the runs behind it."""

from __future__ import annotations

import csv
import io

from harness.reporting.aggregate import Table

CSV_COLUMNS = (
    "table",
    "cell",
    "metric",
    "ours",
    "ours_half_range",
    "seeds",
    "paper",
    "paper_half_range",
    "delta",
    "status",
    "verdict",
    "run_keys",
)


def render_csv(table: Table) -> str:
    """Numbers to the twelfth digit and decimal, beyond which is noise; an empty field is a number there is not."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for number in table.numbers.values():
        paper = number.paper
        writer.writerow(
            [
                table.layout.table,
                number.cell,
                number.metric,
                _full(number.ours),
                _full(number.half_range),
                number.seeds,
                _full(paper.mean if paper else None),
                _full(paper.half_range if paper else None),
                _full(None if number.stand_in else number.delta),
                number.status,
                number.verdict.text if number.verdict else "",
                " ".join(number.run_keys),
            ]
        )
    return out.getvalue()


def _full(number: float | None) -> str:
    return "" if number is None else repr(float(f"{round(number, 12):.12g}") + 0.0)  # no -0.0
