"""Brings one run to its end, here, in this process: the body of every trial and of `harness train`.

Imports torch but neither Ray nor MLflow, so that a bare GPU machine can run it.
"""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from harness.config.schema import Linear
from harness.launch.begun import Begun, begin
from harness.launch.kinds import carry_out
from harness.launch.observer import unasked
from harness.launch.place import Place
from harness.launch.together import evaluate, join
from harness.tracking.lease import BusyError, Lease, LeaseLostError
from harness.tracking.record import FINISHED, Record, Runs
from harness.training.loop import Diverged, Stopped
from harness.training.ranks import from_rank_0, world_and_rank

FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(RuntimeError):
    """What was earned before is safe; the run goes on from its last checkpoint when there is space again."""


def execute(key: str, place: Place, companions: Sequence[str] = (), asked: Callable[[], bool] = unasked) -> Record:
    """Run the spec of `key` to its end, from its last checkpoint where there is one, and write its record.

    Raises BusyError where another process works on it, and Stopped where `asked` or place.stop ask for an end: the
    record then says what it said, and the run goes on from what it has kept. Every rank calls this; rank 0 holds the
    lease and writes. `companions` are linear evaluations on the same features; those that can go along end here too.
    """
    torch.set_num_threads(place.threads)
    runs = Runs(Path(place.runs))
    lease = Lease(runs.folder(key))
    if not from_rank_0(lease.acquire):
        raise BusyError(f"{runs.folder(key)} is being worked on by another process")
    leases = [lease]
    try:
        known = runs.read(key)
        if known is not None and known.state in FINISHED:  # by another sweep, since this one was planned
            return known
        begun = [begin(key, place, lease, asked)]
        for companion in companions:
            theirs = join(begun[0], companion)
            if theirs is not None:
                leases.append(theirs)
                begun.append(begin(companion, place, theirs, asked))
        return _work(begun, place)
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(f"no space is left for {runs.path}; free some, and the same command goes on") from error
        raise
    finally:
        if world_and_rank()[1] == 0:  # no collective: the other ranks may have failed
            for held in leases:
                held.release()


def _work(begun: Sequence[Begun], place: Place) -> Record:
    """Bring all to their ends; returns the record of the first."""
    ended: dict[str, Record] = {}
    try:
        for one, record in _ends(begun, place):
            ended[one.record.key] = one.end(record)
    except (LeaseLostError, Stopped):  # whoever takes the run up will say how it ends
        raise
    except Exception as error:
        if world_and_rank()[1] == 0:
            for one in begun:
                if one.record.key not in ended:
                    _failed(one, error, traceback.format_exc())
        raise
    return ended[begun[0].record.key]


def _ends(begun: Sequence[Begun], place: Place) -> Iterator[tuple[Begun, Record]]:
    """Each run with its record, as soon as it ends."""
    first = begun[0]
    if isinstance(first.spec, Linear):
        yield from evaluate(begun, place)
        return
    try:
        yield first, carry_out(first.spec, first.record, place, first.observer)
    except Diverged as end:
        yield first, first.diverged(end)


def _failed(one: Begun, error: Exception, trace: str) -> None:
    one.lease.check()
    with suppress(OSError):  # a full disk takes no last words; the caller hears the error itself
        (one.folder / "traceback.txt").write_text(trace, encoding="utf-8")
        fail(one.runs, one.record.key, f"{type(error).__name__}: {error}")


def fail(runs: Runs, key: str, error: str) -> None:
    """Write into the record of a running task why it ended; one that has ended keeps what it says."""
    record = runs.read(key)
    if record is not None and record.state == "running":
        runs.write(record.ended("failed", time.time(), error=error))
