"""What would run, what it costs, and how far it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from harness.commands.chosen import asked_for, expansions_of, plan_of, print_json, say
from harness.config.errors import ConfigError
from harness.config.expand import Expansion
from harness.launch.board import duration, lines, summary, title
from harness.launch.budget import Completion, Purchase, buy, completions, disk, hours
from harness.launch.cost import Form, Speed
from harness.launch.plan import Plan, Planned, subject_of
from harness.launch.schedule import Cluster, wall_hours
from harness.launch.site import site


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of the command, by their names there."""

    names: Sequence[str]
    profile: str
    seeds: int | None
    cell: str | None
    gpu: str | None
    gpus: int | None
    gpus_per_run: int | None
    budget_gpu_hours: float | None
    runs: bool
    json: bool

    def expansions(self) -> list[Expansion]:
        """Each table once, in the order in which they were named."""
        found = expansions_of(asked_for(self.names), self.profile, self.seeds, self.cell)
        if not found:
            raise ConfigError(f"no runs are declared for {', '.join(self.names)}, so there is nothing to plan")
        return found

    def cluster(self) -> Cluster | None:
        if self.gpus is None and self.gpus_per_run is not None:
            raise ConfigError("--gpus-per-run says how --gpus are shared out; give both")
        return None if self.gpus is None else Cluster(self.gpus, self.gpus_per_run or 1)


@dataclass(frozen=True)
class _Answer:
    """What there is to tell. `todo` is what a budget buys, or everything missing, in the order of the sweep."""

    plan: Plan
    expansions: list[Expansion]
    tables: tuple[Completion, ...]
    purchase: Purchase | None
    cluster: Cluster | None
    todo: tuple[Planned, ...]


def plan(**options: Any) -> int:
    """Every run, its state and its cost; what each table takes; what a budget buys and how long a cluster needs."""
    asked = Asked(**options)
    cluster, expansions = asked.cluster(), asked.expansions()
    made = plan_of(expansions, asked.profile, site(), asked.gpu)
    names = [expansion.table for expansion in expansions]
    purchase = None if asked.budget_gpu_hours is None else buy(made, names, asked.budget_gpu_hours)
    bought = {run.key for run in (made.missing if purchase is None else purchase.runs)}
    todo = tuple(run for run in made.missing if run.key in bought)
    answer = _Answer(made, expansions, completions(made, names), purchase, cluster, todo)
    if asked.json:
        return print_json(_data(answer))
    _print(answer, every_run=asked.runs or len(expansions) == 1)
    return 0


def _print(answer: _Answer, every_run: bool) -> None:
    made = answer.plan
    if every_run:
        _print_runs(made)
    if len(answer.expansions) > 1:
        _print_tables(answer)
    for line in _speed_lines(made):
        say(line)
    if answer.purchase is not None:
        _print_purchase(answer.purchase, made.scale.machine.device)
    if answer.cluster is not None:
        say(_wall_line(answer, answer.cluster))
    say(_declared_line(answer.expansions))
    say(_totals_line(made))


def _print_runs(made: Plan) -> None:
    grid = _grid(["run", "key", "state"], ["PFLOP", f"{made.scale.machine.device} hours", "disk MB"])
    for one in made.runs:
        numbers = (f"{one.cost.flops / 1e15:.3g}", _number(one.cost.device_hours), f"{one.cost.disk_bytes / 1e6:.0f}")
        grid.add_row(title(one), one.key, one.status, *numbers)
    _print_grid(grid)


def _print_tables(answer: _Answer) -> None:
    device = answer.plan.scale.machine.device
    numbers = ["cells", "runs", "done", "to run", f"{device} hours", "beyond those above", "disk GB"]
    grid = _grid(["table"], numbers)
    for expansion, one in zip(answer.expansions, answer.tables, strict=True):
        counts = (len(expansion.cells), len(one.runs), _done(one.runs), len(one.missing))
        costs = (_number(hours(one.missing)), _number(hours(one.beyond)), f"{disk(one.missing) / 1e9:.2f}")
        grid.add_row(one.table, *map(str, counts), *costs)
    _print_grid(grid)


