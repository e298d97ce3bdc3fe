"""Run what is missing, then report."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from harness.commands.chosen import asked_for, expansions_of, plan_of, say, warn
from harness.commands.prepared import counted_datasets
from harness.commands.report import layouts_of, open_store, report_live
from harness.config.schema import Finetune, Pretrain
from harness.launch.board import title
from harness.launch.plan import Plan
from harness.launch.plan import status as standing
from harness.launch.site import Site, check_writable, site
from harness.tracking.sync import Syncer

if TYPE_CHECKING:
    from harness.launch.sweep import Outcome


def run(names: Sequence[str], profile: str, seeds: int | None, cell: str | None) -> int:
    """Run what is missing, then report."""
    started = time.monotonic()
    here = site()
    check_writable(here)
    asked = asked_for(names)
    expansions = expansions_of(asked, profile, seeds, cell)
    layouts = layouts_of(asked)
    plan = plan_of(expansions, profile, here)
    ready = _ready_data(plan, counted_datasets(layouts, profile).values(), here)
    outcome, ready_s = None, time.monotonic() - started
    if ready.missing:
        outcome = _sweep(ready, here)
    else:
        left = f"{len(plan.missing)} wait for data" if plan.missing else "nothing is left to run"
        say(f"{sum(run.finished for run in plan.runs)} of {len(plan.runs)} runs are finished; {left}")
    swept = time.monotonic()
    prepared = report_live(asked, layouts, expansions, plan, profile, here)
    if outcome is not None:
        _say_times(ready, here, outcome, {"data": ready_s, "report": time.monotonic() - swept})
    failed = outcome is not None and bool(outcome.failed or outcome.skipped)
    bad = any(standing(here.runs, one.key, one.spec) in ("failed", "unreadable") for one in plan.runs)
    return 1 if failed or bad or prepared.commands else 0


def _ready_data(plan: Plan, counted: Collection[str], here: Site) -> Plan:
    """Generated data is written on first use. Data that a person must fetch is asked for by name: where it is what is
    pretrained on nothing goes on, else all but the runs on it, which are left out of the plan.
    """
    wanted = {run.dataset for run in plan.missing}
    if not (wanted or counted):
        return plan
    from harness.data.catalogue import generated  # noqa: PLC0415  # readers, numpy
    from harness.launch import data  # noqa: PLC0415  # likewise

    pretrained = {run.dataset for run in plan.missing if isinstance(run.spec, Pretrain)}
    absent = data.absent(wanted, here)
    twins = {name for name in counted if generated(name)}
    data.ready(twins | wanted - (absent.keys() - pretrained), here, say)
    for why in absent.values():
        warn(f"{why}; what needs it is left out")
    rest = plan.without(absent)
    fine_tunings = [run.spec.data for run in rest.missing if isinstance(run.spec, Finetune)]
    data.check_lists({(told.dataset, told.train) for told in fine_tunings}, here)
    return rest


def _sweep(plan: Plan, here: Site) -> Outcome:
    from harness.launch.sweep import sweep  # noqa: PLC0415  # starts importing Ray

    shared = f", {plan.shared} shared" if plan.shared else ""
    done = len(plan.runs) - len(plan.missing)
    say(f"{len(plan.missing)} runs to do, {done} done{shared}; results in {here.home}")
    store = open_store(here)
    labels = plan.labels()
    with Syncer(here.runs, store, [run.key for run in plan.runs], labels, warn):
        outcome = sweep(plan, here, say)
    for failure in outcome.failed:
        record = here.runs.read(failure.key)
        reason = outcome.reasons.get(failure.key) or (record.error if record and record.state == "failed" else None)
        warn(f"{title(failure)} failed: {reason or 'nobody knows why'} ({here.runs.folder(failure.key)})")
    for finished in plan.missing:
        record = here.runs.read(finished.key)
        for note in record.notes if record else ():
            warn(f"{title(finished)}: {note}")
    for skipped in outcome.skipped:
        warn(f"{title(skipped)} was not run: what it waits for has failed")
    return outcome


def _say_times(plan: Plan, here: Site, outcome: Outcome, ours_s: dict[str, float]) -> None:
    """Where the time went; a run's seconds are a worker's, of which several go at once."""
    spent = {"pretraining": 0.0, "evaluation": 0.0}
    first_s = 0.0
    for planned in plan.missing:
        record = here.runs.read(planned.key)
        if record is not None:
            spent["pretraining" if planned.kind == "pretrain" else "evaluation"] += record.cost.get("wall_s", 0.0)
            first_s += record.cost.get("first_update_s", 0.0)
    say(
        f"{ours_s['data']:.0f} s data, {outcome.start_s:.0f} s start, {outcome.sweep_s:.0f} s sweep, "
        f"{ours_s['report']:.0f} s report. "
        f"Worker time: {spent['pretraining']:.0f} s pretraining and {spent['evaluation']:.0f} s evaluation, "
        f"of which {first_s:.0f} s until the first updates (JIT)"
    )
