"""What completing each table takes, alone and after others, and which tables a budget of device-hours completes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from harness.launch.plan import Plan, Planned


@dataclass(frozen=True)
class Completion:
    """Of one table: its runs, those it misses, and of these the ones that no table before it brings."""

    table: str
    runs: tuple[Planned, ...]
    missing: tuple[Planned, ...]
    beyond: tuple[Planned, ...]


@dataclass(frozen=True)
class Purchase:
    """The tables that a budget completes and those it does not, each beyond what is bought; cheapest first."""

    budget: float
    bought: tuple[Completion, ...]
    left: tuple[Completion, ...]

    @property
    def runs(self) -> tuple[Planned, ...]:
        """Each once, table by table."""
        return tuple(run for one in self.bought for run in one.beyond)

    @property
    def over(self) -> float:
        return self.budget - hours(self.runs)


def hours(runs: Iterable[Planned]) -> float:
    return math.fsum(run.cost.device_hours for run in runs)


def disk(runs: Iterable[Planned]) -> int:
    return sum(run.cost.disk_bytes for run in runs)


def completions(plan: Plan, tables: Sequence[str]) -> tuple[Completion, ...]:
    """Of every table, in this order."""
    found: list[Completion] = []
    before: set[str] = set()
    for one in _alone(plan, tables):
        found.append(_after(one, before))
        before |= {run.key for run in one.missing}
    return tuple(found)


def buy(plan: Plan, tables: Sequence[str], budget: float) -> Purchase:
    """Again and again the table that is cheapest to complete, given what is bought, until none fits the budget.

    Of equally cheap ones the first. A table that is complete already costs nothing, so it is always bought.
    """
    bought: list[Completion] = []
    left = _alone(plan, tables)
    while left:
        cheapest = min(left, key=_price)
        if hours(run for one in (*bought, cheapest) for run in one.beyond) > budget:
            break
        bought.append(cheapest)
        brought = {run.key for run in cheapest.beyond}
        left = [_after(one, brought) for one in left if one is not cheapest]
    return Purchase(budget, tuple(bought), tuple(sorted(left, key=_price)))


def _price(one: Completion) -> float:
    return hours(one.beyond)


def _alone(plan: Plan, tables: Sequence[str]) -> list[Completion]:
    todo = {run.key for run in plan.missing}
    found = []
    for table in tables:
        runs = tuple(run for run in plan.runs if table in run.tables)
        missing = tuple(run for run in runs if run.key in todo)
        found.append(Completion(table, runs, missing, missing))
    return found


def _after(one: Completion, brought: Collection[str]) -> Completion:
    """The same, when these runs are brought by a table before it."""
    return replace(one, beyond=tuple(run for run in one.beyond if run.key not in brought))
