"""Runs what a plan misses: one Tune trial an attempt at a run."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.errors import ConfigError
from harness.config.identity import run_key
from harness.config.schema import Imported, Tried
from harness.launch.board import Board
from harness.launch.cluster import connected
from harness.launch.ending import KEPT, Ending
from harness.launch.head import LOST_SECONDS, Watch
from harness.launch.nodes import anchor, living
from harness.launch.place import Place
from harness.launch.plan import Plan, Planned, Status, status
from harness.launch.site import Site, commit
from harness.tracking.record import FINISHED, Runs

if TYPE_CHECKING:  # they bring the rest of Ray
    from harness.launch.attempts import Attempts
    from harness.launch.frontier import Frontier


@dataclass(frozen=True)
class Outcome:
    """What a sweep left undone, and where its time went."""

    failed: tuple[Planned, ...]
    skipped: tuple[Planned, ...]
    reasons: dict[str, str]  # by key, of the runs that have had all their attempts here
    start_s: float
    sweep_s: float


def sweep(plan: Plan, site: Site, say: Callable[[str], None]) -> Outcome:
    """Bring every missing run of the plan to its end. What was earned stays, whatever happens to this process.

    Raises Ended, a KeyboardInterrupt, where a signal asks for an end.
    """
    started = time.monotonic()
    check_imported(plan, site.runs)
    with Ending() as ending, connected(site.ray_address) as nodes:
        # Ray is imported by now: these modules bring the rest of it.
        from harness.launch.attempts import Attempts  # noqa: PLC0415
        from harness.launch.frontier import Frontier  # noqa: PLC0415
        from harness.launch.room import check_fits  # noqa: PLC0415
        from harness.launch.share import demands  # noqa: PLC0415
        from harness.launch.specs import write_spec  # noqa: PLC0415

        asked = demands(plan, site, gpus=sum(int(node.get("GPU", 0)) for node in nodes))
        check_fits(nodes, asked.values())
        for spec in (*plan.subjects.values(), *(run.spec for run in plan.runs)):
            write_spec(site.runs, spec)
        look, attempts = partial(_standing, site.runs), Attempts(site.runs)
        frontier = Frontier(plan.missing, _finished(plan), look, asked, living, attempts, say)
        begun = time.monotonic()
        site.ray.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            scratch = held.enter_context(tempfile.TemporaryDirectory(prefix="sweep-", dir=site.ray))
            held.enter_context(Board(plan, site.runs, say))
            held.enter_context(Watch(anchor(), partial(_headless, held)))
            stop = Path(scratch) / "stop"
            ending.spare(stop, frontier.close, say)
            # An idle actor keeps its share, until Tune wants to start another trial: a trial whose workers have yet
            # to find room, which Tune does not know, would wait for it for ever.
            reuse = all(one.workers == 1 for one in asked.values())
            _tune(frontier, attempts, replace(_place(site), stop=str(stop)), scratch, reuse)
        ended = time.monotonic()
        ending.check()
    told = {run.key for run in (*frontier.failed, *frontier.skipped)}
    if any(look(run) not in (*FINISHED, "failed") for run in plan.missing if run.key not in told):
        raise KeyboardInterrupt  # Tune ends quietly when it is interrupted
    reasons = {run.key: attempts.told(run.key) for run in frontier.failed if attempts.spent(run.key)}
    return Outcome(tuple(frontier.failed), tuple(frontier.skipped), reasons, begun - started, ended - begun)


def _tune(frontier: Frontier, attempts: Attempts, place: Place, scratch: str, reuse: bool) -> None:
    """Have Tune make one trial of each suggestion, until the frontier has no more."""
    from ray import tune  # noqa: PLC0415  # Ray has started by now

    from harness.launch.attempts import Noting  # noqa: PLC0415  # likewise
    from harness.launch.worker import resources, trial  # noqa: PLC0415  # likewise

    tune.Tuner(
        tune.with_resources(partial(trial, place=place, scratch=scratch), resources),
        tune_config=tune.TuneConfig(
            search_alg=frontier,  # which counts what fits into the living nodes: no other limit is set
            num_samples=-1,  # until the frontier says that nothing is left
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=scratch,  # the records are the state: nothing of Tune's needs to last
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),  # it would count a lost node as it does a run's error
            callbacks=[Noting(attempts)],
        ),
    ).fit()


def _headless(held: ExitStack) -> None:
    """Ray's own calls, which the main thread may be in, would not come back: this process ends here."""
    with suppress(OSError):  # Tune may write into the folder that is being removed
        held.close()
    gone = f"Ray's head, or the raylet of this machine, has been gone for {LOST_SECONDS:g} s"
    print(f"harness: {gone}, so this sweep ends; {KEPT}", file=sys.stderr, flush=True)
    os._exit(1)


def _place(site: Site) -> Place:
    return Place(
        runs=str(site.runs.path),
        data=str(site.data),
        commit=commit(),
        online_classifier=site.online_classifier,
        solver=site.solver,
        scratch=site.scratch,
    )


def _standing(runs: Runs, run: Planned) -> Status:
    return status(runs, run.key, run.spec)


def _finished(plan: Plan) -> set[str]:
    """What need not be waited for: done, untrained, imported, or a candidate that diverged."""
    done = {run.key for run in plan.runs if run.status == "done" or (run.finished and isinstance(run.spec, Tried))}
    return done | {key for key, subject in plan.subjects.items() if subject.kind != "pretrain"}


def check_imported(plan: Plan, runs: Runs) -> None:
    """An imported encoder is described with the tables, but its tensors are where it was imported."""
    for run in plan.missing:
        subject = plan.subjects.get(getattr(run.spec, "subject", ""))
        if isinstance(subject, Imported) and not (runs.folder(run_key(subject)) / "encoder.safetensors").exists():
            remedy = "`harness import` its file again, under the name that the table uses"
            raise ConfigError(f"{run.cells[0]}: its imported encoder is not in {runs.path}; {remedy}")
