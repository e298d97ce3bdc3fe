"""Brings one run to its end, here, in this process: the body of every trial and of `harness train`.

Imports torch but neither Ray nor MLflow, so that a bare GPU machine can run it.
"""

from __future__ import annotations

import errno
import math
import platform
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from harness.config.identity import plain
from harness.launch.kinds import carry_out
from harness.launch.observer import Observer
from harness.launch.place import Place
from harness.launch.specs import read_spec
from harness.tracking.lease import BusyError, Lease
from harness.tracking.record import FINISHED, Record, Runs
from harness.training import loop
from harness.training.ranks import from_rank_0, world_and_rank

FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(RuntimeError):
    """What was earned before is safe; the run goes on from its last checkpoint when there is space again."""


def execute(key: str, place: Place) -> Record:
    """Run the spec of `key` to its end, from its last checkpoint where there is one, and write its record.

    Raises BusyError where another process works on it. Every rank calls this; rank 0 holds the lease and writes.
    """
    torch.set_num_threads(place.threads)
    runs = Runs(Path(place.runs))
    lease = Lease(runs.folder(key))
    if not from_rank_0(lease.acquire):
        raise BusyError(f"{runs.folder(key)} is being worked on by another process")
    try:
        known = runs.read(key)
        if known is not None and known.state in FINISHED:  # by another sweep, since this one was planned
            return known
        return _work(key, place, lease)
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(f"no space is left for {runs.path}; free some, and the same command goes on") from error
        raise
    finally:
        if world_and_rank()[1] == 0:  # no collective: the other ranks may have failed
            lease.release()


def _work(key: str, place: Place, lease: Lease) -> Record:
    runs = Runs(Path(place.runs))
    spec = read_spec(runs, key)
    world, rank = world_and_rank()
    started_unix_s = from_rank_0(lambda: _started(runs, key))
    observer = Observer(runs.folder(key), lease.check)
    record = Record(
        key=key,
        kind=spec.kind,
        state="running",
        spec=plain(spec),
        commit=place.commit,
        environment=_environment(place, world),
        started_unix_s=started_unix_s,
    )
    if rank == 0:
        runs.write(record)
    try:
        record = carry_out(spec, record, place, observer)
    except loop.Diverged as end:
        diagnostics = {f"{spec.kind}.{name}": value for name, value in end.diagnostics.items()}
        record = replace(record, state="diverged", error=str(end), results=_finite(diagnostics))
    except Exception as error:
        if rank == 0:
            lease.check()
            with suppress(OSError):  # a full disk takes no last words; the caller hears the error itself
                (runs.folder(key) / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
                fail(runs, key, f"{type(error).__name__}: {error}")
        raise
    cost = {"wall_s": observer.spent_s, "worker_s": observer.spent_s * world} | record.cost
    record = record.ended(record.state, time.time(), cost=cost, notes=tuple(observer.notes))
    if rank == 0:
        lease.check()
        runs.write(record)
    return record


def _started(runs: Runs, key: str) -> float:
    """When this run began: a resumed one when it first did; one after a retired one begins anew."""
    known = runs.read(key)
    if known is not None and known.state == "retired":
        runs.archive(key)
        known = None
    return time.time() if known is None else known.started_unix_s


def fail(runs: Runs, key: str, error: str) -> None:
    """Write into the record of a running task why it ended; one that has ended keeps what it says."""
    record = runs.read(key)
    if record is not None and record.state == "running":
        runs.write(record.ended("failed", time.time(), error=error))


def _environment(place: Place, world: int) -> dict[str, object]:
    """What may move a number in its last digits."""
    device = torch.device(place.device)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": place.threads,
        "world": world,
    }


def _finite(numbers: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if math.isfinite(value)}
