"""The body of a choice: what its candidates came to, and the network of the best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from harness.config.schema import Choice, Finetune
from harness.data.prepare import Dataset
from harness.evaluation.choice import Candidate, choose
from harness.evaluation.finetune import HELD_OUT
from harness.evaluation.scoring import Scorer
from harness.evaluation.sealed import Seal
from harness.launch.encoder import architecture
from harness.launch.housekeeping import NETWORK
from harness.launch.place import Place
from harness.launch.specs import read_spec
from harness.models.networks import Classifier
from harness.tracking.record import FINISHED, Record, Runs
from harness.training.ranks import Ranks


def make_choice(spec: Choice, record: Record, dataset: Dataset, place: Place, ranks: Ranks) -> Record:
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
