"""From a figure's file to the numbers it draws: ours and the paper's, each with where it is from."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from harness.reporting.aggregate import Table
from harness.reporting.curves import Curve, Curves
from harness.reporting.figure_layout import Dot, Figure, Look, Panel, Series, Through
from harness.reporting.missing import said

Of = Literal["ours", "paper"]
_OF: tuple[Of, ...] = ("paper", "ours")  # ours is drawn over the paper's
ORIGIN = ("figure", "panel", "series", "of", "form", "table", "cell", "metric")
COLUMNS = (*ORIGIN, "x", "y", "low", "high", "status", "run_keys")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One number of a figure; y is None where there is none yet. low and high: of the seeds, or as the paper prints.

    status: of ours, as in tables; `awaited` where no table has the cell.
    """

    x: float
    y: float | None = None
    low: float | None = None
    high: float | None = None
    table: str = ""
    cell: str = ""
    metric: str = ""
    status: str = ""
    run_keys: tuple[str, ...] = ()
    dot: Dot | None = None


@dataclass(frozen=True)
class Trace:
    """What is drawn in one go. `beyond` is one seed's curve where others have yet to follow."""

    series: str
    of: Of
    form: Literal["points", "curve", "beyond"]
    look: Look
    marks: tuple[Mark, ...]

    @property
    def drawn(self) -> bool:
        return any(mark.y is not None for mark in self.marks)


@dataclass(frozen=True)
class Shown:
    """A panel with its numbers. `letter` names it where there are several."""

    letter: str
    panel: Panel
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class Picture:
    """Everything that a figure shows."""

    figure: Figure
    subtitle: str
    panels: tuple[Shown, ...]
    footnotes: tuple[str, ...]


STAND_IN = "; stand-in data at a small scale: the order of things, not the paper's numbers"


def picture(figure: Figure, tables: Mapping[str, Table], curves: Curves) -> Picture:
    reader = _Reader(figure, tables, curves)
    letters = (
        [f"({chr(ord('a') + number)})" for number in range(len(figure.panels))] if len(figure.panels) > 1 else [""]
    )
    panels = tuple(reader.panel(letter, panel) for letter, panel in zip(letters, figure.panels, strict=True))
    own = [tables[table] for table in figure.tables()]
    subtitle = f"Ours: profile {own[0].profile}{STAND_IN if any(table.stand_in for table in own) else ''}."
    return Picture(figure, subtitle, panels, tuple(filter(None, (said(panels), *figure.notes))))


class _Reader:
    """Looks up what a figure names."""

    def __init__(self, figure: Figure, tables: Mapping[str, Table], curves: Curves) -> None:
        self._figure, self._tables, self._curves = figure, tables, curves
        self._looks = figure.looks()

    def panel(self, letter: str, panel: Panel) -> Shown:
        """The axis of a training is as long as ours."""
        if not panel.curves:
            return Shown(letter, panel, tuple(trace for series in panel.series for trace in self._series(series)))
        lasting = [self._curves.epochs(through.table, through.cell) for through in panel.curves]
        epochs = float(max((one for one in lasting if one is not None), default=self._figure.epochs))
        scaled = replace(panel, x=replace(panel.x, range=(0.0, epochs)))
        return Shown(letter, scaled, tuple(trace for one in panel.curves for trace in self._through(one, epochs)))

    def _series(self, series: Series) -> Iterator[Trace]:
        """The paper's numbers, then ours."""
        for of in _OF:
            marks = [self._number(of, dot, series) for dot in series.points]
            if series.against is not None:
                zero = self._number(of, Dot(x=0, cell=series.against), series).y
                marks = [_change(mark, zero) for mark in marks]
            yield Trace(series.label, of, "points", self._looks[series.label], tuple(marks))

    def _number(self, of: Of, dot: Dot, series: Series) -> Mark:
        if dot.cell is None:
            return Mark(x=dot.x, status="awaited" if of == "ours" else "", dot=dot)
        table = self._tables[dot.table or series.table]
        return replace(_of_table(of, dot.x, table, dot.cell, series.metric), dot=dot)

    def _through(self, through: Through, epochs: float) -> Iterator[Trace]:
        """Our curve, and where both end. What the paper says of an epoch stands at the same share of the training."""
        look = self._looks[through.label]
        curve = self._curves.curve(through.table, through.cell, through.metric)
        origin = Mark(x=0.0, table=through.table, cell=through.cell, metric=through.metric)
        known = replace(origin, status=_status(curve), run_keys=tuple(curve.run_keys.values()))
        spread = [replace(known, x=one.epoch, y=one.mean, low=one.low, high=one.high) for one in curve.spread()]
        yield Trace(through.label, "ours", "curve", look, tuple(spread) or (known,))
        for seed, line in curve.beyond().items():
            own = replace(known, run_keys=(curve.run_keys[seed],))
            yield Trace(through.label, "ours", "beyond", look, tuple(replace(own, x=x, y=y) for x, y in line))
        share = epochs / self._figure.epochs
        if through.paper:
            text = tuple(replace(origin, x=x * share, y=y) for x, y in through.paper)
            yield Trace(through.label, "paper", "points", look, text)
        if through.end is not None:
            for of in _OF:
                end = _of_table(of, epochs, self._tables[through.table], through.cell, through.end)
                yield Trace(through.label, of, "points", look, (end,))


def _of_table(of: Of, x: float, table: Table, cell: str, metric: str) -> Mark:
    """A table's number at x."""
    origin = Mark(x=x, table=table.layout.table, cell=cell, metric=metric)
    if of == "paper":
        printed = table.layout.paper.get(cell, {}).get(metric)
        return origin if printed is None else _spread(origin, printed.mean, printed.half_range)
    number = table.numbers.get((cell, metric))
    if number is None:  # of a table that is restricted to other cells
        return replace(origin, status="pending")
    known = replace(origin, status=number.status, run_keys=number.run_keys)
    return known if number.ours is None else _spread(known, number.ours, number.half_range)


def _spread(mark: Mark, mean: float, half_range: float | None) -> Mark:
    if half_range is None:
        return replace(mark, y=mean)
    return replace(mark, y=mean, low=mean - half_range, high=mean + half_range)


def _change(mark: Mark, zero: float | None) -> Mark:
    """A number from `zero`, with the range of its own seeds alone; none while there is no zero."""
    if zero is None:
        return replace(mark, y=None, low=None, high=None, status="pending" if mark.y is not None else mark.status)
    y, low, high = (None if one is None else one - zero for one in (mark.y, mark.low, mark.high))
    return replace(mark, y=y, low=low, high=high)


def _status(curve: Curve) -> str:
    if not curve.lines:
        return "not reported" if curve.finished else "pending"
    return "complete" if curve.finished and len(curve.lines) == len(curve.states) else "partial"


def long_form(shown: Picture) -> str:
    """Every number as csv, one a row; those that are missing without y."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for panel in shown.panels:
        title = f"{panel.letter} {panel.panel.title or panel.panel.y.title}".strip()
        for trace in panel.traces:
            for mark in trace.marks:
                numbers = ["" if one is None else f"{one:.12g}" for one in (mark.x, mark.y, mark.low, mark.high)]
                origin = [mark.table, mark.cell, mark.metric]
                row = [shown.figure.figure, title, trace.series, trace.of, trace.form, *origin, *numbers]
                writer.writerow([*row, mark.status, " ".join(mark.run_keys)])
    return out.getvalue()
