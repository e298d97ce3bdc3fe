"""What each verb does, in terms of the rooms."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as Grid

from harness.config.errors import ConfigError
from harness.config.expand import Expansion, declared_cells, expand
from harness.config.files import profile_names, project_root, read_profile, table_ids
from harness.config.structure import unknown
from harness.launch import housekeeping
from harness.launch.board import duration, lines, summary, title
from harness.launch.cost import Scale
from harness.launch.plan import Plan, make_plan
from harness.launch.plan import status as standing
from harness.launch.site import Site, check_writable, site
from harness.reporting.aggregate import build_table
from harness.reporting.collect import collect
from harness.reporting.explain import explanation
from harness.reporting.explain import lines as explained_lines
from harness.reporting.layout import Layout, read_layout
from harness.reporting.render import render_markdown, write_table
from harness.tracking.record import RecordError
from harness.tracking.store import MemoryStore, Store, StoreError
from harness.tracking.sync import Syncer, sync

if TYPE_CHECKING:
    from harness.launch.sweep import Outcome


def say(line: str) -> None:
    print(line, flush=True)


def warn(line: str) -> None:
    print(f"harness: {line}", file=sys.stderr, flush=True)


def _tables(name: str) -> list[str]:
    """`table5b` and `5b` are one table, `table14` all its parts, `tables` every table."""
    known = table_ids()
    if name == "tables":
        return known
    wanted = name.removeprefix("table")
    parts = [table for table in known if table == wanted or (table[:-1] == wanted and table[-1].isalpha())]
    if not parts:
        raise ConfigError(unknown(wanted, known, "table"))
    return parts


def _expansions(table: str, profile: str, seeds: int | None, cell: str | None) -> list[Expansion]:
    return [expand(one, profile, seeds, cell) for one in _tables(table)]


def _plan(expansions: Sequence[Expansion], here: Site) -> Plan:
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


def run(table: str, profile: str, seeds: int | None, cell: str | None) -> int:
    """Run what is missing, then report."""
    started = time.monotonic()
    here = site()
    check_writable(here)
    expansions = _expansions(table, profile, seeds, cell)
    layouts = _layouts(expansions)  # a mistake in them must show before hours of training
    plan = _plan(expansions, here)
    failed = False
    if plan.missing:
        _ready_data(plan, here)
        ready_s = time.monotonic() - started
        outcome = _sweep(plan, here)
        failed = bool(outcome.failed or outcome.skipped)
        swept = time.monotonic()
        _report(expansions, layouts, plan, here)
        _say_times(plan, here, outcome, {"data": ready_s, "report": time.monotonic() - swept})
    else:
        say(f"{sum(run.finished for run in plan.runs)} of {len(plan.runs)} runs are finished; nothing is left to run")
        _report(expansions, layouts, plan, here)
    bad = any(standing(here.runs, one.key, one.spec) in ("failed", "unreadable") for one in plan.runs)
    return 1 if failed or bad else 0


def _ready_data(plan: Plan, here: Site) -> None:
    """Generated data is written on first use; data a person must fetch is asked for by name."""
    from harness.launch import data  # noqa: PLC0415  # readers, numpy

    data.ready({run.spec.data.dataset for run in plan.missing if hasattr(run.spec, "data")}, here, say)


def _sweep(plan: Plan, here: Site) -> Outcome:
    from harness.launch.sweep import sweep  # noqa: PLC0415  # starts importing Ray

    shared = f", {plan.wanted - len(plan.runs)} shared" if plan.wanted > len(plan.runs) else ""
    done = len(plan.runs) - len(plan.missing)
    say(f"{len(plan.missing)} runs to do, {done} done{shared}; results in {here.home}")
    store = _store(here)
    labels = plan.labels()
    with Syncer(here.runs, store, [run.key for run in plan.runs], labels, warn):
        outcome = sweep(plan, here, say)
    for failure in outcome.failed:
        record = here.runs.read(failure.key)
        reason = record.error if record and record.state == "failed" else outcome.reasons.get(failure.key)
        warn(f"{title(failure)} failed: {reason or 'nobody knows why'} ({here.runs.folder(failure.key)})")
    for finished in plan.missing:
        record = here.runs.read(finished.key)
        for note in record.notes if record else ():
            warn(f"{title(finished)}: {note}")
    for skipped in outcome.skipped:
        warn(f"{title(skipped)} was not run: what it evaluates has failed")
    return outcome


def _say_times(plan: Plan, here: Site, outcome: Outcome, ours_s: dict[str, float]) -> None:
    """Where the time went; a run's seconds are a worker's, of which several go at once."""
    spent = {"pretrain": 0.0, "linear": 0.0}
    first_s = 0.0
    for planned in plan.missing:
        record = here.runs.read(planned.key)
        if record is not None:
            spent[planned.kind] += record.cost.get("wall_s", 0.0)
            first_s += record.cost.get("first_update_s", 0.0)
    say(
        f"{ours_s['data']:.0f} s data, {outcome.start_s:.0f} s start, {outcome.sweep_s:.0f} s sweep, "
        f"{ours_s['report']:.0f} s report. "
        f"Worker time: {spent['pretrain']:.0f} s pretraining and {spent['linear']:.0f} s evaluation, "
        f"of which {first_s:.0f} s until the first updates (JIT)"
    )


def _store(here: Site) -> Store:
    from harness.tracking.mlflow_store import MlflowStore, quiet  # noqa: PLC0415  # seconds to import

    quiet()
    return MlflowStore(here.tracking_uri)


def _named_before(_: str) -> None:
    """The plan has already said which records cannot be read."""


def _synced_store(plan: Plan, here: Site) -> Store:
    """The tracking store, up to date; while it does not answer, a stand-in filled from the records."""
    keys, labels = [run.key for run in plan.runs], plan.labels()
    store = _store(here)
    try:
        sync(here.runs, store, keys, labels, _named_before)
    except StoreError as error:
        warn(f"{error}; reporting from {here.runs.path}, `harness sync` sends the rest later")
        store = MemoryStore()
        sync(here.runs, store, keys, labels, _named_before)
    return store


def _layouts(expansions: Sequence[Expansion]) -> list[Layout]:
    return [read_layout(expansion.table, declared_cells(expansion.table)) for expansion in expansions]


def _report(expansions: Sequence[Expansion], layouts: Sequence[Layout], plan: Plan, here: Site) -> None:
    store = _synced_store(plan, here)
    for expansion, layout in zip(expansions, layouts, strict=True):
        table = build_table(layout, expansion, collect(expansion, store))
        folder = project_root() / "tables" / "built" / expansion.profile
        written = write_table(table, folder)
        say("")
        say(render_markdown(table))
        say(f"written: {', '.join(str(path.relative_to(project_root())) for path in written)}")


def plan(table: str, profile: str, seeds: int | None, cell: str | None, json: bool) -> int:
    """Every run, its state and its cost."""
    expansions = _expansions(table, profile, seeds, cell)
    made = _plan(expansions, site())
    if json:
        return _print_json(_plan_data(made))
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


def report(table: str, profile: str, seeds: int | None, cell: str | None) -> int:
    """Render from what is finished; starts nothing."""
    here = site()
    expansions = _expansions(table, profile, seeds, cell)
    _report(expansions, _layouts(expansions), _plan(expansions, here), here)
    return 0


def status(table: str, profile: str, seeds: int | None, cell: str | None, json: bool) -> int:
    """How far every run is, whoever runs it."""
    here = site()
    board = lines(_plan(_expansions(table, profile, seeds, cell), here), here.runs)
    if json:
        return _print_json(
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


def explain(cell: str, profile: str, json: bool) -> int:
    """The keys, runs, specs, commits, environments, seeds and costs behind a cell."""
    table, colon, name = cell.partition(":")
    tables = _tables(table)
    if not colon or len(tables) != 1:
        raise ConfigError(f"explain takes a table and a cell, as table5b:byol, not '{cell}'")
    here = site()
    expansion = expand(tables[0], profile, None, name)
    store = _synced_store(_plan([expansion], here), here)
    facts = explanation(expansion, name, collect(expansion, store)[name], here.runs, here.tracking_uri)
    if json:
        return _print_json(facts)
    for line in explained_lines(facts):
        say(line)
    return 0


def prepare(dataset: str | None, **options: Any) -> int:
    """Write a dataset's files, add lists to it, or check it; without a name, list the datasets."""
    from harness.launch import data  # noqa: PLC0415  # readers, numpy

    return data.prepare(dataset, data.Wanted(**options), site(), say)


