"""From a figure's file to the numbers it draws."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pytest
from generated_results import curve_rule, figure_inputs, rule
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.files import read_table
from harness.reporting.figure_layout import read_figure
from harness.reporting.figures import figure_ids
from harness.reporting.traces import Of, Picture, Trace, long_form, picture

TOP1 = "linear_imagenet.top1"

# What the paper has in its figures, by series: (x, y). Figures 3a and 3b are differences of its Tables 16 and 17.
PAPER = {
    "1": {
        "BYOL": [(24, 74.3), (94, 77.4), (375, 78.6), (250, 79.6)],
        "Supervised": [(24, 76.5), (94, 77.8), (375, 78.9), (250, 80.1)],
        "SimCLR": [(24, 69.3), (94, 74.2), (375, 76.5)],
        "Other methods": [(24, 73.0), (24, 71.1), (305, 71.5), (375, 68.6), (94, 70.6)],
    },
    "3a": {
        "BYOL": [(4096, 0.0), (2048, -0.1), (1024, -0.3), (512, -0.3), (256, -0.7), (128, -2.9)],
        "SimCLR (repro)": [(4096, 0.0), (2048, -0.1), (1024, -0.5), (512, -1.4), (256, -3.6), (128, -4.3)],
    },
    "3b": {
        "BYOL": [(0, 0.0), (1, -2.2), (2, -9.1), (3, -11.4), (4, -13.1)],
        "SimCLR (repro)": [(0, 0.0), (1, -6.0), (2, -22.2), (3, -26.2), (4, -27.6)],
    },
    "6": {
        "BYOL": list(
            zip(
                (24, 43, 58, 63, 94, 170, 211, 232, 250, 375, 382, 522),
                (74.3, 76.4, 77.3, 77.8, 77.4, 78.7, 78.2, 79.0, 79.6, 78.6, 78.4, 79.5),
                strict=True,
            )
        ),
        "Supervised": list(
            zip(
                (24, 43, 58, 63, 94, 170, 211, 232, 250, 375, 382, 522),
                (76.4, 78.0, 79.1, 79.3, 79.9, 80.3, 80.2, 80.6, 80.1, 80.7, 80.7, 80.9),
                strict=True,
            )
        ),
        "Supervised (SimCLR's paper)": [(24, 76.5), (94, 77.8), (375, 78.9)],
    },
}


def _picture(figure: str, **chosen: object) -> Picture:
    return picture(read_figure(figure)[0], *figure_inputs([figure], **chosen))  # type: ignore[arg-type]


def _traces(shown: Picture, of: Of, form: str = "points", panel: int = 0) -> dict[str, Trace]:
    return {t.series: t for t in shown.panels[panel].traces if (t.of, t.form) == (of, form)}


@pytest.mark.parametrize("figure", PAPER)
def test_the_papers_points_are_the_papers(figure: str) -> None:
    """Protects the comparison: what is drawn as the paper's is what its tables print."""
    drawn = _traces(_picture(figure), "paper")
    assert {name: [(mark.x, pytest.approx(mark.y)) for mark in trace.marks] for name, trace in drawn.items()} == {
        name: [(x, pytest.approx(y, abs=1e-9)) for x, y in points] for name, points in PAPER[figure].items()
    }


@pytest.mark.parametrize("figure", ["1", "6"])
def test_parameters_are_those_of_the_table(figure: str) -> None:
    """Protects the x axis: the millions of parameters in a figure's file are those that Table 9's rows print."""
    tables, _ = figure_inputs([figure])
    rows = tables["9"].layout.rows
    printed = {cell: row["weights"] for row in rows for cell in dict(row["cells"]).values()}  # type: ignore[arg-type]
    asked = [dot for series in read_figure(figure)[0].panels[0].series for dot in series.points]
    seen = [(f"{dot.x:g}M", printed[dot.cell]) for dot in asked if dot.cell in printed]
    assert len(seen) == {"1": 8, "6": 27}[figure]
    assert all(ours == table for ours, table in seen)


def test_a_change_is_against_its_own_method() -> None:
    """Protects Figure 3a: ours is each method's number less the same method's at batch 4096, with its own range."""
    drawn = _traces(_picture("3a"), "ours")
    for series, method in (("BYOL", "byol"), ("SimCLR (repro)", "simclr")):
        for mark in drawn[series].marks:
            at, base = ([rule(f"{method}_{b:g}", TOP1, s) for s in range(3)] for b in (mark.x, 4096))
            assert mark.y == pytest.approx(sum(at) / 3 - sum(base) / 3, abs=1e-9)
            assert mark.low is not None
            assert mark.high is not None
            assert mark.high - mark.low == pytest.approx(max(at) - min(at))
            assert (mark.low + mark.high) / 2 == pytest.approx(mark.y)


_INPUTS = figure_inputs(["3a"])


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-50, 50), numbers=st.lists(st.floats(0, 100), min_size=12, max_size=12))
def test_a_change_does_not_see_what_all_share(shift: float, numbers: list[float]) -> None:
    """Protects a change from the level: the same added to every number of a table moves no point."""
    tables, curves = _INPUTS
    figure = read_figure("3a")[0]
    cells = [dot.cell for series in figure.panels[0].series for dot in series.points]
    drawn = []
    for added in (0.0, shift):
        given = dict(tables["16"].numbers)
        for cell, value in zip(cells, numbers, strict=True):
            given[str(cell), TOP1] = replace(given[str(cell), TOP1], ours=value + added, half_range=None)
        traces = _traces(picture(figure, {"16": replace(tables["16"], numbers=given)}, curves), "ours")
        drawn.append([mark.y for trace in traces.values() for mark in trace.marks])
    assert drawn[1] == pytest.approx(drawn[0], abs=1e-9)
    assert drawn[0][0] == drawn[0][6] == 0.0


