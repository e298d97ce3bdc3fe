"""What a command was asked for: tables and figures, their runs, and the words it says."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.config.errors import ConfigError
from harness.config.expand import Expansion, expand
from harness.config.files import profile_names, read_profile, table_ids
from harness.config.structure import unknown
from harness.launch.cost import Scale
from harness.launch.machines import machine_named
from harness.launch.measured import speeds
from harness.launch.plan import Plan, make_plan
from harness.launch.site import Site
from harness.reporting.figure_layout import read_figure
from harness.reporting.figures import figure_ids
from harness.reporting.layout import layout_ids
from harness.tracking.record import RecordError


def say(line: str) -> None:
    print(line, flush=True)


def warn(line: str) -> None:
    print(f"harness: {line}", file=sys.stderr, flush=True)


def print_json(value: object) -> int:
    print(json.dumps(value, indent=1))
    return 0


@dataclass(frozen=True)
class Asked:
    """Tables and figures by id, each once, in the order they were named. everything: all of both, and the page."""

    tables: tuple[str, ...]
    figures: tuple[str, ...]
    everything: bool = False


def asked_for(names: Sequence[str]) -> Asked:
    """`table5b` and `5b` are one table, `table14` all its parts; `tables`, or no name at all, is everything."""
    tables: list[str] = []
    figures: list[str] = []
    for name in names or ["tables"]:
        if name in ("tables", "figures"):
            tables += layout_ids() if name == "tables" else []
            figures += figure_ids()
        elif name.startswith("figure"):
            figures += _parts(name.removeprefix("figure"), figure_ids(), "figure")
        else:
            tables += _parts(name.removeprefix("table"), layout_ids(), "table")
    return Asked(tuple(dict.fromkeys(tables)), tuple(dict.fromkeys(figures)), not names or "tables" in names)


def _parts(wanted: str, known: Sequence[str], what: str) -> list[str]:
    parts = [one for one in known if one == wanted or (one[:-1] == wanted and one[-1].isalpha())]
    if not parts:
        raise ConfigError(unknown(wanted, known, what))
    return parts


def expansions_of(asked: Asked, profile: str, seeds: int | None, cell: str | None) -> list[Expansion]:
    """The runs of the tables, and of the cells that figures show of others. Some tables have no runs declared."""
    known = table_ids()
    found = {table: expand(table, profile, seeds, cell) for table in asked.tables if table in known}
    if cell is not None and not found:
        raise ConfigError(f"no runs are declared for table {', '.join(asked.tables)}, so it has no cell to choose")
    for figure in asked.figures:
        shown = [one for one in read_figure(figure)[0].asks() if one.table in known and one.table not in asked.tables]
        for table in dict.fromkeys(one.table for one in shown):
            cells = {one.cell for one in shown if one.table == table}
            before = found[table].cells if table in found else ()
            found[table] = _restricted(expand(table, profile, seeds), cells.union(before))
    return list(found.values())


def _restricted(expansion: Expansion, cells: set[str]) -> Expansion:
    members = tuple(member for member in expansion.members if member.cell in cells)
    return replace(expansion, cells=tuple(cell for cell in expansion.cells if cell in cells), members=members)


def plan_of(
    expansions: Sequence[Expansion], profile: str, here: Site, gpu: str | None = None, measured: bool = True
) -> Plan:
    """What the tables need, reckoned on the machine called `gpu`, or on the profile's.

    measured: on what finished runs took; without, no record but the tables' own is read.
    """
    file, document = read_profile(profile)
    machine = machine_named(gpu, "--gpu") if gpu else machine_named(file.machine, document.where("machine"))
    made = make_plan(expansions, here.runs, Scale(machine, speeds(here.runs, machine) if measured else {}))
    for run in made.runs:
        if run.status == "unreadable":
            _warn_of_record(run.key, here)
    return made


def _warn_of_record(key: str, here: Site) -> None:
    """Name a record that is nonsense; its run is set aside and the rest goes on."""
    try:
        here.runs.read(key)
    except RecordError as error:
        warn(str(error))


def all_plans(here: Site) -> list[Plan]:
    """Every table at every profile."""
    return [
        plan_of([expand(table, one) for table in table_ids()], one, here, measured=False) for one in profile_names()
    ]