def _all_plans(here: Site) -> list[Plan]:
    """Every table at every profile."""
    return [_plan([expand(table, profile) for table in table_ids()], here) for profile in profile_names()]


def import_encoder(file: Path, name: str) -> int:
    """Keep an encoder from elsewhere as a finished run."""
    from harness.launch import exchange  # noqa: PLC0415  # torch

    return exchange.import_encoder(file, name, site(), say)


def export_encoder(key: str, form: str, out: Path | None) -> int:
    """Write the encoder of a run for others to load."""
    from harness.launch import exchange  # noqa: PLC0415  # torch

    return exchange.export_encoder(key, form, out, site(), say)


def sync_all(rebuild: bool) -> int:
    """Send every record and spool; safe to repeat."""
    here = site()
    labels = {key: own for plan in _all_plans(here) for key, own in plan.labels().items()}
    try:
        changed = sync(here.runs, _store(here), here.runs.keys(), labels, warn, rebuild)
    except StoreError as error:
        raise ConfigError(f"{error}; nothing is lost, try again when it answers") from None
    say(f"{len(changed)} of {len(here.runs.keys())} runs sent to {here.tracking_uri}")
    return 0


def retire(key: str, reason: str) -> int:
    """Take a run out of the tables; the next sweep that needs it starts it anew."""
    here = site()
    retired = housekeeping.retire(here.runs, key, reason)
    for one in retired:
        say(f"retired {one.kind} {one.key}")
    try:
        sync(here.runs, _store(here), [one.key for one in retired], warn=warn)
    except StoreError as error:
        raise ConfigError(f"{error}; the records say retired, `harness sync` tells MLflow later") from None
    return 0


def gc(dry_run: bool) -> int:
    """Remove what no table needs at any profile."""
    here = site()
    needed = {key for plan in _all_plans(here) for key in (*(run.key for run in plan.runs), *plan.subjects)}
    rubbish = list(housekeeping.rubbish(here.runs, here.ray, needed))
    for one in rubbish:
        say(f"{one.bytes / 1e6:9.1f} MB  {one.path}  ({one.why})")
        if not dry_run:
            one.remove()
    freed = sum(one.bytes for one in rubbish)
    say(f"{freed} bytes in {len(rubbish)} places {'would be' if dry_run else 'were'} freed")
    return 0


def _print_json(value: object) -> int:
    print(json.dumps(value, indent=1))
    return 0


VERBS: dict[str, Callable[..., int]] = {
    "run": run,
    "plan": plan,
    "report": report,
    "status": status,
    "explain": explain,
    "prepare": prepare,
    "import": import_encoder,
    "export": export_encoder,
    "sync": sync_all,
    "retire": retire,
    "gc": gc,
}
