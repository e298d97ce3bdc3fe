"""What a run of each kind does, from its spec to its results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from harness.config.schema import Choice, Finetune, Linear, Pretrain, Spec
from harness.data.prepare import open_dataset
from harness.evaluation.finetune import Finetuning
from harness.evaluation.linear import LinearEvaluation
from harness.evaluation.scoring import Scorer, own_accuracy
from harness.evaluation.sealed import Seal
from harness.launch.choosing import make_choice
from harness.launch.encoder import encoder_of
from harness.launch.housekeeping import NETWORK
from harness.launch.observer import Observer
from harness.launch.place import Place
from harness.tracking.record import Record, Runs
from harness.training import loop
from harness.training.begin import begin
from harness.training.checkpoint import Checkpoints
from harness.training.pretraining import Pretraining
from harness.training.ranks import Ranks, world_and_rank
from harness.training.supervision import Supervised


def carry_out(spec: Spec, record: Record, place: Place, observer: Observer) -> Record:
    runs, device = Runs(Path(place.runs)), torch.device(place.device)
    folder, ranks = runs.folder(record.key), ranks_of(spec)
    dataset = open_dataset(spec.data.dataset, Path(place.data))  # type: ignore[union-attr]  # every run has data
    if isinstance(spec, Choice):
        return make_choice(spec, record, dataset, place, ranks)
    task: Pretraining | Supervised | LinearEvaluation | Finetuning
    if isinstance(spec, Pretrain):
        task = begin(spec, dataset, device, ranks, place.threads, place.online_classifier)
    elif isinstance(spec, Finetune):
        task = Finetuning(spec, encoder_of(runs, spec.subject), dataset, device, ranks, place.threads)
    else:
        assert isinstance(spec, Linear)
        task = LinearEvaluation(spec, encoder_of(runs, spec.subject), dataset, device, ranks, place.threads)
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


def ranks_of(spec: Spec) -> Ranks:
    if isinstance(spec, Pretrain):
        return Ranks.join(spec.schedule.update_batch, spec.schedule.statistics_batch)
    if isinstance(spec, Finetune):
        return Ranks.join(spec.batch, spec.batch)
    if isinstance(spec, Choice):  # trains nothing: a share of the test images each
        return Ranks.split(world_and_rank()[0])
    assert isinstance(spec, Linear), "nothing is trained of a random or imported encoder"
    return Ranks.split(spec.batch)
