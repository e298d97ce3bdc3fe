"""What stands on the paper: artists against numbers, legibility, and the same bytes for the same numbers."""

from __future__ import annotations

import itertools
import math
import re
import struct
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from generated_results import State, done, figure_inputs
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from harness.reporting.draw import MARKERS, PALETTE, STYLE, _limits, draw, files
from harness.reporting.figure_layout import COLOURS, Axis, read_figure
from harness.reporting.figure_layout import MARKERS as MARKERS_ALLOWED
from harness.reporting.figures import figure_ids
from harness.reporting.traces import Picture, picture


def _picture(figure: str, state: State = done, profile: str = "imagenet", like_paper: bool = True) -> Picture:
    return picture(read_figure(figure)[0], *figure_inputs([figure], profile, state, like_paper))


def _drawn(shown: Picture) -> Figure:
    with mpl.style.context(["default", STYLE]):
        return draw(shown)


@pytest.fixture(scope="module", params=figure_ids())
def drawn(request: pytest.FixtureRequest) -> tuple[Picture, Figure]:
    """Every figure with gaps, seeds that run on, and numbers far from the paper's."""
    states = {0: "done", 1: "running", 2: "pending"}
    shown = _picture(
        request.param, lambda cell, seed: "done" if len(cell) % 2 else states[seed], "laptop", like_paper=False
    )
    return shown, _drawn(shown)


def test_every_number_is_drawn_where_it_is(drawn: tuple[Picture, Figure]) -> None:
    """Protects the figure from a slip between numbers and artists: markers and curves are read back and compared."""
    shown, figure = drawn
    for axes, panel in zip(figure.axes, shown.panels, strict=True):
        lines = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
        wanted = [trace for trace in panel.traces if trace.drawn and trace.form != "beyond"]
        assert [line.get_label() for line in lines] == [f"{trace.series}, {trace.of}" for trace in wanted]
        for line, trace in zip(lines, wanted, strict=True):
            data = [(mark.x, math.nan if mark.y is None else mark.y) for mark in trace.marks]
            np.testing.assert_array_equal(line.get_xydata(), data)


def test_ours_is_solid_and_the_papers_hollow() -> None:
    """Protects the one distinction that a reader must never miss, without any colour."""
    axes = _drawn(_picture("3a")).axes[0]
    markers = {line.get_label(): line for line in axes.get_lines() if line.get_label().startswith("BYOL")}
    assert to_rgb(markers["BYOL, paper"].get_markerfacecolor()) == (1, 1, 1)
    assert to_rgb(markers["BYOL, ours"].get_markerfacecolor()) == to_rgb(PALETTE[0])
    assert markers["BYOL, paper"].get_markersize() > markers["BYOL, ours"].get_markersize() + 1  # seen where both agree
    joined = [line.get_linestyle() for line in axes.get_lines() if line.get_label().startswith("_")]
    assert joined == ["--", "-", "--", "-"]


def test_bands_are_the_range_of_the_seeds() -> None:
    """Protects the band: its edges are the smallest and largest seed; a single seed has none."""
    shown = _picture("7")
    trace = next(trace for trace in shown.panels[0].traces if trace.form == "curve")
    edges = _drawn(shown).axes[0].collections[0].get_paths()[0].vertices
    for mark in trace.marks:
        at = edges[np.isclose(edges[:, 0], mark.x)][:, 1]
        assert (at.min(), at.max()) == (pytest.approx(mark.low), pytest.approx(mark.high))
    alone = _picture("7", lambda _cell, seed: "pending" if seed else "done")
    assert not _drawn(alone).axes[0].collections


def test_a_missing_point_breaks_the_line() -> None:
    """Protects from a line through what nobody has measured; a point that stands apart is on no line."""
    axes = _drawn(_picture("3a", lambda cell, _: "pending" if cell == "byol_512" else "done")).axes[0]
    ours = next(line for line in axes.get_lines() if line.get_linestyle() == "-")
    assert np.isnan(ours.get_ydata()).tolist() == [False, False, False, True, False, False]
    supervised = [line for line in _drawn(_picture("1")).axes[0].get_lines() if line.get_linestyle() == "--"][1]
    assert 250 not in supervised.get_xdata()
    assert len(supervised.get_xdata()) == 3


