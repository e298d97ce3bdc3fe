"""Tables as csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from harness.reporting.aggregate import Table
from harness.reporting.layout import layout_ids
from harness.reporting.long_form import render_csv

Build = Callable[..., Table]
COLUMNS = "table,cell,metric,ours,ours_half_range,seeds,paper,paper_half_range,delta,status,verdict,run_keys"


def _rows(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render_csv(table))))


def test_csv_columns(table: Build) -> None:
    """Protects whoever reads the csv by name, and one row for each cell and metric in the paper's order."""
    text = render_csv(table())
    assert text.splitlines()[0] == COLUMNS
    rows = _rows(table())
    assert [row["cell"] for row in rows] == [row["cell"] for row in table().layout.rows]
    byol, unfinished = rows[0], rows[3]
    assert float(byol["ours"]) == pytest.approx(72.55)
    assert float(byol["ours_half_range"]) == pytest.approx(0.175)
    assert float(byol["delta"]) == pytest.approx(0.05)
    assert byol["run_keys"] == "byol.0.linear byol.1.linear byol.2.linear"
    assert (unfinished["ours"], unfinished["delta"], unfinished["status"]) == ("", "", "pending")
    assert unfinished["paper"] == "69.4"


def test_a_verdict_is_of_finished_cells(table: Build) -> None:
    """Protects the column from a verdict on two seeds of three, and its text from being left out."""
    verdicts = {row["cell"]: row["verdict"] for row in _rows(table())}
    assert verdicts["byol"] == "equivalent"
    assert {cell for cell, text in verdicts.items() if text} == {
        *("byol", "pred_ema_beta1", "pred_online_beta0", "nopred_ema_beta0")
    }


def test_stand_in_data_is_not_compared(table: Build) -> None:
    """Protects against reading digits at 16 px as ImageNet: neither a difference to the paper nor a verdict."""
    rows = _rows(table("laptop"))
    assert rows[0]["ours"]
    assert not any(row["delta"] or row["verdict"] for row in rows)


def test_a_quoted_row(example: Build) -> None:
    """Protects the baselines of other work: the paper's number under its own status, and nothing of ours."""
    rows = {(row["cell"], row["metric"]): row for row in _rows(example("1a", "none"))}
    quoted, ours = rows["simclr", "linear_imagenet.top1"], rows["byol", "linear_imagenet.top1"]
    assert (quoted["ours"], quoted["seeds"], quoted["paper"], quoted["status"]) == ("", "0", "69.3", "quoted")
    assert (ours["ours"], ours["paper"], ours["status"]) == ("", "74.3", "pending")


@pytest.mark.parametrize("table", layout_ids())
def test_every_number_of_the_paper_has_a_row(example: Build, table: str) -> None:
    """Protects the csv of every table from a cell that its shape hides."""
    made = example(table, "partial")
    found = {(row["cell"], row["metric"]): row["paper"] for row in _rows(made)}
    wanted = {(cell, metric): n.mean for cell, told in made.layout.paper.items() for metric, n in told.items()}
    assert {key: float(text) for key, text in found.items() if text} == pytest.approx(wanted)
    assert len(found) == len(_rows(made))
