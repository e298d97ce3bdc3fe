"""What every printed form of a table shares: the texts of its numbers, and its grid of rows and columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.config.metrics import METRICS
from harness.reporting.aggregate import CellNumber, Table
from harness.reporting.layout import LabelValue, Leaf, Row, cells_of

HALF_RANGE_SHOWN = 0.25  # the paper prints a spread only above this
COLLAPSED = "†"
DIVERGED = "‡"
NOT_FINITE = "§"
MISSING = "--"

Side = Literal["ours", "paper"]


def ours_text(number: CellNumber) -> str:
    if number.status == "quoted":
        return ""
    metric = METRICS[number.metric]
    text = MISSING if number.ours is None else metric.text(number.ours)
    shown = HALF_RANGE_SHOWN if metric.unit == "percent" else 0.0
    if number.half_range is not None and number.half_range > shown:
        text += f" ± {metric.text(number.half_range)}"
    collapsed = number.collapsed if number.ours is not None else 0
    for mark, seeds in ((COLLAPSED, collapsed), (DIVERGED, number.diverged), (NOT_FINITE, number.not_finite)):
        if seeds:
            text += f" {mark}" if seeds == number.wanted else f" {mark} {seeds}/{number.wanted}"
    return text


def paper_text(number: CellNumber) -> str:
    if number.paper is None:
        return MISSING
    metric = METRICS[number.metric]
    text = metric.text(number.paper.mean)
    return text if number.paper.half_range is None else f"{text} ± {metric.text(number.paper.half_range)}"


def symbol(value: LabelValue) -> str:
    """What a row says of itself."""
    if isinstance(value, bool):
        return "✓" if value else ""
    return "" if value is None else str(value)


def labels(table: Table, row: Row) -> tuple[str, ...]:
    """The paper's labels of a row, with what was really used where the profile uses something else."""
    return tuple(_label(table, row, column) for column in table.layout.columns)


def _label(table: Table, row: Row, column: str) -> str:
    value = row.get(column)
    assert not isinstance(value, dict), "`cells` is no column"
    used = [_used(table.used.get((cell, column), value)) for cell in cells_of(row).values() if cell in table.cells]
    return symbol(value) if set(used) <= {_used(value)} else f"{symbol(value)} (here {', '.join(dict.fromkeys(used))})"


def _used(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Entry:
    """A piece of text in the grid. `rows` is how many it stands for: 0 where the one above stands for it too."""

    text: str
    bold: bool = False
    rows: int = 1


@dataclass(frozen=True)
class Grid:
    """labels: headings of what rows say of themselves; headings: of each column of numbers, from the top down."""

    labels: tuple[str, ...]
    headings: tuple[tuple[str, ...], ...]
    body: tuple[tuple[Entry, ...], ...]


def grid(table: Table) -> Grid:
    layout, best = table.layout, best_numbers(table)
    columns = [(leaf, side) for leaf in layout.leaves() for side in sides(table, leaf)]
    body = []
    for row in rows_of(table):
        entries = [Entry(text) for text in labels(table, row)]
        for leaf, side in columns:
            number = table.numbers.get((cells_of(row).get(leaf.group, ""), leaf.metric))
            text = "" if number is None else ours_text(number) if side == "ours" else paper_text(number)
            bold = number is not None and (number.cell, number.metric, side) in best
            entries.append(Entry(text, bold))
        body.append(entries)
    for place in reversed([list(layout.columns).index(name) for name in layout.merged]):
        _merge(body, place)
    headings = tuple((*leaf.headings, side) for leaf, side in columns)
    return Grid(tuple(layout.columns.values()), headings, tuple(map(tuple, body)))


def rows_of(table: Table) -> list[Row]:
    return [row for row in table.layout.rows if any(cell in table.cells for cell in cells_of(row).values())]


def sides(table: Table, leaf: Leaf) -> tuple[Side, ...]:
    """A column in which everything is quoted has no part of ours, and one of which no cell was asked for has none."""
    cells = [cells_of(row).get(leaf.group, "") for row in rows_of(table)]
    found = [table.numbers[cell, leaf.metric] for cell in cells if (cell, leaf.metric) in table.numbers]
    if not found:
        return ()
    return ("paper",) if all(number.status == "quoted" for number in found) else ("ours", "paper")


def _merge(body: list[list[Entry]], place: int) -> None:
    """Equal neighbours in one column, as far as the columns before it are equal too."""
    first = 0
    for at in range(1, len(body) + 1):
        if at < len(body) and _texts(body[at], place) == _texts(body[first], place):
            body[at][place] = replace(body[at][place], rows=0)
            continue
        body[first][place] = replace(body[first][place], rows=at - first)
        first = at


def _texts(row: Sequence[Entry], place: int) -> list[str]:
    return [entry.text for entry in row[: place + 1]]


def best_numbers(table: Table) -> set[tuple[str, str, Side]]:
    """What is printed bold: the best of two or more, and all that print the same; ours only once all are finished."""
    if not table.layout.bold.best:
        return set()
    best: set[tuple[str, str, Side]] = set()
    for numbers in _compared(table):
        ours = [number for number in numbers if number.status != "quoted"]
        finished = all(number.ours is not None and number.seeds == number.wanted for number in ours)
        if finished:
            best |= {(n.cell, n.metric, "ours") for n in _best([(n, n.ours) for n in ours if n.ours is not None])}
        best |= {(n.cell, n.metric, "paper") for n in _best([(n, n.paper.mean) for n in numbers if n.paper])}
    return best


def _compared(table: Table) -> Iterator[list[CellNumber]]:
    """The numbers among which there is a best."""
    bold = table.layout.bold
    sets: dict[tuple[Any, ...], list[CellNumber]] = defaultdict(list)
    for leaf in table.layout.leaves():
        for row in rows_of(table) if "ours" in sides(table, leaf) else ():
            number = table.numbers.get((cells_of(row).get(leaf.group, ""), leaf.metric))
            if number is not None:
                of = None if bold.across_groups else leaf.group
                sets[leaf.metric, of, row.get(bold.within or "")].append(number)
    yield from sets.values()


def _best(numbers: list[tuple[CellNumber, float]]) -> list[CellNumber]:
    if len(numbers) < 2:
        return []
    metric = METRICS[numbers[0][0].metric]
    first = metric.text((max if metric.higher_is_better else min)(value for _, value in numbers))
    return [number for number, value in numbers if metric.text(value) == first]
