"""The one loop: K updates of a task, resumed from its last checkpoint, reported and saved as it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
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


class Stopped(Exception):  # noqa: N818  # an outcome, not an error
    """An end was asked for, and what was earned is kept: the run goes on after update `step`."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at update {step}")
        self.step = step


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
    """Who is told, and may ask for an end. `resumed` comes before the first update of a resumed run."""

    def resumed(self, step: int) -> None: ...

    def report(self, step: int, metrics: dict[str, float]) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def stopping(self) -> bool:
        """Whether an end is asked for. Cheap: it is asked after every update."""
        ...


class Training:
    """A task on its way to its last update, from its last checkpoint; rank 0 alone saves, reports and ends it early."""

    def __init__(
        self,
        task: Task,
        *,
        checkpoints: Checkpoints,
        device: torch.device,
        observer: Observer,
        cadence: Cadence,
        ranks: Ranks,
    ) -> None:
        self.task, self.done = task, 0
        self._checkpoints, self._observer, self._cadence = checkpoints, observer, cadence
        self._writes = ranks.plan.rank == 0
        saved = checkpoints.latest(device)
        if saved is not None:
            self.done = saved[0]
            task.load_state_dict(saved[1])
        ranks.agree(self.done)
        if self._writes:
            observer.resumed(self.done)
        self._resumed_at = self._saved = self.done
        self._every = max(1, task.total // cadence.reports)
        self._started = self._last_saved = time.monotonic()
        self._pause = cadence.checkpoint_seconds

    def update(self, batch: Any) -> None:
        """Make the next update; raises Diverged where the task does."""
        task = self.task
        task.update(self.done, batch)
        self.done += 1
        if self.done % self._every == 0 or self.done == task.total:
            diagnostics = task.diagnose()  # on every rank: it may hold a collective
            if self._writes:
                self._observer.report(self.done, {f"{task.name}.{name}": value for name, value in diagnostics.items()})
        if self._writes:
            seconds = time.monotonic() - self._started
            self._observer.progress(Progress(self.done, task.total, seconds, self._resumed_at))

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self._writes and (time.monotonic() - self._last_saved >= self._pause or self.done == self.task.total)

    @property
    def stopping(self) -> bool:
        """Whether an end is asked for."""
        return self._writes and self._observer.stopping()

    def save(self) -> None:
        """Write a checkpoint, unless that of this update is there."""
        if self._saved == self.done:
            return
        begun = time.monotonic()
        self._checkpoints.save(self.done, self.task.state_dict())
        self._saved, self._last_saved = self.done, time.monotonic()
        self._pause = max(self._cadence.checkpoint_seconds, (self._last_saved - begun) / self._cadence.checkpoint_share)


def run(training: Training) -> None:
    """Bring a training to its last update."""
    for _, end in together([training]):
        raise end


def together(trainings: Sequence[Training]) -> Iterator[tuple[Training, Diverged]]:
    """Bring trainings that stand at one update to their last, all on the batches of the first one's feed.

    One that diverges is yielded and ends there; the others go on without it. Checkpoints are of the same updates, so
    that what was interrupted together goes on together. Where an end is asked for, the update just made is saved, and
    Stopped raised, after the last update too: what follows it may take long. Other ranks than 0 are not told; they fall
    with their next collective.
    """
    going = list(trainings)
    total, first = going[0].task.total, going[0].done
    if any((one.task.total, one.done) != (total, first) for one in going):
        raise ValueError(f"trainings at different updates cannot share batches: {[one.done for one in going]}")
    for _, batch in zip(range(first, total), going[0].task.feed(first), strict=True):
        for one in tuple(going):
            try:
                one.update(batch)
            except Diverged as end:
                going.remove(one)
                yield one, end
        if not going:
            return
        if any(one.due for one in going):
            _save(going)
        if going[0].stopping:
            _save(going)
            raise Stopped(going[0].done)


def _save(trainings: Sequence[Training]) -> None:
    for one in trainings:
        one.save()
