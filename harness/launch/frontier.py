"""Hands runs to Tune as they become ready: each as soon as all that it waits for is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from harness.launch.attempts import Attempts
from harness.launch.companions import companions
from harness.launch.plan import Planned, Status, needs, subject_of
from harness.launch.room import Resources, Room, Seat, wanted
from harness.launch.share import Demand
from harness.tracking.record import FINISHED

ELSEWHERE = "elsewhere"  # how a trial ends that finds its run in another sweep's hands
STOPPED = "stopped"  # how one ends that was asked to
LOOK_SECONDS = 2.0
NODES_SECONDS = 5.0
DROPPED: tuple[Status, ...] = ("interrupted", "missing")  # by whoever had the run


class Frontier(Searcher):
    """The plan as Tune's search algorithm: it suggests each missing run once, after all that it waits for.

    Tune's `trial` here is one run. The grid is already expanded; nothing is searched.

    No run passes another that is ready and comes before it in the plan. The first that is ready is suggested when
    `room` has seats for it, and when what was suggested before it and asks for something else has begun: small runs
    would otherwise take each part that comes free of the GPU that a large one waits for at Ray.

    Passed is only what no living node has room for: that waits for a node, not for other runs.

    Companions are not suggested beside each other: the first takes the others along, if it can.
    """

    def __init__(
        self,
        missing: tuple[Planned, ...],
        finished: set[str],
        look: Callable[[Planned], Status],
        demands: Mapping[str, Demand],
        living: Callable[[], Mapping[str, Resources]],
        attempts: Attempts,
        say: Callable[[str], None],
    ) -> None:
        """`look` tells how a run stands on disk: whether it has begun, or another sweep is working on it.

        Each of `demands`, by key, fits into the nodes that are `living` now.
        """
        super().__init__(metric=None, mode=None)
        self._look, self._living, self._attempts, self._say = look, living, attempts, say
        self._demands, self._room = demands, Room(living())
        self._homeless: set[Demand] = set()
        self._followed = time.monotonic()
        self._companions = companions({run.key: run.spec for run in missing})
        self._along: dict[str, list[Planned]] = {}
        self._seats: dict[str, tuple[Seat, ...]] = {}
        self._unbegun: dict[str, Planned] = {}
        self._watched = 0.0
        self._elsewhere: list[tuple[Planned, tuple[Status, ...]]] = []
        self._looked = 0.0
        self._waiting = list(missing)
        self._finished = set(finished)
        self._running: dict[str, Planned] = {}
        self._closed = False
        self.failed: list[Planned] = []
        self.skipped: list[Planned] = []

    def close(self) -> None:
        """Suggest nothing more."""
        self._closed = True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next ready run; None while the rest waits; FINISHED when nothing is left, or nothing more is wanted."""
        if self._closed:
            return None if self._running else Searcher.FINISHED
        self._follow_nodes()
        self._look_elsewhere()
        ready = [run for run in self._waiting if self._finished.issuperset(needs(run.spec))]
        for run in ready:
            if self._demands[run.key] not in self._homeless:
                return self._begin(trial_id, run)
        if self._running or self._elsewhere or ready:
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
        return {
            "key": run.key,
            "demand": asdict(demand),
            "one_node": len({seat.node for seat in seats}) == 1,
            "companions": [other.key for other in along],
        }

    def _all_else_begun(self, demand: Demand) -> bool:
        """Whether what has been suggested and not begun yet asks for the same as this."""
        if all(self._demands[run.key] == demand for run in self._unbegun.values()):
            return True
        if time.monotonic() - self._watched >= LOOK_SECONDS:
            self._watched = time.monotonic()
            begun = ("running", *FINISHED)
            self._unbegun = {trial: run for trial, run in self._unbegun.items() if self._look(run) not in begun}
        return all(self._demands[run.key] == demand for run in self._unbegun.values())

    def _follow_nodes(self) -> None:
        """Seats of dead nodes are gone, those of new ones are there; a run that none can take waits for one."""
        if time.monotonic() - self._followed < NODES_SECONDS:
            return
        self._followed = time.monotonic()
        living = self._living()
        gone, new = self._room.follow(living)
        if not gone and not new:
            return
        self._say(f"Ray's nodes: {gone} gone, {new} new, {len(living)} living")
        elsewhere = (run for run, _ in self._elsewhere)
        wanting = {self._demands[run.key] for run in (*self._waiting, *self._running.values(), *elsewhere)}
        homeless = {demand for demand in set(self._demands.values()) if not self._room.fits(demand)}
        for demand in (homeless - self._homeless) & wanting:
            self._say(f"no living node has room for a run on {wanted(demand)}; such runs wait for one")
        self._homeless = homeless

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        run = self._running.pop(trial_id)
        self._unbegun.pop(trial_id, None)
        self._room.give(self._seats.pop(trial_id))
        state = None if error or result is None else result.get("state")
        if state is None:  # what went wrong is noted meanwhile; a dead owner's lease must run out
            self._elsewhere.append((run, (*DROPPED, "failed")))
            self._looked = 0.0
        elif state in (ELSEWHERE, STOPPED):
            self._elsewhere.append((run, DROPPED))
        else:
            self._ended(run, str(state))
        for other in self._along.pop(trial_id):
            self._look_at(other, again=(*DROPPED, "failed"))  # failed, perhaps, in an earlier sweep

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
        for run, again in elsewhere:
            self._look_at(run, again)

    def _look_at(self, run: Planned, again: tuple[Status, ...]) -> None:
        """See how a run stands that this sweep has no trial of. It is begun `again` while it has attempts left."""
        state = self._look(run)
        if state == "running":
            self._elsewhere.append((run, again))
        elif state not in again:
            self._ended(run, state)
        elif self._attempts.spent(run.key):
            self._attempts.give_up(run.key)
            self.failed.append(run)
        else:
            self._waiting.insert(0, run)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state, and a new sweep plans from them."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as for `save`."""
