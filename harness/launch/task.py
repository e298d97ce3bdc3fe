"""Brings one run to its end, here, in this process: the body of every trial and of `harness train`.

Imports torch but neither Ray nor MLflow, so that a bare GPU machine can run it.
"""

from __future__ import annotations

import errno
import json
import math
import platform
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from harness.config.durable import write_json
from harness.config.identity import plain, run_key
from harness.config.schema import Choice, Evaluation, Finetune, Imported, Linear, Pretrain, RandomEncoder, Spec
from harness.config.structure import structure
from harness.data.prepare import Dataset, open_dataset
from harness.evaluation.choice import Candidate, choose
from harness.evaluation.finetune import HELD_OUT, Finetuning
from harness.evaluation.linear import LinearEvaluation
from harness.evaluation.scoring import Scorer, own_accuracy
from harness.evaluation.sealed import Seal
from harness.launch.housekeeping import NETWORK
from harness.launch.observer import Observer
from harness.models.networks import Classifier
from harness.models.resnet import ResNet
from harness.models.shape import build
from harness.tracking.lease import BusyError, Lease
from harness.tracking.record import FINISHED, Record, Runs
from harness.training import loop
from harness.training.begin import begin
from harness.training.checkpoint import Checkpoints
from harness.training.pretraining import Pretraining
from harness.training.ranks import Ranks, from_rank_0, world_and_rank
from harness.training.supervision import Supervised

FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(RuntimeError):
    """What was earned before is safe; the run goes on from its last checkpoint when there is space again."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how a task runs; travels to workers as plain values."""

    runs: str
    data: str
    commit: str
    threads: int = 1
    device: str = "cpu"
    checkpoint_seconds: float = 5.0
    online_classifier: bool = False


def write_spec(runs: Runs, spec: Spec) -> str:
    """Put a spec where its worker looks for it; returns its key."""
    key = run_key(spec)
    path = runs.folder(key) / "spec.json"
    if not path.exists():
        write_json(path, plain(spec))
    return key


def read_spec(runs: Runs, key: str) -> Spec:
    return spec_from(json.loads((runs.folder(key) / "spec.json").read_text(encoding="utf-8")))


def spec_from(raw: object) -> Spec:
    """A spec from its plain form."""
    spec: Spec = structure(Spec, raw)  # type: ignore[arg-type]  # a union of types
    return spec


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
        record = _carry_out(spec, record, place, observer)
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


def _ranks(spec: Spec) -> Ranks:
    if isinstance(spec, Pretrain):
        return Ranks.join(spec.schedule.update_batch, spec.schedule.statistics_batch)
    if isinstance(spec, Finetune):
        return Ranks.join(spec.batch, spec.batch)
    if isinstance(spec, Choice):  # trains nothing: a share of the test images each
        return Ranks.split(world_and_rank()[0])
    assert isinstance(spec, Linear), "nothing is trained of a random or imported encoder"
    return Ranks.split(spec.batch)


def _carry_out(spec: Spec, record: Record, place: Place, observer: Observer) -> Record:
    runs, device = Runs(Path(place.runs)), torch.device(place.device)
    folder, ranks = runs.folder(record.key), _ranks(spec)
    dataset = open_dataset(spec.data.dataset, Path(place.data))  # type: ignore[union-attr]  # every run has data
    if isinstance(spec, Choice):
        return _choose(spec, record, dataset, place, ranks)
    task: Pretraining | Supervised | LinearEvaluation | Finetuning
    if isinstance(spec, Pretrain):
        task = begin(spec, dataset, device, ranks, place.threads, place.online_classifier)
    elif isinstance(spec, Finetune):
        task = Finetuning(spec, _subject(runs, spec.subject), dataset, device, ranks, place.threads)
    else:
        assert isinstance(spec, Linear)
        task = LinearEvaluation(spec, _subject(runs, spec.subject), dataset, device, ranks, place.threads)
    try:
        loop.run(
            task,
            checkpoints=Checkpoints(folder / "checkpoints", observer.note, observer.guard),
            device=device,
            observer=observer,
            cadence=loop.Cadence(checkpoint_seconds=place.checkpoint_seconds),
            ranks=ranks,
        )
        cost = {"first_update_s": observer.first_update_s, "updates": float(task.total)}
        if isinstance(task, Finetuning):
            if ranks.plan.rank == 0:
                task.save_network(folder / NETWORK)
            return replace(record, state="done", results=task.results(), cost=cost)
        if not isinstance(task, LinearEvaluation):
            if ranks.plan.rank == 0:
                task.save_encoder(folder / "encoder.safetensors")
            results = task.results()
            if isinstance(task, Supervised):
                scorer = Scorer(dataset, task.spec.data.image_size, device, ranks, place.threads)
                results |= own_accuracy(task, scorer)
            return replace(record, state="done", results=results, flags=task.flags(), cost=cost)
        scores = task.score(Seal(folder))
        return replace(record, state="done", results=scores.results, selection=dict(scores.selection), cost=cost)
    finally:
        task.close()


def _choose(spec: Choice, record: Record, dataset: Dataset, place: Place, ranks: Ranks) -> Record:
    """Test the best of the candidates, of which each has ended; where all diverged, so has what chooses among them."""
    runs, device = Runs(Path(place.runs)), torch.device(place.device)
    candidates = [_candidate(runs, key) for key in spec.candidates]
    if all(one.top1 is None for one in candidates):
        return replace(record, state="diverged", error=f"all {len(candidates)} candidates diverged")

    def network(key: str) -> Classifier:
        path = runs.folder(key) / NETWORK
        if not path.exists():
            raise FileNotFoundError(f"{path} is gone; `harness retire {key}`, and the next sweep trains it anew")
        made = Classifier(architecture(read_spec(runs, spec.subject)), dataset.classes)
        made.load_state_dict(load_file(path))
        return made.to(device)

    scorer = Scorer(dataset, spec.data.image_size, device, ranks, place.threads)
    scores = choose(spec, candidates, network, scorer, Seal(runs.folder(record.key)), ranks)
    return replace(record, state="done", results=scores.results, selection=dict(scores.selection))


def _candidate(runs: Runs, key: str) -> Candidate:
    """What has been tried, and what came of it."""
    spec, record = read_spec(runs, key), runs.read(key)
    assert isinstance(spec, Finetune), "a choice is among fine-tunings"
    if record is None or record.state not in FINISHED:
        raise RuntimeError(f"candidate {key} has not finished; run it first")
    name = f"learning_rate={spec.learning_rate}, epochs={spec.epochs}"
    return Candidate(name, key, record.results[HELD_OUT] if record.state == "done" else None)


def _subject(runs: Runs, key: str) -> ResNet:
    """The encoder that an evaluation measures."""
    spec = read_spec(runs, key)
    if isinstance(spec, RandomEncoder):
        torch.manual_seed(spec.seed)
        return architecture(spec)
    encoder = architecture(spec)
    encoder.load_state_dict(load_file(runs.folder(key) / "encoder.safetensors"))
    return encoder


def architecture(spec: Spec) -> ResNet:
    """The encoder of a subject, as it is before anything is loaded into it."""
    assert not isinstance(spec, Evaluation), "an evaluation is no subject"
    if isinstance(spec, Imported):
        return build(spec.encoder, spec.width, spec.padding)
    model = spec.model if isinstance(spec, Pretrain) else spec
    return ResNet(model.encoder, model.width, model.norm)


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
