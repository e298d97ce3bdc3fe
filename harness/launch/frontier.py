"""Hands runs to Tune as they become ready: each as soon as all that it waits for is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from harness.launch.companions import companions
from harness.launch.plan import Planned, Status, needs, subject_of
from harness.launch.room import Room, Seat
from harness.launch.share import Demand
from harness.tracking.record import FINISHED

ELSEWHERE = "elsewhere"  # how a trial ends that finds its run in another sweep's hands
LOOK_SECONDS = 2.0


class Frontier(Searcher):
    """The plan as Tune's search algorithm: it suggests each missing run once, after all that it waits for.

    Tune's `trial` here is one run. The grid is already expanded; nothing is searched.

    No run passes another that is ready and comes before it in the plan. The first that is ready is suggested when
    `room` has seats for it, and when what was suggested before it and asks for something else has begun: small runs
    would otherwise take each part that comes free of the GPU that a large one waits for at Ray.

    Companions are not suggested beside each other: the first takes the others along, if it can.
    """

    def __init__(
        self,
        missing: tuple[Planned, ...],
        finished: set[str],
        look: Callable[[Planned], Status],
        demands: Mapping[str, Demand],
        room: Room,
    ) -> None:
        """`look` tells how a run stands on disk: whether it has begun, or another sweep is working on it.

        Each of `demands`, by key, fits into `room` as it is now.
        """
        super().__init__(metric=None, mode=None)
        self._look = look
        self._demands, self._room = demands, room
        self._companions = companions({run.key: run.spec for run in missing})
        self._along: dict[str, list[Planned]] = {}
        self._seats: dict[str, tuple[Seat, ...]] = {}
        self._unbegun: dict[str, Planned] = {}
        self._watched = 0.0
        self._elsewhere: list[Planned] = []
        self._looked = 0.0
        self._waiting = list(missing)
        self._finished = set(finished)
        self._running: dict[str, Planned] = {}
        self.failed: list[Planned] = []
        self.skipped: list[Planned] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next ready run; None while the rest waits for runs that are going; FINISHED when nothing is left."""
        self._look_elsewhere()
        for run in self._waiting:
            if self._finished.issuperset(needs(run.spec)):
                return self._begin(trial_id, run)
        if self._running or self._elsewhere:
            return None
        self.skipped += self._waiting  # what they wait for has failed
        self._waiting = []
        return Searcher.FINISHED

    def _begin(self, trial_id: str, run: Planned) -> dict[str, Any] | None:
        demand = self._demands[run.key]
        seats = self._room.take(demand) if self._all_else_begun(demand) else None
        if seats is None:
            return None
        self._waiting.remove(run)
        self._seats[trial_id] = seats
        self._running[trial_id] = self._unbegun[trial_id] = run
        theirs = self._companions.get(run.key, ())
        along = self._along[trial_id] = [other for other in self._waiting if other.key in theirs]
        self._waiting = [other for other in self._waiting if other not in along]
        return {"key": run.key, "demand": asdict(demand), "companions": [other.key for other in along]}

    def _all_else_begun(self, demand: Demand) -> bool:
        """Whether what has been suggested and not begun yet asks for the same as this."""
        if all(self._demands[run.key] == demand for run in self._unbegun.values()):
            return True
        if time.monotonic() - self._watched >= LOOK_SECONDS:
            self._watched = time.monotonic()
            begun = ("running", *FINISHED)
            self._unbegun = {trial: run for trial, run in self._unbegun.items() if self._look(run) not in begun}
        return all(self._demands[run.key] == demand for run in self._unbegun.values())

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        run = self._running.pop(trial_id)
        self._unbegun.pop(trial_id, None)
        self._room.give(self._seats.pop(trial_id))
        state = "failed" if error or result is None else result.get("state")
        if state == ELSEWHERE:
            self._elsewhere.append(run)
        else:
            self._ended(run, str(state))
        for other in self._along.pop(trial_id):
            self._look_at(other, again=("interrupted", "missing", "failed"))  # failed, perhaps, in an earlier sweep

    def _ended(self, run: Planned, state: str) -> None:
        if state not in FINISHED:
            self.failed.append(run)
            return
        self._finished.add(run.key)  # a choice passes over candidates that diverged
        if state == "diverged":  # a result, but nothing to evaluate
            self._waiting = [other for other in self._waiting if subject_of(other.spec) != run.key]

    def _look_elsewhere(self) -> None:
        """What another sweep has finished is finished here too; what it has dropped is taken up."""
        if not self._elsewhere or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        elsewhere, self._elsewhere = self._elsewhere, []
        for run in elsewhere:
            self._look_at(run, again=("interrupted", "missing"))

    def _look_at(self, run: Planned, again: tuple[Status, ...]) -> None:
        state = self._look(run)
        if state == "running":
            self._elsewhere.append(run)
        elif state in again:
            self._waiting.insert(0, run)
        else:
            self._ended(run, state)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state, and a new sweep plans from them."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as for `save`."""
