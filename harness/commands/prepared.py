"""What reports are told of this machine's datasets: how many images each holds, and which a person has to prepare."""

from __future__ import annotations

from collections.abc import Iterable

from harness.config.datasets import STAND_IN
from harness.config.files import read_profile
from harness.launch.plan import Plan
from harness.launch.site import Site
from harness.reporting.described import COUNTED, DATASETS_COUNTED
from harness.reporting.prepared import Prepared


def counted_datasets(tables: Iterable[str], profile: str) -> dict[str, str]:
    """The dataset that each cell of Table 10 counts at a profile; none where Table 10 is not asked for."""
    ending = STAND_IN if read_profile(profile)[0].stand_ins else ""
    return {name: name + ending for name in DATASETS_COUNTED} if COUNTED in tables else {}


def prepared_here(tables: Iterable[str], profile: str, here: Site, plan: Plan | None) -> Prepared:
    """`plan` has the runs of the tables; None where results are read from a file."""
    wanted = counted_datasets(tables, profile)
    missing = plan.missing if plan else ()
    if not (wanted or missing):
        return Prepared()
    from harness.launch import data  # noqa: PLC0415  # readers, numpy

    counts: dict[tuple[str, str], float] = {}
    commands: dict[tuple[str, str], tuple[str, ...]] = {}
    for cell, name in wanted.items():
        found = data.counts(name, here)
        counts |= {(cell, f"split.{what}"): float(count) for what, count in found.items()}
        if not found:
            commands[COUNTED, cell] = (data.command(name),)
    lacking = data.absent({run.dataset for run in missing}, here)
    for run in missing:
        for name in run.cells if run.dataset in lacking else ():
            table, _, cell = name.removeprefix("table").partition(":")
            known = commands.get((table, cell), ())
            commands[table, cell] = tuple(dict.fromkeys((*known, data.command(run.dataset))))
    return Prepared(counts, any(name.endswith(STAND_IN) for name in wanted.values()), commands)
