"""A picture on paper: matplotlib without its global state, the same bytes for the same numbers.

Ours is solid and filled, the paper's dashed and hollow. Series differ by marker and by a colour that differs in
lightness too (Paul Tol's high-contrast scheme), so that nothing is lost in grey or to colour-blind eyes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from harness.reporting.figure_layout import COLOURS, Axis
from harness.reporting.traces import Mark, Picture, Shown, Trace

PALETTE = ("#004488", "#BB5566", "#DDAA33", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
GREY = "0.35"
DASHES: Any = (0, (3, 1.5))
COLUMN, PAGE = 3.35, 6.9  # inches: one column of a paper, and both
PANEL = 2.2  # inches: height of a panel
EDGE, GAP = 0.06, 0.05  # inches: around everything, and between the blocks
TITLE, NOTE = 8.0, 6.5  # points
DPI = 300

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that it is there everywhere
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.titlesize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "0.88",
    "grid.linewidth": 0.4,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    # Text as outlines: the page and a paper look the same where the font is missing, and widths are as laid out here.
    "svg.fonttype": "path",
}


# No clock and no version in the files.
METADATA = {"svg": dict.fromkeys(("Creator", "Date", "Format", "Type")), "png": {"Software": None}}


def files(picture: Picture) -> dict[str, bytes]:
    """The picture as svg and png, by suffix."""
    made = {}
    # Of the names inside; a style cannot set it.
    salt: dict[Any, Any] = {"svg.hashsalt": f"figure{picture.figure.figure}"}
    with matplotlib.style.context(["default", STYLE]), matplotlib.rc_context(salt):
        drawn = draw(picture)
        for form, metadata in METADATA.items():
            out = io.BytesIO()
            drawn.savefig(out, format=form, metadata=metadata)
            made[form] = out.getvalue()
    return made


def draw(picture: Picture) -> Figure:
    """Title, panels, legend and notes from the top down; as high as these need."""
    columns = picture.figure.columns
    width = COLUMN if columns == 1 else PAGE
    rows = math.ceil(len(picture.panels) / columns)
    figure = Figure(figsize=(width, 1.0), dpi=DPI)
    FigureCanvasAgg(figure)
    head = [
        *_wrapped(f"Figure {picture.figure.figure}. {picture.figure.caption}", TITLE, width, weight="bold"),
        *_wrapped(picture.subtitle, NOTE, width),
    ]
    notes = [line for note in picture.footnotes for line in _wrapped(note, NOTE, width)]
    legend = _legend(figure, picture, width)
    key = legend.get_window_extent().height / figure.dpi if legend else 0.0
    top, bottom = EDGE + _height(head) + GAP, EDGE + _height(notes) + GAP + key + GAP
    height = top + rows * PANEL + bottom
    figure.set_size_inches(width, height)
    _write(figure, head, height - EDGE)
    _write(figure, notes, EDGE + _height(notes))
    if legend is not None:
        legend.set_loc("lower left")
        legend.set_bbox_to_anchor((EDGE / width, (EDGE + _height(notes) + GAP) / height))
    area = (EDGE / width, bottom / height, 1 - 2 * EDGE / width, rows * PANEL / height)
    figure.set_layout_engine("constrained", rect=area, w_pad=0.02, h_pad=0.03, wspace=0.04, hspace=0.03)
    axes = figure.subplots(rows, columns, squeeze=False)
    for spare in axes.flat[len(picture.panels) :]:
        spare.remove()
    for one, shown in zip(axes.flat, picture.panels, strict=False):
        _panel(one, shown)
    figure.draw_without_rendering()  # lays out
    figure.set_layout_engine("none")
    for one in figure.axes:  # the solver's last bits depend on addresses in memory, and names in the svg on them
        one.set_position(tuple(round(edge, 9) for edge in one.get_position().bounds))
    return figure


def _panel(axes: Axes, shown: Shown) -> None:
    panel, traces = shown.panel, [trace for trace in shown.traces if trace.drawn]
    title = f"{shown.letter} {panel.title}".strip()
    if title:
        axes.set_title(title, loc="left")
    marks = [mark for trace in traces for mark in trace.marks if mark.y is not None]
    _axis(axes, "x", panel.x, [mark.x for mark in marks])
    _axis(axes, "y", panel.y, [y for mark in marks for y in (mark.y, mark.low, mark.high) if y is not None])
    axes.grid(True)
    for trace in traces:
        (_points if trace.form == "points" else _curve)(axes, trace)
    _labels(axes, traces)
    if not traces:
        axes.text(0.5, 0.5, "no numbers yet", transform=axes.transAxes, ha="center", va="center", color=GREY)


def _points(axes: Axes, trace: Trace) -> None:
    """Markers, a line through those that are not apart (a missing one breaks it), and whiskers."""
    ours, colour = trace.of == "ours", PALETTE[trace.look.colour]
    style: dict[str, Any] = {"color": colour, "zorder": 4 if ours else 3}
    joined = [mark for mark in trace.marks if mark.dot is None or not mark.dot.apart]
    if len(joined) > 1:
        axes.plot(_numbers(joined, "x"), _numbers(joined, "y"), linestyle="-" if ours else DASHES, **style)
    x, y, low, high = (_numbers(trace.marks, name) for name in ("x", "y", "low", "high"))
    if np.isfinite(low).any():
        axes.vlines(x, low, high, linewidth=0.8 if ours else 0.5, **style)
    style |= {"markersize": 4 if ours else 6, "markerfacecolor": colour if ours else "white"}  # a ring around ours
    label = f"{trace.series}, {trace.of}"
    axes.plot(x, y, MARKERS[trace.look.marker], markeredgewidth=0.8, clip_on=False, label=label, **style)


def _curve(axes: Axes, trace: Trace) -> None:
    """The mean of the seeds within their band; of a seed beyond the others, a thin line."""
    colour, look = PALETTE[trace.look.colour], trace.look
    x, y, low, high = (_numbers(trace.marks, name) for name in ("x", "y", "low", "high"))
    if trace.form == "beyond":
        axes.plot(x, y, color=colour, linewidth=0.6)
        return
    if (low < high).any():
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    every = max(1, len(x) // 6)
    places = (look.marker * every // COLOURS % every, every)  # so that no marker hides another
    axes.plot(
        x, y, color=colour, marker=MARKERS[look.marker], markersize=3.5, markevery=places, label=f"{trace.series}, ours"
    )


def _numbers(marks: Sequence[Mark], name: Literal["x", "y", "low", "high"]) -> NDArray[np.float64]:
    """One of the numbers of each mark; not a number where there is none."""
    return np.array([getattr(mark, name) for mark in marks], dtype=float)


def _axis(axes: Axes, name: str, axis: Axis, numbers: Iterable[float]) -> None:
    """The paper's range, or more where numbers lie beyond it."""
    axes.set(**{f"{name}label": axis.title})
    if axis.scale != "linear":
        getattr(axes, f"set_{name}scale")("log", base=2 if axis.scale == "log2" else 10, nonpositive="mask")
    limits = _limits(axis, list(numbers))
    if limits is not None:
        axes.set(**{f"{name}lim": limits})
    if axis.ticks:
        along = axes.xaxis if name == "x" else axes.yaxis
        along.set_major_locator(FixedLocator(axis.ticks))
        along.set_major_formatter(
            lambda tick, _: dict(zip(axis.ticks, axis.labels, strict=False)).get(tick, f"{tick:g}")
        )
        along.set_minor_locator(NullLocator())


