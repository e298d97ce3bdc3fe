"""What a run of each kind does, from its spec to its results; linear evaluations, which go together, elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from harness.config.schema import Choice, Finetune, Linear, Logistic, Pretrain, Spec
from harness.data.prepare import Dataset, open_dataset
from harness.evaluation.features import FeatureStore
from harness.evaluation.finetune import Finetuning
from harness.evaluation.logistic import fit_path
from harness.evaluation.scoring import Scorer, own_accuracy
from harness.evaluation.sealed import Seal
from harness.evaluation.transfer import Solver, TransferEvaluation
from harness.launch.choosing import make_choice
from harness.launch.encoder import encoder_of
from harness.launch.housekeeping import FEATURES, NETWORK
from harness.launch.observer import Observer
from harness.launch.place import Place
from harness.launch.specs import read_spec
from harness.launch.training import finish
from harness.tracking.record import Record, Runs
from harness.training.begin import begin
from harness.training.pretraining import Pretraining
from harness.training.ranks import Ranks, world_and_rank
from harness.training.supervision import Supervised


def carry_out(spec: Spec, record: Record, place: Place, observer: Observer) -> Record:
    runs, device = Runs(Path(place.runs)), torch.device(place.device)
    folder, ranks = runs.folder(record.key), ranks_of(spec, runs)
    dataset = open_dataset(spec.data.dataset, Path(place.data))  # type: ignore[union-attr]  # every run has data
    if isinstance(spec, Choice):
        return make_choice(spec, record, dataset, place, observer, ranks)
    if isinstance(spec, Logistic):
        return _regressed(spec, record, dataset, place, observer, ranks)
    task: Pretraining | Supervised | Finetuning
    if isinstance(spec, Finetune):
        task = Finetuning(spec, encoder_of(runs, spec.subject), dataset, device, ranks, place.threads)
    else:
        assert isinstance(spec, Pretrain)
        task = begin(spec, dataset, device, ranks, place.threads, place.online_classifier)
    try:
        cost = finish(task, folder, place, observer, ranks)
        if isinstance(task, Finetuning):
            if task.tested and ranks.plan.rank == 0:
                task.save_network(folder / NETWORK)
            return replace(record, state="done", results=task.results(), cost=cost)
        if ranks.plan.rank == 0:
            task.save_encoder(folder / "encoder.safetensors")
        results = task.results()
        if isinstance(task, Supervised):
            scorer = Scorer(dataset, task.spec.data.image_size, device, ranks, place.threads)
            results |= own_accuracy(task, scorer)
        return replace(record, state="done", results=results, flags=task.flags(), cost=cost)
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
    if isinstance(spec, Finetune):
        return Ranks.join(spec.batch, spec.batch)
    if isinstance(spec, Choice | Logistic):  # a share of the images that pass the network each
        return Ranks.split(world_and_rank()[0])
    assert isinstance(spec, Linear), "nothing is trained of a random or imported encoder"
    return Ranks.split(spec.batch)
