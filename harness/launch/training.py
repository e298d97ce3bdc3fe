"""A training of a run: from its last checkpoint to its last update, in the run's folder."""

from __future__ import annotations

from pathlib import Path

import torch

from harness.launch.observer import Observer
from harness.launch.place import Place
from harness.training import loop
from harness.training.checkpoint import Checkpoints
from harness.training.ranks import Ranks


def finish(task: loop.Task, folder: Path, place: Place, observer: Observer, ranks: Ranks) -> dict[str, float]:
    """Make all updates that are left; returns what they cost."""
    loop.run(training_of(task, folder, place, observer, ranks))
    return {"first_update_s": observer.first_update_s, "updates": float(task.total)}


def training_of(task: loop.Task, folder: Path, place: Place, observer: Observer, ranks: Ranks) -> loop.Training:
    """As it stands in the run's folder."""
    return loop.Training(
        task,
        checkpoints=Checkpoints(folder / "checkpoints", observer.note, observer.guard),
        device=torch.device(place.device),
        observer=observer,
        cadence=loop.Cadence(checkpoint_seconds=place.checkpoint_seconds),
        ranks=ranks,
    )
