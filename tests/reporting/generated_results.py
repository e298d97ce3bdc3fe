"""Tables and curves of figures with results by a fixed rule, so that a test knows every number that must be drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.config.datasets import DATASETS
from harness.config.expand import Expansion, declared_cells, expand
from harness.config.files import table_ids
from harness.config.schema import Pretrain
from harness.reporting.aggregate import Table, build_table
from harness.reporting.collect import collect
from harness.reporting.curves import Curves
from harness.reporting.figure_layout import read_figure
from harness.reporting.layout import Layout, read_layout
from harness.tracking.record import Record
from harness.tracking.spool import Point
from harness.tracking.store import Stored

State = Callable[[str, int], str]  # of a cell's seed
CURVES = ("loss", "align", "uniform", "representation_norm", "projection_norm", "online_top1")
REPORTS = 12


def done(_cell: str, _seed: int) -> str:
    return "done"


def rule(cell: str, metric: str, seed: int) -> float:
    """A number between 40 and 60 that differs by cell, metric and seed."""
    return 50 + 10 * math.sin(sum(map(ord, cell + metric)) + 0.1 * seed)


def near(layout: Layout) -> Callable[[str, str, int], float]:
    """Another rule: what the paper has, a little lower, and a little different by seed."""

    def number(cell: str, metric: str, seed: int) -> float:
        printed = layout.paper.get(cell, {}).get(metric)
        return rule(cell, metric, seed) if printed is None else printed.mean * (0.985 + 0.005 * seed)

    return number


class Generated:
    """Results of every run of some expansions. A run that is neither done nor diverged has half of its curve."""

    uri = "generated"

    def __init__(
        self, expansions: Iterable[Expansion], state: State = done, number: Callable[..., float] = rule
    ) -> None:
        self.read: list[str] = []  # the keys whose curves were asked for
        self._stored: dict[str, Stored] = {}
        self._curves: dict[str, list[Point]] = {}
        for expansion in expansions:
            metrics = {metric for numbers in _layout(expansion.table).paper.values() for metric in numbers}
            for m in expansion.members:
                told = state(m.cell, m.seed)
                results = {metric: number(m.cell, metric, m.seed) for metric in metrics}
                for key in (m.subject_key, m.evaluation_key):
                    if told != "pending":
                        self._stored[key] = Stored(key, f"run-{key}", told, "", results)
                if isinstance(m.subject, Pretrain):
                    self._curves[m.subject_key] = list(_points(m.subject, m.cell, m.seed, told))

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        return {key: self._stored[key] for key in keys if key in self._stored}

    def curve(self, key: str) -> list[Point]:
        self.read.append(key)
        return self._curves[key]

    def record(self, _key: str) -> Record | None:
        return None

    def folder(self, _key: str) -> Path | None:
        return None


def steps(spec: Pretrain) -> list[int]:
    """The updates at which a generated run reports; the last one is its last."""
    images = DATASETS[spec.data.dataset].images(spec.data.split)
    total = spec.schedule.epochs * images // spec.schedule.update_batch
    return [total * (i + 1) // REPORTS for i in range(REPORTS)]


def curve_rule(cell: str, name: str, seed: int, report: int) -> float:
    """Positive, as norms and alignments are."""
    return 2 + math.sin(len(cell) + ord(name[0]) + report / 3) + 0.1 * seed


def _points(spec: Pretrain, cell: str, seed: int, told: str) -> Iterable[Point]:
    reached = {"done": REPORTS, "diverged": REPORTS // 2, "running": REPORTS // 2}.get(told, 0)
    for report, step in enumerate(steps(spec)[:reached]):
        numbers = {f"pretrain.{name}": curve_rule(cell, name, seed, report) for name in CURVES}
        yield Point(1_700_000_000_000 + step, step, numbers)


def _layout(table: str) -> Layout:
    return read_layout(table, declared_cells(table) if table in table_ids() else ())


def figure_inputs(
    figures: Iterable[str], profile: str = "imagenet", state: State = done, like_paper: bool = False
) -> tuple[dict[str, Table], Curves]:
    """What write_figure needs of these figures."""
    names = dict.fromkeys(table for figure in figures for table in read_figure(figure)[0].tables())
    expansions = {name: expand(name, profile) for name in names if name in table_ids()}
    tables = {}
    for name in names:
        layout, expansion = _layout(name), expansions.get(name)
        if expansion is None:
            tables[name] = build_table(layout, None, {}, profile)
        else:
            results = Generated([expansion], state, near(layout) if like_paper else rule)
            tables[name] = build_table(layout, expansion, collect(expansion, results))
    return tables, Curves(Generated(expansions.values(), state), expansions.values())
