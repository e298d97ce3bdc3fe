"""What a run of each kind does, from its spec to its results; linear evaluations, which go together, elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from harness.config.schema import Choice, Depth, Detection, Linear, Logistic, Pretrain, Spec, Tried
from harness.data.prepare import Dataset
from harness.evaluation.depth import DepthTraining
from harness.evaluation.detection import DetectionTraining
from harness.evaluation.features import FeatureStore
from harness.evaluation.finetune import Finetuning
from harness.evaluation.logistic import fit_path
from harness.evaluation.scoring import Scorer, own_accuracy
from harness.evaluation.sealed import Seal
from harness.evaluation.transfer import Solver, TransferEvaluation
from harness.launch.choosing import make_choice, tuning
from harness.launch.encoder import encoder_of
from harness.launch.housekeeping import FEATURES, NETWORK
from harness.launch.observer import Observer
from harness.launch.place import Place
from harness.launch.specs import read_spec
from harness.launch.staging import dataset_of
from harness.launch.training import finish
from harness.tracking.record import Record, Runs
from harness.training.begin import begin
from harness.training.ranks import Ranks, world_and_rank
from harness.training.supervision import Supervised


def carry_out(spec: Spec, record: Record, place: Place, observer: Observer) -> Record:
    runs, device = Runs(Path(place.runs)), torch.device(place.device)
    folder, ranks = runs.folder(record.key), ranks_of(spec, runs)
    dataset = dataset_of(spec.data.dataset, place, observer)  # type: ignore[union-attr]  # every run has data
    if isinstance(spec, Choice):
        return make_choice(spec, record, dataset, place, observer, ranks)
    if isinstance(spec, Logistic):
        return _regressed(spec, record, dataset, place, observer, ranks)
    if isinstance(spec, Detection | Depth):
        return _tested(spec, record, dataset, place, observer, ranks)
    if isinstance(spec, Tried):
        return _compared(spec, record, dataset, place, observer, ranks)
    assert isinstance(spec, Pretrain)
    task = begin(spec, dataset, device, ranks, place.threads, place.online_classifier)
    try:
        cost = finish(task, folder, place, observer, ranks)
        if ranks.plan.rank == 0:
            task.save_encoder(folder / "encoder.safetensors")
        results = task.results()
        if isinstance(task, Supervised):
            scorer = Scorer(dataset, task.spec.data.image_size, device, ranks, place.threads)
            results |= own_accuracy(task, scorer)
        return replace(record, state="done", results=results, flags=task.flags(), cost=cost)
    finally:
        task.close()


def _compared(spec: Tried, record: Record, dataset: Dataset, place: Place, observer: Observer, ranks: Ranks) -> Record:
    """Train a candidate, whose score on the held-out images a choice compares."""
    runs = Runs(Path(place.runs))
    folder, task = runs.folder(record.key), tuning(spec, runs, dataset, place, ranks)
    try:
        cost = finish(task, folder, place, observer, ranks)
        if isinstance(task, Finetuning) and task.tested and ranks.plan.rank == 0:
            task.save_network(folder / NETWORK)
        return replace(record, state="done", results=task.results(), cost=cost)
    finally:
        task.close()


def _tested(
    spec: Detection | Depth, record: Record, dataset: Dataset, place: Place, observer: Observer, ranks: Ranks
) -> Record:
    """Train what nothing is chosen of, and test it."""
    runs, device = Runs(Path(place.runs)), torch.device(place.device)
    folder, encoder = runs.folder(record.key), encoder_of(runs, spec.subject)
    task: DetectionTraining | DepthTraining
    if isinstance(spec, Detection):
        task = DetectionTraining(spec, encoder, dataset, device, ranks, place.threads)
    else:
        task = DepthTraining(spec, encoder, dataset, device, ranks, place.threads)
    try:
        cost = finish(task, folder, place, observer, ranks)
        scores = task.score(Seal(folder))
        return replace(record, state="done", results=scores.results, selection=dict(scores.selection), cost=cost)
    finally:
        task.close()


def _regressed(
    spec: Logistic, record: Record, dataset: Dataset, place: Place, observer: Observer, ranks: Ranks
) -> Record:
    runs, device = Runs(Path(place.runs)), torch.device(place.device)
    store = FeatureStore(
        runs.folder(spec.subject) / FEATURES,
        encoder_of(runs, spec.subject),
        dataset,
        spec.data.image_size,
        device,
        ranks,
        place.threads,
        observer.note,
    )
    evaluation = TransferEvaluation(spec, store, solver_of(place), observer)
    scores = evaluation.score(Seal(runs.folder(record.key)))
    cost = {"first_update_s": observer.first_update_s, "updates": float(evaluation.total)}
    return replace(record, state="done", results=scores.results, selection=dict(scores.selection), cost=cost)


def solver_of(place: Place) -> Solver:
    """Of logistic regressions, on as many threads as everything else."""
    if place.solver == "torch":
        return fit_path
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415  # scikit-learn's own

    from harness.evaluation.logistic_sklearn import fit_path_sklearn  # noqa: PLC0415  # a lone training has torch alone

    threadpool_limits(place.threads)
    return fit_path_sklearn


def ranks_of(spec: Spec, runs: Runs) -> Ranks:
    if isinstance(spec, Choice) and spec.retrain:  # as the candidate that it trains
        spec = read_spec(runs, spec.candidates[0])
    if isinstance(spec, Pretrain):
        return Ranks.join(spec.schedule.update_batch, spec.schedule.statistics_batch)
    if isinstance(spec, Tried | Depth):
        return Ranks.join(spec.batch, spec.batch)
    if isinstance(spec, Detection):  # no image shares statistics with another
        return Ranks.join(spec.batch, 1)
    if isinstance(spec, Choice | Logistic):  # a share of the images that pass the network each
        return Ranks.split(world_and_rank()[0])
    assert isinstance(spec, Linear), "nothing is trained of a random or imported encoder"
    return Ranks.split(spec.batch)
