"""Runs what a plan misses: one Tune trial a run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from harness.config.errors import ConfigError
from harness.config.identity import run_key
from harness.config.schema import Imported
from harness.launch.board import Board
from harness.launch.cluster import connected
from harness.launch.plan import Plan, Planned, status
from harness.launch.site import Site, commit
from harness.tracking.record import FINISHED, Runs

RETRIES = 2  # of a run that raised; it goes on from its last checkpoint
DRIVER = {"cpu": 0, "memory": 2**20}  # of a trial whose workers do the work: no share of a core that they may need


@dataclass(frozen=True)
class Outcome:
    """What a sweep left undone, and where its time went."""

    failed: tuple[Planned, ...]
    skipped: tuple[Planned, ...]
    reasons: dict[str, str]  # by key, of failures that left none in their record
    start_s: float
    sweep_s: float


def sweep(plan: Plan, site: Site, say: Callable[[str], None]) -> Outcome:
    """Bring every missing run of the plan to its end. What was earned stays, whatever happens to this process."""
    started = time.monotonic()
    check_imported(plan, site.runs)
    with connected(site.ray_address) as nodes:
        # Ray is imported by now: these modules bring the rest of it.
        from ray import tune  # noqa: PLC0415

        from harness.launch.frontier import Frontier  # noqa: PLC0415
        from harness.launch.place import Place  # noqa: PLC0415
        from harness.launch.specs import write_spec  # noqa: PLC0415
        from harness.launch.worker import Workers, trial  # noqa: PLC0415

        workers = Workers(number=site.workers, gpu=any(node.get("GPU", 0) > 0 for node in nodes))
        concurrent = _concurrent(nodes, workers.number, site.threads, workers.gpu)
        for spec in (*plan.subjects.values(), *(run.spec for run in plan.runs)):
            write_spec(site.runs, spec)
        place = Place(
            runs=str(site.runs.path),
            data=str(site.data),
            commit=commit(),
            threads=site.threads,
            online_classifier=site.online_classifier,
        )
        frontier = Frontier(plan.missing, _finished(plan), lambda run: status(site.runs, run.key, run.spec))
        begun = time.monotonic()
        site.ray.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="sweep-", dir=site.ray) as scratch, Board(plan, site.runs, say):
            ended_trials = tune.Tuner(
                tune.with_resources(
                    partial(trial, place=place, workers=workers, scratch=scratch),
                    {"cpu": site.threads} if workers.in_trial else DRIVER,
                ),
                tune_config=tune.TuneConfig(
                    search_alg=frontier,
                    num_samples=-1,  # until the frontier says that nothing is left
                    max_concurrent_trials=concurrent,
                    reuse_actors=workers.in_trial,
                ),
                run_config=tune.RunConfig(
                    name="sweep",
                    storage_path=scratch,  # the records are the state: nothing of Tune's needs to last
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=RETRIES),
                ),
            ).fit()
        ended = time.monotonic()
    told = {run.key for run in (*frontier.failed, *frontier.skipped)}
    if any(not _ended(site.runs, run) for run in plan.missing if run.key not in told):
        raise KeyboardInterrupt  # Tune ends quietly when it is interrupted
    reasons = {
        result.config["key"]: str(result.error).strip().splitlines()[-1]
        for result in ended_trials
        if result.error is not None and result.config
    }
    return Outcome(tuple(frontier.failed), tuple(frontier.skipped), reasons, begun - started, ended - begun)


def _ended(runs: Runs, run: Planned) -> bool:
    return status(runs, run.key, run.spec) in (*FINISHED, "failed")


def _finished(plan: Plan) -> set[str]:
    """What need not be waited for: done, untrained, imported, or a candidate that diverged."""
    done = {run.key for run in plan.runs if run.status == "done" or (run.finished and run.kind == "finetune")}
    return done | {key for key, subject in plan.subjects.items() if subject.kind != "pretrain"}


def check_imported(plan: Plan, runs: Runs) -> None:
    """An imported encoder is described with the tables, but its tensors are where it was imported."""
    for run in plan.missing:
        subject = plan.subjects.get(getattr(run.spec, "subject", ""))
        if isinstance(subject, Imported) and not (runs.folder(run_key(subject)) / "encoder.safetensors").exists():
            remedy = "`harness import` its file again, under the name that the table uses"
            raise ConfigError(f"{run.cells[0]}: its imported encoder is not in {runs.path}; {remedy}")


def _concurrent(nodes: list[dict[str, float]], number: int, threads: int, gpu: bool) -> int:
    """How many runs fit at once; a request that never fits is said now, not waited for."""
    need = {"CPU": float(threads)} | ({"GPU": 1.0} if gpu else {})  # of a worker, which has to fit on one node
    places = sum(min(int(node.get(name, 0.0) // amount) for name, amount in need.items()) for node in nodes)
    if places < number:
        asked = " and ".join(f"{amount:g} {name}" for name, amount in need.items())
        has = "; ".join(" and ".join(f"{node.get(name, 0):g} {name}" for name in need) for node in nodes)
        raise ConfigError(
            f"a run asks for {number} workers of {asked} each, but Ray's nodes have {has}: room for {places}; "
            "lower HARNESS_WORKERS or HARNESS_THREADS"
        )
    return places // number
