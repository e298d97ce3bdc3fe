"""The order of a sweep on a cluster whose GPUs are shared: a model of Ray that places runs as it likes."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.launch.plan import Plan, Planned, Status, needs
from harness.launch.share import Demand

pytest.importorskip("ray.tune")
from ray.tune.search import Searcher
from test_schedule import sweeps

from harness.launch import frontier
from harness.launch.attempts import Attempts
from harness.launch.cost import Scale
from harness.launch.frontier import Frontier
from harness.launch.machines import machine_named
from harness.tracking.record import Runs

SHARES = (0.1, 0.25, 0.3, 0.5, 1.0)


class Cluster:
    """GPUs of which Ray gives parts to what waits: in any order, and of any GPU that has as much."""

    def __init__(self, gpus: int, draw: st.DataObject) -> None:
        self.free = [1.0] * gpus
        self.waiting: dict[str, Demand] = {}
        self.going: dict[str, list[tuple[int, float]]] = {}
        self._draw = draw

    def place(self) -> None:
        """Start what fits, all workers of a run or none."""
        for trial in self._draw.draw(st.permutations(sorted(self.waiting))):
            taken: list[tuple[int, float]] = []
            for _ in range(self.waiting[trial].workers):
                share = self.waiting[trial].gpu
                fitting = [number for number, free in enumerate(self.free) if free >= share - 1e-9]
                if fitting:
                    taken.append((self._draw.draw(st.sampled_from(fitting)), share))
                    self.free[taken[-1][0]] -= share
            if len(taken) == self.waiting[trial].workers:
                self.going[trial] = taken
                del self.waiting[trial]
            else:
                self._free(taken)

    def end(self) -> str:
        """One of those that are going, which frees its part."""
        trial: str = self._draw.draw(st.sampled_from(sorted(self.going)))
        self._free(self.going.pop(trial))
        return trial

    def _free(self, taken: list[tuple[int, float]]) -> None:
        for number, share in taken:
            self.free[number] += share


@st.composite
def packed(draw: st.DrawFn) -> tuple[list[Planned], dict[str, Demand], int]:
    """Runs, what each asks for, and GPUs, of which there are enough for each run by itself."""
    todo = draw(sweeps())
    gpus = draw(st.integers(1, 4))
    several = draw(st.integers(1, gpus))
    share = draw(st.sampled_from(SHARES))
    large, small = Demand(workers=several, cpus=1, gpu=1.0), Demand(workers=1, cpus=1, gpu=share)
    return todo, {run.key: draw(st.sampled_from([large, small])) for run in todo}, gpus


@given(drawn=packed(), data=st.data())
def test_every_run_has_its_turn(drawn: tuple[list[Planned], dict[str, Demand], int], data: st.DataObject) -> None:
    """Wherever Ray puts the parts: all runs end, never more are out than fit, and no run passes another.

    While one waits at Ray, because what is free is spread over the GPUs, only its like is suggested.
    """
    todo, demands, gpus = drawn
    plan = Plan("imagenet", tuple(todo), {}, 0, Scale(machine_named("h100", "here")))
    cluster, trials = Cluster(gpus, data), dict[str, Planned]()
    done = {"finished"}

    def look(run: Planned) -> Status:
        return "running" if any(trials[trial].key == run.key for trial in cluster.going) else "missing"

    nodes = {"node": {"CPU": 100.0, "GPU": float(gpus)}}
    searcher = Frontier(plan.missing, {"finished"}, look, demands, lambda: nodes, Attempts(Runs(Path())), pytest.fail)
    with mock.patch.object(frontier, "LOOK_SECONDS", 0.0):
        while (answer := searcher.suggest(str(len(trials)))) != Searcher.FINISHED:
            if answer is None:
                cluster.place()
                assert cluster.going, "nothing goes, and nothing is suggested"
                ended = cluster.end()
                searcher.on_trial_complete(ended, {"state": "done"})
                done.add(trials[ended].key)
                continue
            demand = Demand(**answer["demand"])
            assert set(cluster.waiting.values()) <= {demand}
            run = next(run for run in todo if run.key == answer["key"])
            out_before = {run.key for run in trials.values()}
            ready = [one for one in todo if {*needs(one.spec)} <= done and one.key not in out_before]
            assert run == ready[0]
            cluster.waiting[str(len(trials))] = demand
            trials[str(len(trials))] = run
            out = [*cluster.waiting.values(), *(demands[trials[trial].key] for trial in cluster.going)]
            assert sum(one.workers * one.gpu for one in out) <= gpus + 1e-9
    assert not cluster.waiting
    assert not cluster.going
    assert [run.key for run in searcher.failed + searcher.skipped] == []
    assert sorted(run.key for run in trials.values()) == sorted(run.key for run in todo)
