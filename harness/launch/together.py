"""The body of a linear evaluation, and of its companions: one pass of the encoder, an end for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from harness.config.schema import Linear
from harness.evaluation.linear import LinearEvaluation
from harness.evaluation.sealed import Seal
from harness.launch.begun import Begun
from harness.launch.companions import stream_of
from harness.launch.encoder import encoder_of
from harness.launch.kinds import ranks_of
from harness.launch.place import Place
from harness.launch.specs import read_spec
from harness.launch.staging import dataset_of
from harness.launch.training import training_of
from harness.tracking.lease import Lease
from harness.tracking.record import FINISHED, Record, RecordError
from harness.training import loop
from harness.training.checkpoint import Checkpoints
from harness.training.ranks import from_rank_0


def evaluate(evaluations: Sequence[Begun], place: Place) -> Iterator[tuple[Begun, Record]]:
    """Train the layers of all on the features that the first one feeds; each comes back with its record as it ends.

    Checkpoints, spool, choice and scores of each are in its own folder, and what they would be if it were alone.
    """
    first, runs = evaluations[0].spec, evaluations[0].runs
    assert isinstance(first, Linear)
    dataset = dataset_of(first.data.dataset, place, evaluations[0].observer)
    ranks, encoder = ranks_of(first, runs), encoder_of(runs, first.subject)
    device = torch.device(place.device)
    going: dict[loop.Training, tuple[Begun, LinearEvaluation]] = {}
    with ExitStack() as held:
        _share(evaluations)
        for one in evaluations:
            assert isinstance(one.spec, Linear)
            task = LinearEvaluation(one.spec, encoder, dataset, device, ranks, place.threads)
            held.callback(task.close)
            going[training_of(task, one.folder, place, one.observer, ranks)] = one, task
        for training, end in loop.together(list(going)):
            one, _ = going.pop(training)
            yield one, one.diverged(end)
            _share([other for other, _ in going.values()])
        while going:
            one, task = going.pop(next(iter(going)))
            yield one, _scored(one, task)
            _share([other for other, _ in going.values()])


def _scored(one: Begun, task: LinearEvaluation) -> Record:
    scores = task.score(Seal(one.folder))
    done = replace(one.record, state="done", results=scores.results, selection=dict(scores.selection))
    return replace(done, cost={"first_update_s": one.observer.first_update_s, "updates": float(task.total)})


def _share(going: Sequence[Begun]) -> None:
    """From now on the time that passes is that of all that are still going."""
    for one in going:
        one.observer.share(len(going))


def join(leader: Begun, key: str) -> Lease | None:
    """The lease of the run of `key`, if it can go along with the leader; None where it has to go alone.

    It goes along if nobody works on it, it has not ended, and it stands at the leader's update: the features that it
    has missed do not come again.
    """
    lease = Lease(leader.runs.folder(key))
    return lease if from_rank_0(lambda: _joins(leader, key, lease)) else None


def _joins(leader: Begun, key: str, lease: Lease) -> bool:
    if not lease.acquire():
        return False
    joins, runs = False, leader.runs
    try:
        known = runs.read(key)
        if known is None or known.state not in FINISHED:
            began = known is not None and known.state != "retired"
            here = _update(runs.folder(key)) if began else 0
            joins = here == _update(leader.folder) and stream_of(read_spec(runs, key)) == stream_of(leader.spec)
    except RecordError:  # a person must look at it first
        joins = False
    finally:
        if not joins:
            lease.release()
    return joins


def _update(folder: Path) -> int:
    """The update that a run would go on from."""
    saved = Checkpoints(folder / "checkpoints", warn=_silent).latest(torch.device("cpu"))
    return 0 if saved is None else saved[0]


def _silent(_line: str) -> None:
    """Whoever goes on from a checkpoint says what could not be read."""
