"""Say whether what was asked for can run here, before it is started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby

from rich.console import Console
from rich.text import Text

from harness.commands.chosen import asked_for, expansions_of, plan_of, print_json
from harness.commands.prepared import counted_datasets
from harness.config.files import read_profile
from harness.config.finding import Finding, fail
from harness.config.masked import masked
from harness.launch.doctor.checks import SECONDS, Check, begin, examine
from harness.launch.doctor.examination import examination
from harness.launch.doctor.node import STORAGE_REMEDY
from harness.launch.site import site

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}
TRACKING_REMEDY = "see whether the server or database at MLFLOW_TRACKING_URI answers"


def doctor(names: Sequence[str], profile: str, seeds: int | None, cell: str | None, json: bool) -> int:
    """One line a check; 1 where one fails."""
    looking = (_fit_to_be_said(found) for found in _findings(names, profile, seeds, cell))
    if json:
        findings = list(looking)
        print_json([asdict(found) for found in findings])
    else:
        findings = list(_printed(looking))
    return 1 if any(found.state == "fail" for found in findings) else 0


def _findings(names: Sequence[str], profile: str, seeds: int | None, cell: str | None) -> Iterator[Finding]:
    asked = asked_for(names)
    expansions = expansions_of(asked, profile, seeds, cell)
    machine = read_profile(profile)[0].machine
    counted = counted_datasets(asked.tables, profile).values()
    try:
        here = begin(site).result(SECONDS)
    except TimeoutError:  # a path is resolved on its storage
        yield fail("site", f"HARNESS_HOME or HARNESS_DATA did not answer within {SECONDS:g} s", STORAGE_REMEDY)
        return
    plan = begin(lambda: plan_of(expansions, profile, here, measured=False))
    tracking = Check("mlflow", partial(_tracking, here.tracking_uri), TRACKING_REMEDY)
    yield from examine([*examination(plan, machine, counted, here), tracking])


def _tracking(uri: str) -> Finding:
    from harness.tracking.health import health  # noqa: PLC0415  # MLflow: seconds

    return health(uri)


def _fit_to_be_said(found: Finding) -> Finding:
    return replace(found, found=masked(found.found), remedy=masked(found.remedy))


def _printed(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Each as soon as it is found; nodes on which all is well in one line."""
    console, states = Console(), Counter[str]()
    for (name, state, _), alike in groupby(findings, lambda one: (one.name, one.state, one.state == "ok" or one)):
        group = list(alike)
        states[state] += len(group)
        first = group[0]
        where = f" on {first.node}" if first.node else ""
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        line = Text(f"{state:5}", style=COLOURS[state])
        line.append(f"{name}{where}{more}: {first.found}", style="default")
        line.append(f"; {first.remedy}" if first.remedy else "", style="default")
        console.print(line, soft_wrap=True)
        yield from group
    console.print(", ".join(f"{states[state]} {state}" for state in COLOURS))