def _limits(axis: Axis, numbers: list[float]) -> tuple[float, float] | None:
    """A range that holds the paper's and every number, in the paper's direction."""
    into, back = (math.log10, lambda v: 10**v) if axis.scale != "linear" else (float, float)
    known = [into(number) for number in numbers if axis.scale == "linear" or number > 0]
    paper = [into(end) for end in axis.range or ()]
    if not known and not paper:
        return None
    low, high = min(known + paper), max(known + paper)
    margin = 0.05 * (high - low) or 0.5
    first = low if paper and low == min(paper) else low - margin
    last = high if paper and high == max(paper) else high + margin
    ends = (back(first), back(last))
    return ends if axis.range is None or axis.range[0] <= axis.range[1] else ends[::-1]


_SIDES: dict[str, tuple[float, float, str, str]] = {
    "right": (5, 0, "left", "center"),
    "left": (-5, 0, "right", "center"),
    "above": (0, 5, "center", "bottom"),
    "below": (0, -5, "center", "top"),
}


def _labels(axes: Axes, traces: Iterable[Trace]) -> None:
    """Names beside the paper's points; beside ours where the paper has none."""
    named: dict[tuple[str, str], Mark] = {}
    for trace in traces:
        for mark in trace.marks:
            if mark.dot is not None and mark.dot.label and mark.y is not None:
                at = (trace.series, mark.dot.label)
                if trace.of == "paper" or at not in named:
                    named[at] = mark
    for mark in named.values():
        assert mark.dot is not None
        assert mark.y is not None
        dx, dy, horizontal, vertical = _SIDES[mark.dot.side]
        axes.annotate(
            mark.dot.label,
            (mark.x, mark.y),
            (dx, dy),
            textcoords="offset points",
            ha=horizontal,
            va=vertical,
            fontsize=6.5,
            color=GREY,
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
            zorder=5,
        )


