"""The lines under a table: what a reader must know to read its numbers, and what is missing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from harness.config.metrics import METRICS
from harness.reporting.aggregate import CellNumber, Table
from harness.reporting.described import CONFIGURED, COUNTED
from harness.reporting.render import COLLAPSED, DIVERGED, HALF_RANGE_SHOWN, NOT_FINITE, ours_text


def footer(table: Table) -> list[str]:
    return [
        f"Profile {table.profile}. Paper: {table.layout.source}.",
        *_kinds(table),
        *_marks(table),
        *_spread(table),
        *_verdicts(table),
        *(f"Note: {doubt}" for doubt in (*table.layout.notes, *table.layout.doubts)),
        *_missing(table),
    ]


def _kinds(table: Table) -> Iterator[str]:
    """Where ours is from."""
    numbers = table.numbers.values()
    if table.layout.table == COUNTED:
        twins = "stand-ins, small generated sets in each owner's layout, as they are prepared here"
        yield f"Ours counts {twins if table.stand_in else 'the datasets that are prepared here'}."
    elif table.stand_in:
        yield (
            "Ours is made from stand-in data at a small scale: it shows the order of the rows, not the paper's numbers."
        )
    if table.layout.table == CONFIGURED:
        yield "Ours is what runs are configured with, at every profile."
    if any(number.status == "quoted" and number.paper for number in numbers):
        yield "Ours is blank where the paper quotes other work, and where there is no training to measure."
    if table.used:
        yield "(here X): this profile runs X in place of the paper's value."
    yield from (f"{cell} is an imported encoder, not trained by this harness." for cell in table.imported)


def _marks(table: Table) -> Iterator[str]:
    numbers = table.numbers.values()
    if any(number.collapsed for number in numbers):
        yield f"{COLLAPSED} collapsed by the diagnostics of every seed, or of as many as stated."
    if any(number.diverged for number in numbers):
        yield f"{DIVERGED} diverged, every seed or as many as stated: such a seed counts as chance."
    if any(number.not_finite for number in numbers):
        yield f"{NOT_FINITE} not a finite number, every seed or as many as stated: such a seed counts as failed."


def _spread(table: Table) -> Iterator[str]:
    untrained = [f"{METRICS[metric].title} {ours_text(number)}" for metric, number in table.untrained.items()]
    if untrained:
        yield f"The untrained encoder has {', '.join(untrained)}."
    yield from _means(table)
    if table.layout.metrics_stand_below:
        measured: dict[str, list[str]] = defaultdict(list)
        for name, group in table.layout.groups.items():
            measured[METRICS[table.layout.metrics_of(name)[0]].title].append(group.title)
        told = [f"{metric}: {', '.join(titles)}" for metric, titles in measured.items() if titles != [metric]]
        if told:
            yield f"{'; '.join(told)}."


def _means(table: Table) -> Iterator[str]:
    """How many seeds; the metrics are named where others have one."""
    of: dict[int, list[str]] = defaultdict(list)
    for number in table.numbers.values():
        if number.wanted:
            of[number.wanted].append(METRICS[number.metric].title)
    for seeds, metrics in sorted(of.items()):
        if seeds > 1:
            what = f" ({', '.join(dict.fromkeys(metrics))})" if len(of) > 1 else ""
            yield f"Mean of {seeds} seeds{what}, ± half the range where that is above {HALF_RANGE_SHOWN}."


def _verdicts(table: Table) -> Iterator[str]:
    """One line for each kind of verdict; a metric is named where a table has several."""
    judged: dict[str, list[str]] = defaultdict(list)
    several = len({number.metric for number in table.numbers.values()}) > 1
    for number in table.numbers.values():
        if number.verdict is not None:
            name = f"{number.cell} {METRICS[number.metric].title}" if several else number.cell
            told = f" ({number.verdict.detail})" if number.verdict.detail else ""
            judged[number.verdict.name].append(f"{name}{told}")
    for kind in ("equivalent", "different", "underpowered"):
        if judged[kind]:
            yield f"{kind.capitalize()}, beside the paper's: {', '.join(judged[kind])}."


def _missing(table: Table) -> Iterator[str]:
    """One line for all that lack the same; a metric is named where its cell's others do not lack it."""
    lacking: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    ours = [number for number in table.numbers.values() if number.status != "quoted"]
    metrics = Counter(number.cell for number in ours)
    for number in ours:
        if number.status != "complete":
            lacking[_state(number)][number.cell].append(METRICS[number.metric].title)
    for state, cells in lacking.items():
        names = [f"{cell} ({', '.join(of)})" if len(of) < metrics[cell] else cell for cell, of in cells.items()]
        yield f"{state}: {'every cell' if set(names) == set(metrics) and len(names) > 1 else ', '.join(names)}."


def _state(number: CellNumber) -> str:
    data = f"data not prepared here, run {' and '.join(number.commands)}" if number.commands else ""
    if not number.wanted:
        return f"D{data[1:]}" if data else "Data not prepared here"
    state = f"{number.status.capitalize()}, {number.seeds} of {number.wanted} seeds finished"
    return f"{state}; {data}" if data else state
