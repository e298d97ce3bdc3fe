"""The body of a choice: what its candidates came to, and the network of the best."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from harness.config.schema import Choice, Finetune
from harness.data.prepare import Dataset
from harness.evaluation.choice import Candidate, choose, names
from harness.evaluation.finetune import Finetuning, held_out
from harness.evaluation.scoring import Scorer
from harness.evaluation.sealed import Seal
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


def make_choice(
    spec: Choice, record: Record, dataset: Dataset, place: Place, observer: Observer, ranks: Ranks
) -> Record:
    """Test the best of the candidates, of which each has ended; where all diverged, so has what chooses among them.

    With `retrain`, its training is made anew on those images, by the same updates of the loop in the choice's folder,
    when the choice has been recorded; where it diverges then, the choice has.
    """
    runs, device, cost = Runs(Path(place.runs)), torch.device(place.device), dict[str, float]()
    candidates = _candidates(runs, spec)
    if all(one.score is None for one in candidates):
        return replace(record, state="diverged", error=f"all {len(candidates)} candidates diverged")

    def trained(key: str) -> Classifier:
        path = runs.folder(key) / NETWORK
        if not path.exists():
            raise FileNotFoundError(f"{path} is gone; `harness retire {key}`, and the next sweep trains it anew")
        made = Classifier(architecture(read_spec(runs, spec.subject)), dataset.classes)
        made.load_state_dict(load_file(path))
        return made.to(device)

    def retrained(key: str, images: str) -> Classifier:
        best = _finetune(runs, key)
        again = replace(best, data=replace(best.data, train=images), hopeless_points=None)
        task = Finetuning(again, encoder_of(runs, spec.subject), dataset, device, ranks, place.threads)
        try:
            cost.update(finish(task, runs.folder(record.key), place, observer, ranks))
        finally:
            task.close()
        return task.network

    network = partial(retrained, images=spec.retrain) if spec.retrain else trained
    scorer, seal = Scorer(dataset, spec.data.image_size, device, ranks, place.threads), Seal(runs.folder(record.key))
    try:
        scores = choose(spec, candidates, network, scorer, seal, ranks)
    except Diverged as end:
        chosen = seal.recorded() or {}
        error = f"trained anew on {spec.retrain}, {chosen.get('chosen')}: {end}"
        return replace(record, state="diverged", error=error, selection=chosen)
    return replace(record, state="done", results=scores.results, selection=dict(scores.selection), cost=cost)


def _candidates(runs: Runs, spec: Choice) -> list[Candidate]:
    """What has been tried, and what came of it."""
    ended = [_ended(runs, key) for key in spec.candidates]
    named, score = names([_finetune(runs, key) for key in spec.candidates]), held_out(spec.data.dataset)
    return [
        Candidate(name, record.key, record.results[score] if record.state == "done" else None)
        for name, record in zip(named, ended, strict=True)
    ]


def _ended(runs: Runs, key: str) -> Record:
    record = runs.read(key)
    if record is None or record.state not in FINISHED:
        raise RuntimeError(f"candidate {key} has not finished; run it first")
    return record


def _finetune(runs: Runs, key: str) -> Finetune:
    spec = read_spec(runs, key)
    assert isinstance(spec, Finetune), "a choice is among fine-tunings"
    return spec
