"""Hands runs to Tune as they become ready: each as soon as all that it waits for is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from harness.launch.plan import Planned, Status, needs, subject_of
from harness.tracking.record import FINISHED

ELSEWHERE = "elsewhere"  # how a trial ends that finds its run in another sweep's hands
LOOK_SECONDS = 2.0


class Frontier(Searcher):
    """The plan as Tune's search algorithm: it suggests each missing run once, after all that it waits for.

    Tune's `trial` here is one run. The grid is already expanded; nothing is searched.
    """

    def __init__(self, missing: tuple[Planned, ...], finished: set[str], look: Callable[[Planned], Status]) -> None:
        """`look` tells how a run stands on disk: another sweep may be working on it."""
        super().__init__(metric=None, mode=None)
        self._look = look
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
                self._waiting.remove(run)
                self._running[trial_id] = run
                return {"key": run.key}
        if self._running or self._elsewhere:
            return None
        self.skipped += self._waiting  # what they wait for has failed
        self._waiting = []
        return Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        run = self._running.pop(trial_id)
        state = "failed" if error or result is None else result.get("state")
        if state == ELSEWHERE:
            self._elsewhere.append(run)
        else:
            self._ended(run, str(state))

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
            state = self._look(run)
            if state == "running":
                self._elsewhere.append(run)
            elif state in ("interrupted", "missing"):
                self._waiting.insert(0, run)
            else:
                self._ended(run, state)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state, and a new sweep plans from them."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as for `save`."""