def _legend(figure: Figure, picture: Picture, width: float) -> Legend | None:
    """Every series that is drawn, then what solid and dashed mean; in as few rows as the width allows."""
    handles = list(_handles(picture))
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            handles=handles,
            ncols=columns,
            frameon=False,
            borderpad=0,
            borderaxespad=0,
            handlelength=2.6,
            columnspacing=1.2,
            labelspacing=0.3,
        )
        legend.set_in_layout(False)
        if columns == 1 or legend.get_window_extent().width / figure.dpi <= width - 2 * EDGE:
            return legend
        legend.remove()
    return None


def _handles(picture: Picture) -> Iterator[Line2D]:
    drawn = [trace for shown in picture.panels for trace in shown.traces if trace.drawn]
    looks = {trace.series: trace.look for trace in drawn}
    ours = {trace.series for trace in drawn if trace.of == "ours"}
    for series, look in sorted(looks.items(), key=lambda item: item[1].marker):
        yield _key(series, PALETTE[look.colour], MARKERS[look.marker], solid=series in ours)
    for of in ("ours", "paper"):
        if any(trace.of == of for trace in drawn):
            yield _key(of, GREY, "o", solid=of == "ours")


def _key(label: str, colour: str, marker: str, solid: bool) -> Line2D:
    line: Any = "-" if solid else DASHES
    face, size = (colour, 4) if solid else ("white", 6)
    return Line2D(
        [], [], color=colour, marker=marker, markerfacecolor=face, markersize=size, linestyle=line, label=label
    )


def _wrapped(text: str, size: float, width: float, weight: str = "normal") -> list[tuple[str, float, str]]:
    """Lines that fit the width."""
    font = FontProperties(family=STYLE["font.family"], size=size, weight=weight)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        points, _, _ = text_to_path.get_text_width_height_descent(longer, font, False)
        if lines[-1] and points / 72 > 0.98 * (width - 2 * EDGE):  # a canvas sets letters a little wider or closer
            lines.append(word)
        else:
            lines[-1] = longer
    return [(line, size, weight) for line in lines]


def _height(lines: list[tuple[str, float, str]]) -> float:
    """Inches of lines set with 1.25 of their size."""
    return sum(1.25 * size / 72 for _, size, _ in lines)


def _write(figure: Figure, lines: list[tuple[str, float, str]], top: float) -> None:
    width, height = figure.get_size_inches()
    for line, size, weight in lines:
        top -= 1.25 * size / 72
        place = (EDGE / width, (top + 0.3 * size / 72) / height)
        figure.text(*place, line, size=size, weight=weight, va="baseline", color="black" if weight == "bold" else GREY)
