"""tables/figure<ID>.yaml: what a figure of the paper shows, as points of tables and curves of cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from harness.config.document import Document, read_yaml
from harness.config.files import project_root, read_as
from harness.config.metrics import METRICS
from harness.config.structure import unknown


@dataclass(frozen=True, kw_only=True)
class Axis:
    """range: the paper's or what its numbers need, from first to last end; others widen it. labels: of ticks."""

    title: str
    scale: Literal["linear", "log", "log2"] = "linear"
    range: tuple[float, float] | None = None
    ticks: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A cell's number at x. No cell: the paper draws a point there, but no table has it.

    table: where it is not the series'. label stands at the `side` of the paper's point. apart: no line leads to it.
    """

    x: float
    cell: str | None = None
    table: str | None = None
    label: str = ""
    side: Literal["left", "right", "above", "below"] = "right"
    apart: bool = False


@dataclass(frozen=True, kw_only=True)
class Series:
    """Numbers of tables. against: the cell that every number is the change from. colour: a name that series share."""

    label: str
    table: str
    metric: str
    points: tuple[Dot, ...]
    against: str | None = None
    colour: str | None = None


@dataclass(frozen=True, kw_only=True)
class Through:
    """What a cell reports through its pretraining. end: the table's number of it, which is drawn at the last epoch.

    paper: (epoch, value), what the paper's text says of its curve.
    """

    label: str
    table: str
    cell: str
    metric: str
    end: str | None = None
    paper: tuple[tuple[float, float], ...] = ()
    colour: str | None = None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes, with series or curves on it."""

    x: Axis
    y: Axis
    title: str = ""
    series: tuple[Series, ...] = ()
    curves: tuple[Through, ...] = ()

    @property
    def shown(self) -> tuple[Series | Through, ...]:
        return (*self.series, *self.curves)


@dataclass(frozen=True)
class Asked:
    """A cell that a figure names at `key` of its file, and the metric that is read from its table."""

    key: str
    table: str
    cell: str
    metric: str | None


@dataclass(frozen=True)
class Look:
    """Which colour and which marker: the number of each in its order of appearance."""

    colour: int
    marker: int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`columns` of panels side by side. epochs: how long the paper pretrains, where panels show curves.

    legend: the labels in their order, where it is not that of their first appearance.
    """

    figure: str
    caption: str
    source: str
    panels: tuple[Panel, ...]
    columns: int = 1
    epochs: int = 300
    legend: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)

    def tables(self) -> tuple[str, ...]:
        """The ids of the tables whose numbers and cells it shows."""
        return tuple(dict.fromkeys(asked.table for asked in self.asks()))

    def looks(self) -> dict[str, Look]:
        """By label: alike in every panel. Each label has a marker of its own, and a colour alone or with others."""
        colour_of = {one.label: one.colour or one.label for panel in self.panels for one in panel.shown}
        labels = self.legend or tuple(colour_of)
        colours = list(dict.fromkeys(colour_of[label] for label in labels))
        return {label: Look(colours.index(colour_of[label]), number) for number, label in enumerate(labels)}

    def asks(self) -> Iterator[Asked]:
        """Every number of a table that it shows, and where the file says so."""
        for i, panel in enumerate(self.panels):
            for j, series in enumerate(panel.series):
                key = f"panels[{i}].series[{j}]"
                if series.against is not None:
                    yield Asked(f"{key}.against", series.table, series.against, series.metric)
                for k, dot in enumerate(series.points):
                    if dot.cell is not None:
                        at = f"{key}.points[{k}]"
                        yield Asked(at, dot.table or series.table, dot.cell, series.metric)
            for j, through in enumerate(panel.curves):
                yield Asked(f"panels[{i}].curves[{j}]", through.table, through.cell, through.end)


COLOURS = 4  # more cannot be told apart in grey
MARKERS = 12


def read_figure(figure: str) -> tuple[Figure, Document]:
    """A figure and its file, which knows the line of every key."""
    document = read_yaml(project_root() / "tables" / f"figure{figure}.yaml")
    described = read_as(Figure, document)
    if described.figure != figure:
        raise document.error("figure", f"says '{described.figure}' in the file of figure {figure}")
    for i, panel in enumerate(described.panels):
        for name, axis in (("x", panel.x), ("y", panel.y)):
            if axis.labels and len(axis.labels) != len(axis.ticks):
                raise document.error(f"panels[{i}].{name}.labels", "must be one for each tick")
        if bool(panel.series) == bool(panel.curves):
            raise document.error(f"panels[{i}]", "must have series or curves, and not both")
    labels = {one.label for panel in described.panels for one in panel.shown}
    if described.legend and sorted(described.legend) != sorted(labels):
        raise document.error("legend", f"must be these labels in some order: {', '.join(sorted(labels))}")
    looks = described.looks()
    if len(looks) > MARKERS or len({look.colour for look in looks.values()}) > COLOURS:
        raise document.error("panels", f"at most {MARKERS} labels in {COLOURS} colours can be told apart")
    for asked in described.asks():
        if asked.metric is not None and asked.metric not in METRICS:
            raise document.error(asked.key, unknown(asked.metric, METRICS, "metric"))
    return described, document
