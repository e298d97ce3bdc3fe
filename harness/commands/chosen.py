"""What a command was asked for: its tables, their runs, and the words it says."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from harness.config.errors import ConfigError
from harness.config.expand import Expansion, expand
from harness.config.files import profile_names, read_profile, table_ids
from harness.config.structure import unknown
from harness.launch.cost import Scale
from harness.launch.plan import Plan, make_plan
from harness.launch.site import Site
from harness.tracking.record import RecordError


def say(line: str) -> None:
    print(line, flush=True)


def warn(line: str) -> None:
    print(f"harness: {line}", file=sys.stderr, flush=True)


def print_json(value: object) -> int:
    print(json.dumps(value, indent=1))
    return 0


def tables_named(name: str) -> list[str]:
    """`table5b` and `5b` are one table, `table14` all its parts, `tables` every table."""
    known = table_ids()
    if name == "tables":
        return known
    wanted = name.removeprefix("table")
    parts = [table for table in known if table == wanted or (table[:-1] == wanted and table[-1].isalpha())]
    if not parts:
        raise ConfigError(unknown(wanted, known, "table"))
    return parts


def expansions_of(table: str, profile: str, seeds: int | None, cell: str | None) -> list[Expansion]:
    return [expand(one, profile, seeds, cell) for one in tables_named(table)]


def plan_of(expansions: Sequence[Expansion], here: Site) -> Plan:
    profile, _ = read_profile(expansions[0].profile)
    made = make_plan(expansions, here.runs, Scale(profile.machine))
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
    return [plan_of([expand(table, profile) for table in table_ids()], here) for profile in profile_names()]
