"""The body of a choice: what its candidates came to, and the network of the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from harness.config.schema import Choice, FinetuneData, Segmentation, Tried
from harness.data.prepare import Dataset
from harness.evaluation.choice import Candidate, choose, held_out, names
from harness.evaluation.finetune import Finetuning, logits
from harness.evaluation.scoring import Scorer
from harness.evaluation.sealed import Seal
from harness.evaluation.segmentation import SegmentationTraining
from harness.launch.encoder import architecture, encoder_of
from harness.launch.housekeeping import NETWORK
from harness.launch.observer import Observer
from harness.launch.place import Place
from harness.launch.specs import read_spec
from harness.launch.training import finish
from harness.models.networks import Classifier
from harness.tracking.record import FINISHED, Record, Runs
from harness.training.loop import Diverged
from harness.training.ranks import Ranks

Test = Callable[[], dict[str, float]]


def make_choice(
    spec: Choice, record: Record, dataset: Dataset, place: Place, observer: Observer, ranks: Ranks
) -> Record:
    """Test the best of the candidates, of which each has ended; where all diverged, so has what chooses among them.

    With `retrain`, its training is made anew on those images, by the same updates of the loop in the choice's folder,
    when the choice has been recorded; where it diverges then, the choice has.
    """
    runs, cost = Runs(Path(place.runs)), dict[str, float]()
    candidates = _candidates(runs, spec)
    if all(one.score is None for one in candidates):
        return replace(record, state="diverged", error=f"all {len(candidates)} candidates diverged")

    def retrained(key: str, images: str) -> Test:
        best = candidate(runs, key)
        task = tuning(_anew(best, images), runs, dataset, place, ranks)
        try:
            cost.update(finish(task, runs.folder(record.key), place, observer, ranks))
        finally:
            task.close()
        return partial(task.scores, spec.data.test)

    ready = (
        partial(retrained, images=spec.retrain) if spec.retrain else partial(_kept, spec, runs, dataset, place, ranks)
    )
    seal = Seal(runs.folder(record.key))
    try:
        scores = choose(spec, candidates, ready, seal, ranks)
    except Diverged as end:
        chosen = seal.recorded() or {}
        error = f"trained anew on {spec.retrain}, {chosen.get('chosen')}: {end}"
        return replace(record, state="diverged", error=error, selection=chosen)
    return replace(record, state="done", results=scores.results, selection=dict(scores.selection), cost=cost)


def tuning(spec: Tried, runs: Runs, dataset: Dataset, place: Place, ranks: Ranks) -> Finetuning | SegmentationTraining:
    """The training of a candidate, from its subject."""
    encoder, device = encoder_of(runs, spec.subject), torch.device(place.device)
    if isinstance(spec, Segmentation):
        return SegmentationTraining(spec, encoder, dataset, device, ranks, place.threads)
    return Finetuning(spec, encoder, dataset, device, ranks, place.threads)


def _anew(best: Tried, images: str) -> Tried:
    """The same training on these images, which is not given up: what was held out is among them."""
    if isinstance(best, Segmentation):
        return replace(best, data=replace(best.data, train=images))  # type: ignore[arg-type]  # each its own splits
    return replace(best, data=replace(best.data, train=images), hopeless_points=None)


def candidate(runs: Runs, key: str) -> Tried:
    """What was tried."""
    spec = read_spec(runs, key)
    assert isinstance(spec, Tried), "a choice is among fine-tunings or segmentations"
    return spec


def _kept(spec: Choice, runs: Runs, dataset: Dataset, place: Place, ranks: Ranks, key: str) -> Test:
    """The test of the network that a candidate left."""
    assert isinstance(spec.data, FinetuneData), "a segmentation is trained anew"
    path, device = runs.folder(key) / NETWORK, torch.device(place.device)
    if not path.exists():
        raise FileNotFoundError(f"{path} is gone; `harness retire {key}`, and the next sweep trains it anew")
    network = Classifier(architecture(read_spec(runs, spec.subject)), dataset.classes)
    network.load_state_dict(load_file(path))
    network.to(device).eval()
    scorer = Scorer(dataset, spec.data.image_size, device, ranks, place.threads)
    return lambda: scorer.scores(spec.data.test, 1, partial(logits, network))[0]


def _candidates(runs: Runs, spec: Choice) -> list[Candidate]:
    """What has been tried, and what came of it."""
    ended = [_ended(runs, key) for key in spec.candidates]
    tried = [candidate(runs, key) for key in spec.candidates]
    return [
        Candidate(name, record.key, record.results[held_out(one)] if record.state == "done" else None)
        for name, one, record in zip(names(tried), tried, ended, strict=True)
    ]


def _ended(runs: Runs, key: str) -> Record:
    record = runs.read(key)
    if record is None or record.state not in FINISHED:
        raise RuntimeError(f"candidate {key} has not finished; run it first")
    return record