def _lightness(colour: str) -> float:
    """CIE L*: 0 is black, 100 white."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    y = float(np.dot([0.2126, 0.7152, 0.0722], linear))
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


# Viénot, Brettel and Mollon 1999, in linear RGB: what those see who lack the long and the middle cones.
BLIND = {
    "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
}


def test_colours_differ_in_grey_and_to_colour_blind_eyes() -> None:
    """Protects the print in grey (lightness apart by 18 of 100) and dichromats (far apart in what they see)."""
    assert len(PALETTE) == COLOURS
    assert len(set(MARKERS)) == MARKERS_ALLOWED
    for one, two in itertools.combinations([*PALETTE, "#ffffff"], 2):
        assert abs(_lightness(one) - _lightness(two)) > 18
        for matrix in BLIND.values():
            seen = [
                np.clip(np.array(matrix) @ (np.array(to_rgb(colour)) ** 2.2), 0, 1) ** (1 / 2.2)
                for colour in (one, two)
            ]
            assert np.linalg.norm(seen[0] - seen[1]) > 0.2


def _texts(figure: Figure) -> list[Text]:
    """All that is written, but the ticks beyond the limits, which are not drawn."""
    ticks = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            inside = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            ticks += [tick.label1 for tick in inside]
        ticks += [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title, *axes.texts]
    legend = [text for one in figure.legends for text in one.get_texts()]
    return [text for text in (*figure.texts, *legend, *ticks) if text.get_text()]


def test_no_text_overlaps_or_leaves_the_page(drawn: tuple[Picture, Figure]) -> None:
    """Protects legibility at column width: titles, labels, ticks, legend and notes each have a place of their own."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in _texts(drawn[1])]
    page = drawn[1].bbox
    for text, box in boxes:
        assert (page.x0 <= box.x0) & (box.x1 <= page.x1) & (page.y0 <= box.y0) & (box.y1 <= page.y1), text
    for (one, first), (two, second) in itertools.combinations(boxes, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        up = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert not (across > 2 and up > 2), (one, two)  # hundredths of a millimetre are no overlap


ENDS = st.floats(0.001, 1e6)


@given(
    scale=st.sampled_from(["linear", "log", "log2"]),
    ends=st.one_of(st.none(), st.tuples(ENDS, ENDS).filter(lambda two: two[0] != two[1])),
    numbers=st.lists(ENDS, max_size=5),
)
def test_axes_hold_every_number_and_the_papers_range(
    scale: str, ends: tuple[float, float] | None, numbers: list[float]
) -> None:
    """Protects from numbers off the page: limits hold all of them and the paper's own, in the paper's direction."""
    limits = _limits(Axis(title="", scale=scale, range=ends), numbers)  # type: ignore[arg-type]
    if limits is None:
        assert not numbers
        assert ends is None
        return
    assert (limits[0] < limits[1]) == (ends is None or ends[0] < ends[1])
    for number in (*numbers, *(ends or ())):
        assert min(limits) * (1 - 1e-9) <= number <= max(limits) * (1 + 1e-9)
    if ends is not None and all(min(ends) <= number <= max(ends) for number in numbers):
        assert limits == pytest.approx(ends)


def test_unchanged_numbers_make_unchanged_files() -> None:
    """Protects version control and caches: no clock, no version, and no setting of the person's own in the files."""
    shown = _picture("3a")
    first = files(shown)
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.hashsalt": "other", "figure.dpi": 50}):
        assert files(shown) == first
    svg = first["svg"].decode()
    assert not re.search(r"<dc:|<metadata|\b20\d\d-\d\d|<text", svg)
    assert "http" not in re.sub(r'"http://www\.w3\.org/[^"]*"|"-//W3C[^"]*"\s*"[^"]*"', "", svg)
    assert _chunks(first["png"]) == {"IHDR", "pHYs", "IDAT", "IEND"}
    changed = replace(shown, subtitle="Ours: another profile.")
    assert files(changed)["svg"] != first["svg"]


def _chunks(png: bytes) -> set[str]:
    kinds, at = set(), 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kinds.add(png[at + 4 : at + 8].decode())
        at += length + 12
    return kinds
