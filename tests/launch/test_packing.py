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

STEPS = 2000  # more than any sweep drawn here takes
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


class Coming:
    """Nodes of one GPU each, that come and go under what is waiting and going."""

    def __init__(self, gpus: int, draw: st.DataObject) -> None:
        self.names = iter(range(10_000))
        self.free = {str(next(self.names)): 1.0 for _ in range(gpus)}
        self.waiting: dict[str, Demand] = {}
        self.going: dict[str, list[tuple[str, float]]] = {}
        self._draw = draw

    @property
    def living(self) -> dict[str, dict[str, float]]:
        """As Ray tells of them."""
        return {name: {"CPU": 100.0, "GPU": 1.0} for name in self.free}

    def place(self) -> None:
        """Start what fits, all workers of a run or none."""
        for trial in self._draw.draw(st.permutations(sorted(self.waiting))):
            demand = self.waiting[trial]
            fitting = [name for name, free in self.free.items() for _ in range(int((free + 1e-9) / demand.gpu))]
            if len(fitting) >= demand.workers:
                chosen = self._draw.draw(st.permutations(fitting))[: demand.workers]
                self.going[trial] = [(name, demand.gpu) for name in chosen]
                for name, share in self.going[trial]:
                    self.free[name] -= share
                del self.waiting[trial]

    def end(self, trial: str) -> None:
        """It ends, well or not: what it had of living nodes is free."""
        for name, share in self.going.pop(trial):
            if name in self.free:
                self.free[name] += share

    def die(self) -> list[str]:
        """One node; the runs that had a worker on it."""
        name = self._draw.draw(st.sampled_from(sorted(self.free)))
        del self.free[name]
        return [trial for trial, taken in self.going.items() if any(where == name for where, _ in taken)]

    def hopeless(self) -> list[str]:
        """What waits for more workers than all living nodes hold: Ray Train gives that up after a minute."""
        held = len(self.free)
        return [trial for trial, one in self.waiting.items() if one.workers > 1 and one.workers * one.gpu > held]


@given(drawn=packed(), data=st.data())
def test_every_run_has_its_turn_on_nodes_that_come_and_go(
    drawn: tuple[list[Planned], dict[str, Demand], int], data: st.DataObject
) -> None:
    """Whenever nodes die, and with whatever they had: every run ends, each once, as long as some nodes come back."""
    todo, demands, gpus = drawn
    plan = Plan("imagenet", tuple(todo), {}, 0, Scale(machine_named("h100", "here")))
    cluster, trials, said = Coming(gpus, data), dict[str, Planned](), list[str]()
    done, deaths = list[str](), data.draw(st.integers(0, 4))

    def look(run: Planned) -> Status:
        return "running" if any(trials[trial].key == run.key for trial in cluster.going) else "interrupted"

    attempts = Attempts(Runs(Path()))
    searcher = Frontier(plan.missing, {"finished"}, look, demands, lambda: cluster.living, attempts, said.append)
    with mock.patch.object(frontier, "LOOK_SECONDS", 0.0), mock.patch.object(frontier, "NODES_SECONDS", 0.0):
        for _ in range(STEPS):
            answer = searcher.suggest(str(len(trials)))
            if answer == Searcher.FINISHED:
                break
            if isinstance(answer, dict):
                cluster.waiting[str(len(trials))] = Demand(**answer["demand"])
                trials[str(len(trials))] = next(run for run in todo if run.key == answer["key"])
                continue
            cluster.place()
            if deaths and cluster.free and data.draw(st.booleans()):
                deaths -= 1
                for trial in cluster.die():
                    cluster.end(trial)
                    searcher.on_trial_complete(trial, error=True)
            elif cluster.going:
                trial = data.draw(st.sampled_from(sorted(cluster.going)))
                cluster.end(trial)
                done.append(trials[trial].key)
                searcher.on_trial_complete(trial, {"state": "done"})
            elif len(cluster.free) < gpus:
                cluster.free[str(next(cluster.names))] = 1.0
            for trial in cluster.hopeless():
                del cluster.waiting[trial]
                searcher.on_trial_complete(trial, error=True)
        else:
            pytest.fail("it never ends")
    assert sorted(done) == sorted(run.key for run in todo), "none is lost, and none is done twice"
    assert (searcher.failed, searcher.skipped) == ([], [])
    assert len([line for line in said if "wait for one" in line]) <= 2 * 4, "one for each demand when a node dies"
