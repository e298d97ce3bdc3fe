"""The one loop: K updates of a task, resumed from its last checkpoint, reported and saved as it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from harness.training.checkpoint import Checkpoints
from harness.training.ranks import Ranks


class Diverged(Exception):  # noqa: N818  # an outcome, not an error
    """The loss is no longer a number: a legitimate end of a run, with the update and the last diagnostics."""

    def __init__(self, step: int, diagnostics: dict[str, float]) -> None:
        super().__init__(f"the loss is not finite at update {step}")
        self.step = step
        self.diagnostics = diagnostics


class Task(Protocol):
    """What the loop needs of a training: pretraining and every trained evaluation are tasks."""

    name: str
    total: int

    def feed(self, first: int) -> Iterator[Any]:
        """The batches of updates first, first + 1, ... total - 1."""
        ...

    def update(self, step: int, batch: Any) -> None:
        """Make update `step`."""
        ...

    def diagnose(self) -> dict[str, float]:
        """Numbers on the update just made."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Cadence:
    """How often things happen that do not change the result."""

    reports: int = 50  # over the whole run
    checkpoint_seconds: float = 5.0
    checkpoint_share: float = 0.01  # of the time goes into checkpoints, so large ones come less often


@dataclass(frozen=True)
class Progress:
    """Told after every update: cheap, and not a result."""

    done: int
    total: int
    seconds: float
    resumed_at: int


class Observer(Protocol):
    """Who is told. `resumed` comes before the first update of a resumed run."""

    def resumed(self, step: int) -> None: ...

    def report(self, step: int, metrics: dict[str, float]) -> None: ...

    def progress(self, progress: Progress) -> None: ...


def run(
    task: Task,
    *,
    checkpoints: Checkpoints,
    device: torch.device,
    observer: Observer,
    cadence: Cadence,
    ranks: Ranks,
) -> None:
    """Bring `task` to its last update. Only rank 0 saves and reports."""
    first, writes = 0, ranks.plan.rank == 0
    saved = checkpoints.latest(device)
    if saved is not None:
        first = saved[0]
        task.load_state_dict(saved[1])
    ranks.agree(first)
    if writes:
        observer.resumed(first)
    every = max(1, task.total // cadence.reports)
    started = last_saved = time.monotonic()
    pause = cadence.checkpoint_seconds
    feed = task.feed(first)
    for step in range(first, task.total):
        task.update(step, next(feed))
        done = step + 1
        if done % every == 0 or done == task.total:
            diagnostics = task.diagnose()  # on every rank: it may hold a collective
            if writes:
                observer.report(done, {f"{task.name}.{name}": value for name, value in diagnostics.items()})
        now = time.monotonic()
        if writes:
            observer.progress(Progress(done, task.total, now - started, first))
            if now - last_saved >= pause or done == task.total:
                checkpoints.save(done, task.state_dict())
                last_saved = time.monotonic()
                pause = max(cadence.checkpoint_seconds, (last_saved - now) / cadence.checkpoint_share)