def _grid(texts: Sequence[str], numbers: Sequence[str]) -> Grid:
    grid = Grid(box=None, pad_edge=False)
    for name in texts:
        grid.add_column(name, no_wrap=True)
    for name in numbers:
        grid.add_column(name, justify="right", no_wrap=True)
    return grid


def _print_grid(grid: Grid) -> None:
    Console(width=None if sys.stdout.isatty() else 160).print(grid)


def _done(runs: Sequence[Planned]) -> int:
    return sum(run.finished for run in runs)


def _speeds(made: Plan) -> dict[Form, Speed]:
    """Of every form of run that is still to do."""
    return {form: made.scale.speed(form) for form in sorted({run.cost.form for run in made.missing})}


def _speed_lines(made: Plan) -> list[str]:
    machine = made.scale.machine
    memory = f" ({machine.memory_gb:g} GB)" if machine.memory_gb else ""
    found = _speeds(made)
    told = [
        f"{machine.device}{memory}, {form.kind} of {form.encoder} at {form.image_size} px: "
        f"{speed.tflops:.3g} TFLOP/s, measured on {_count(speed.runs, 'run')}"
        for form, speed in found.items()
        if speed.runs
    ]
    if any(not speed.runs for speed in found.values()):
        share = f"{machine.assumed_fraction:.3g} of its {machine.assumed_precision} peak"
        told.append(
            f"{machine.device}{memory}, what has not finished on it yet: {machine.assumed_tflops:.3g} TFLOP/s, "
            f"assumed ({share})"
        )
    return told


def _print_purchase(purchase: Purchase, device: str) -> None:
    many = len(purchase.bought)
    say(f"{purchase.budget:g} {device} hours complete {_count(many, 'table')}{', cheapest first:' * (many > 0)}")
    if many:
        grid = _grid(["table"], ["to run", f"{device} hours", "all so far"])
        so_far: list[Planned] = []
        for one in purchase.bought:
            so_far += one.beyond
            grid.add_row(one.table, str(len(one.beyond)), _number(hours(one.beyond)), _number(hours(so_far)))
        _print_grid(grid)
    say(f"{_number(hours(purchase.runs))} {device} hours are spent, {_number(purchase.over)} are left over")
    if purchase.left:
        say("left out, and what each would take beyond what is bought:")
        grid = _grid(["table"], ["to run", f"{device} hours", "above what is left over"])
        for one in purchase.left:
            more = hours(one.beyond)
            grid.add_row(one.table, str(len(one.beyond)), _number(more), _number(more - purchase.over))
        _print_grid(grid)


def _wall_line(answer: _Answer, cluster: Cluster) -> str:
    todo, wall = answer.todo, wall_hours(answer.todo, cluster)
    return (
        f"{cluster.gpus} x {answer.plan.scale.machine.device}, {cluster.gpus_per_run} a run: {_number(wall)} hours for "
        f"{_count(len(todo), 'run')}, at most {cluster.places} at once; "
        f"a device works {_busy(todo, wall, cluster):.0%} of that time"
    )


def _busy(todo: Sequence[Planned], wall: float, cluster: Cluster) -> float:
    return hours(todo) / (wall * cluster.gpus) if wall else 0.0


def _declared_line(expansions: Sequence[Expansion]) -> str:
    cells = sum(len(expansion.cells) for expansion in expansions)
    most = max(len(expansion.seeds) for expansion in expansions)
    return f"{_count(len(expansions), 'table')}, {_count(cells, 'cell')}, {_count(most, 'seed')}"


def _totals_line(made: Plan) -> str:
    pretrainings, evaluations = _kinds(made)
    return (
        f"{_count(pretrainings, 'pretraining')} and {_count(evaluations, 'evaluation')} "
        f"({made.shared} saved by sharing); "
        f"{_done(made.runs)} finished, {len(made.missing)} to run: {_number(hours(made.missing))} "
        f"{made.scale.machine.device} hours{_basis(made)}, {disk(made.missing) / 1e9:.2f} GB of disk"
    )


def _kinds(made: Plan) -> tuple[int, int]:
    """How many runs wait for nothing, the pretrainings, and how many evaluate something."""
    evaluations = sum(subject_of(run.spec) is not None for run in made.runs)
    return len(made.runs) - evaluations, evaluations


