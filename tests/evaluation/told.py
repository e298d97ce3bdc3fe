"""A task of the loop run to its end, and what it told on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

from harness.training import loop
from harness.training.checkpoint import Checkpoints
from harness.training.ranks import Ranks


class Ranked(loop.Task, Protocol):
    """A task that knows its ranks."""

    ranks: Ranks


class Told:
    """Listens to the loop."""

    def __init__(self) -> None:
        self.reports: dict[int, dict[str, float]] = {}

    def resumed(self, step: int) -> None:
        """Nothing to do."""

    def report(self, step: int, metrics: dict[str, float]) -> None:
        self.reports[step] = metrics

    def progress(self, progress: loop.Progress) -> None:
        """Nothing to do."""

    def stopping(self) -> bool:
        return False


def run(task: Ranked, folder: Path) -> Told:
    """To the end, with a checkpoint after every update."""
    told = Told()
    loop.run(
        loop.Training(
            task,
            checkpoints=Checkpoints(folder),
            device=torch.device("cpu"),
            observer=told,
            cadence=loop.Cadence(checkpoint_seconds=0.0, checkpoint_share=1e9),
            ranks=task.ranks,
        )
    )
    return told