def test_without_its_base_there_is_no_change() -> None:
    """Protects from a number against nothing: while the baseline is missing, so is every point of its method."""
    shown = _picture("3a", state=lambda cell, _: "pending" if cell == "byol_4096" else "done")
    drawn = _traces(shown, "ours")
    assert all(mark.y is None for mark in drawn["BYOL"].marks)
    assert all(mark.y is not None for mark in drawn["SimCLR (repro)"].marks)
    assert shown.footnotes[0] == "Ours: 6 of 12 points (missing: BYOL)."


def test_curves_are_the_reported_numbers() -> None:
    """Protects Figure 7's lines: mean and range over the seeds of what the runs of that cell reported."""
    shown = _picture("7")
    for panel, name in enumerate(("representation_norm", "projection_norm")):
        for series, cell in (("Batch norm", "batch"), ("Layer norm", "layer"), ("No normalization", "none")):
            marks = _traces(shown, "ours", "curve", panel)[series].marks
            for report, mark in enumerate(marks):
                seeds = [curve_rule(cell, name, seed, report) for seed in range(3)]
                assert (mark.y, mark.low, mark.high) == (pytest.approx(sum(seeds) / 3), min(seeds), max(seeds))
            assert len(marks) == 12
            assert len(marks[0].run_keys) == 3


def test_the_papers_plateau_keeps_its_share_of_the_training() -> None:
    """Protects Figure 7 at other lengths: epoch 100 of the paper's 300 is epoch 13.3 of 40."""
    for profile, epochs in (("imagenet", 300.0), ("laptop", 40.0)):
        shown = _picture("7", profile=profile)
        marks = _traces(shown, "paper", panel=1)["No normalization"].marks
        assert [(mark.x, mark.y) for mark in marks] == [(pytest.approx(epochs / 3), 3e6), (epochs, 3e6)]
        assert shown.panels[1].panel.x.range == (0.0, epochs)


def test_curves_end_at_the_tables_numbers() -> None:
    """Protects RAFT's Figure 5: the points at the last epoch are Table 3's, ours and the paper's."""
    shown = _picture("raft5")
    assert {mark.x for panel in shown.panels for t in panel.traces if t.form == "points" for mark in t.marks} == {300.0}
    paper = {(i, n): t.marks[0].y for i in range(6) for n, t in _traces(shown, "paper", panel=i).items()}
    assert (paper[0, "β = 1"], paper[1, "β = 100"], paper[2, "β = 0.1"]) == (1.35e-10, 0.0156, 8.22e-06)
    assert (paper[3, "β = 10"], paper[4, "β = 1"], paper[5, "β = 10"]) == (-0.88, -0.01, -2.15)
    ours = _traces(shown, "ours", panel=5)["β = 10"].marks[0]
    seeds = [rule("raft_lp_-10.0", "pretrain.uniform", seed) for seed in range(3)]
    assert ours.y == pytest.approx(sum(seeds) / 3)


def test_a_seed_that_others_have_yet_to_follow() -> None:
    """Protects what a finished seed has shown: beyond the running ones its line goes on, and the figure says so."""
    shown = _picture("7", state=lambda _cell, seed: "running" if seed else "done")
    traces = shown.panels[0].traces
    assert [(t.series, t.form, len(t.marks)) for t in traces if t.series == "Batch norm"] == [
        ("Batch norm", "curve", 6),
        ("Batch norm", "beyond", 7),
    ]
    assert "6 of 6 curves (partial: Batch norm, Layer norm, No normalization)" in shown.footnotes[0]


def test_stand_in_data_is_said() -> None:
    """Protects the reader of a laptop's figure: it says what its numbers are not."""
    assert "stand-in data" in _picture("3a", profile="laptop").subtitle
    assert _picture("3a", profile="imagenet").subtitle == "Ours: profile imagenet."


@pytest.mark.parametrize("figure", figure_ids())
def test_the_csv_has_every_number_and_its_origin(figure: str) -> None:
    """Protects traceability: each mark is a row, with the runs behind it, and no y where none is drawn."""
    shown = _picture(figure, state=lambda _cell, seed: "done" if seed < 2 else "pending")
    rows = list(csv.DictReader(io.StringIO(long_form(shown))))
    marks = [(trace, mark) for panel in shown.panels for trace in panel.traces for mark in trace.marks]
    assert len(rows) == len(marks)
    for row, (trace, mark) in zip(rows, marks, strict=True):
        assert (row["series"], row["of"], row["table"], row["cell"]) == (trace.series, trace.of, mark.table, mark.cell)
        assert row["y"] == "" if mark.y is None else float(row["y"]) == pytest.approx(mark.y, rel=1e-11)
        if trace.of == "ours" and mark.y is not None:
            assert re.fullmatch(r"([0-9a-f]{16} ?)+", row["run_keys"])
            assert mark.status == ("partial" if len(read_table(mark.table)[0].seeds) > 2 else "complete")
        if trace.of == "paper":
            assert row["run_keys"] == row["status"] == ""