def _basis(made: Plan) -> str:
    """What the hours rest on."""
    found = _speeds(made).values()
    measured, assumed = sum(speed.runs for speed in found), any(not speed.runs for speed in found)
    if not measured:
        return " (assumed speed)" if assumed else ""
    return f" (measured on {_count(measured, 'run')}{', in part assumed' if assumed else ''})"


def _number(value: float) -> str:
    """Hours; of less than one the first two digits that say something."""
    return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:#.2g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _data(answer: _Answer) -> dict[str, Any]:
    """docs/planning.md describes every name."""
    made, machine = answer.plan, answer.plan.scale.machine
    pretrainings, evaluations = _kinds(made)
    return {
        "profile": made.profile,
        "machine": {
            "device": machine.device,
            "memory_gb": machine.memory_gb,
            "assumed_tflops": machine.assumed_tflops,
            "assumed_precision": machine.assumed_precision,
        },
        "speeds": [
            {**form._asdict(), "tflops": speed.tflops, "measured_runs": speed.runs}
            for form, speed in _speeds(made).items()
        ],
        "pretrainings": pretrainings,
        "evaluations": evaluations,
        "shared": made.shared,
        "done": _done(made.runs),
        "to_run": len(made.missing),
        "gpu_hours": hours(made.missing),
        "disk_bytes": disk(made.missing),
        "tables": [_table_data(one) for one in zip(answer.expansions, answer.tables, strict=True)],
        "budget": None if answer.purchase is None else _purchase_data(answer.purchase),
        "cluster": None if answer.cluster is None else _cluster_data(answer.todo, answer.cluster),
        "runs": [_run_data(run) for run in made.runs],
    }


def _table_data(declared: tuple[Expansion, Completion]) -> dict[str, Any]:
    expansion, one = declared
    return {
        "table": one.table,
        "cells": len(expansion.cells),
        "seeds": len(expansion.seeds),
        "runs": len(one.runs),
        "done": _done(one.runs),
        "to_run": len(one.missing),
        "gpu_hours": hours(one.missing),
        "disk_bytes": disk(one.missing),
        "beyond_to_run": len(one.beyond),
        "beyond_gpu_hours": hours(one.beyond),
        "beyond_disk_bytes": disk(one.beyond),
    }


def _purchase_data(purchase: Purchase) -> dict[str, Any]:
    return {
        "gpu_hours": purchase.budget,
        "spent_gpu_hours": hours(purchase.runs),
        "bought": [
            {"table": one.table, "to_run": len(one.beyond), "gpu_hours": hours(one.beyond)} for one in purchase.bought
        ],
        "left_out": [
            {
                "table": one.table,
                "to_run": len(one.beyond),
                "gpu_hours": hours(one.beyond),
                "short_gpu_hours": hours(one.beyond) - purchase.over,
            }
            for one in purchase.left
        ],
    }


def _cluster_data(todo: Sequence[Planned], cluster: Cluster) -> dict[str, Any]:
    wall = wall_hours(todo, cluster)
    return {
        "gpus": cluster.gpus,
        "gpus_per_run": cluster.gpus_per_run,
        "runs": len(todo),
        "wall_hours": wall,
        "busy_fraction": _busy(todo, wall, cluster),
    }


def _run_data(run: Planned) -> dict[str, Any]:
    return {
        "key": run.key,
        "kind": run.kind,
        "cells": run.cells,
        "seed": run.seed,
        "state": run.status,
        "flops": run.cost.flops,
        "gpu_hours": run.cost.device_hours,
        "disk_bytes": run.cost.disk_bytes,
    }


def status(names: Sequence[str], profile: str, seeds: int | None, cell: str | None, json: bool) -> int:
    """How far every run is, whoever runs it."""
    here = site()
    expansions = expansions_of(asked_for(names), profile, seeds, cell)
    board = lines(plan_of(expansions, profile, here), here.runs)
    if json:
        return print_json(
            [
                {"key": x.run.key, "run": title(x.run), "state": x.status, "share": x.share, "eta_s": x.eta_s}
                for x in board
            ]
        )
    for line in board:
        eta = f", about {duration(line.eta_s)} to go" if line.status == "running" else ""
        say(f"{line.status:12} {line.share:4.0%}  {title(line.run)}{eta}")
    say(summary(board, 0.0, None).split(";")[0])
    return 0
