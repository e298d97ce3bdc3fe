"""Hands runs to Tune as they become ready: subjects first, an evaluation as soon as what it measures is there."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from harness.launch.plan import Planned, subject_of


class Frontier(Searcher):
    """The plan as Tune's search algorithm: it suggests each missing run once, never before its subject is finished.

    Tune's `trial` here is one run. The grid is already expanded; nothing is searched.
    """

    def __init__(self, missing: tuple[Planned, ...], finished: set[str]) -> None:
        super().__init__(metric=None, mode=None)
        self._waiting = list(missing)
        self._finished = set(finished)
        self._running: dict[str, Planned] = {}
        self.failed: list[Planned] = []
        self.skipped: list[Planned] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next ready run; None while the rest waits for runs that are going; FINISHED when nothing is left."""
        for run in self._waiting:
            subject = subject_of(run.spec)
            if subject is None or subject in self._finished:
                self._waiting.remove(run)
                self._running[trial_id] = run
                return {"key": run.key}
        if self._running:
            return None
        self.skipped += self._waiting  # what they wait for has failed
        self._waiting = []
        return Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        run = self._running.pop(trial_id)
        if error or result is None:
            self.failed.append(run)
        elif result.get("state") == "done":
            self._finished.add(run.key)
        else:  # it diverged: a result, but nothing to evaluate
            self._waiting = [other for other in self._waiting if subject_of(other.spec) != run.key]

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state, and a new sweep plans from them."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as for `save`."""
