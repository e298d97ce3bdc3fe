"""What would run, what it costs, and how far it is."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from harness.commands.chosen import expansions_of, plan_of, print_json, say
from harness.config.files import read_profile
from harness.launch.board import duration, lines, summary, title
from harness.launch.plan import Plan
from harness.launch.site import site


def plan(table: str, profile: str, seeds: int | None, cell: str | None, json: bool) -> int:
    """Every run, its state and its cost."""
    expansions = expansions_of(table, profile, seeds, cell)
    made = plan_of(expansions, site())
    if json:
        return print_json(_plan_data(made))
    machine = read_profile(profile)[0].machine
    grid = Grid(box=None, pad_edge=False)
    for name in ("run", "key", "state", "PFLOP", f"{machine.device} hours", "disk MB"):
        grid.add_column(name, justify="left" if name in ("run", "key", "state") else "right", no_wrap=True)
    for one in made.runs:
        numbers = (f"{one.cost.flops / 1e15:.3g}", f"{one.cost.device_hours:.2f}", f"{one.cost.disk_bytes / 1e6:.0f}")
        grid.add_row(title(one), one.key, one.status, *numbers)
    Console(width=None if sys.stdout.isatty() else 160).print(grid)
    pretrainings, evaluations = made.of_kind("pretrain"), made.of_kind("linear")
    hours = sum(one.cost.device_hours for one in made.missing)
    disk = sum(one.cost.disk_bytes for one in made.missing)
    cells = sum(len(expansion.cells) for expansion in expansions)
    most = max(len(expansion.seeds) for expansion in expansions)
    say(f"{len(expansions)} table{'s' * (len(expansions) > 1)}, {cells} cells, {most} seed{'s' * (most > 1)}")
    say(
        f"{len(pretrainings)} pretrainings and {len(evaluations)} evaluations ({made.wanted - len(made.runs)} saved by "
        f"sharing); {len(made.runs) - len(made.missing)} finished, {len(made.missing)} to run: "
        f"{hours:.2f} {machine.device} hours at {machine.sustained_tflops:g} TFLOP/s, {disk / 1e9:.2f} GB of disk"
    )
    return 0


def _plan_data(made: Plan) -> dict[str, Any]:
    runs = [
        {
            "key": one.key,
            "kind": one.kind,
            "cells": one.cells,
            "seed": one.seed,
            "state": one.status,
            **asdict(one.cost),
        }
        for one in made.runs
    ]
    return {"profile": made.profile, "runs": runs, "shared": made.wanted - len(made.runs)}


def status(table: str, profile: str, seeds: int | None, cell: str | None, json: bool) -> int:
    """How far every run is, whoever runs it."""
    here = site()
    board = lines(plan_of(expansions_of(table, profile, seeds, cell), here), here.runs)
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
