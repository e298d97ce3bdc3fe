"""How long a cluster takes: against the sweep's own order, driven by hand, and the bounds of list scheduling."""

from __future__ import annotations

import heapq
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.errors import ConfigError
from harness.config.expand import expand
from harness.config.schema import Linear
from harness.launch.cost import Cost, Form, Scale
from harness.launch.machines import machine_named
from harness.launch.plan import Plan, Planned, needs
from harness.launch.schedule import Cluster, wall_hours
from harness.tracking.record import Runs

pytest.importorskip("ray.tune")
from harness.launch.attempts import Attempts
from harness.launch.frontier import Frontier
from harness.launch.share import Demand

MEMBER = expand("5b", "imagenet", seeds=1, cell="byol").members[0]

CHOICE = expand("8", "imagenet", seeds=1, cell="byol").members[0].evaluation


def pretraining(key: str, hours: float) -> Planned:
    """A run that waits for nothing."""
    cost = Cost(Form("pretrain", "resnet50_x1", 224), 0.0, hours, 0)
    return Planned(key, MEMBER.subject, "missing", (), 0, cost)


def evaluation(key: str, subject: str, hours: float) -> Planned:
    """A run that waits for `subject`, on views that no other sees."""
    spec: Linear = replace(MEMBER.evaluation, subject=subject, seed=int.from_bytes(key.encode()))
    return Planned(key, spec, "missing", (), 0, Cost(Form("linear", "resnet50_x1", 224), 0.0, hours, 0))


def choice(key: str, candidates: tuple[str, ...], hours: float) -> Planned:
    """A run that waits for all of `candidates`."""
    spec = replace(CHOICE, candidates=candidates)
    return Planned(key, spec, "missing", (), 0, Cost(Form("choice", "resnet50_x1", 224), 0.0, hours, 0))


@st.composite
def sweeps(draw: st.DrawFn) -> list[Planned]:
    """Pretrainings, evaluations of them or of what is finished, choices among these; many end in the same hour."""
    first = [pretraining(f"p{number}", draw(st.integers(1, 6))) for number in range(draw(st.integers(0, 5)))]
    subjects = st.sampled_from([*(run.key for run in first), "finished"])
    last = [
        evaluation(f"e{number}", draw(subjects), draw(st.integers(1, 6))) for number in range(draw(st.integers(0, 6)))
    ]
    tried = st.lists(st.sampled_from([*(run.key for run in last), "finished"]), min_size=1, max_size=4, unique=True)
    choices = [
        choice(f"c{number}", tuple(draw(tried)), draw(st.integers(0, 3))) for number in range(draw(st.integers(0, 3)))
    ]
    return [*first, *last, *choices]


def driven(todo: list[Planned], places: int) -> float:
    """The clock when the sweep's frontier, asked whenever a place is free, has nothing left."""
    plan = Plan("imagenet", tuple(todo), {}, 0, Scale(machine_named("h100", "here")))
    demands = {run.key: Demand(workers=1, cpus=1, gpu=0.0) for run in todo}
    nodes, attempts = {"node": {"CPU": float(places)}}, Attempts(Runs(Path()))
    frontier = Frontier(
        plan.missing, {"finished"}, lambda run: run.status, demands, lambda: nodes, attempts, pytest.fail
    )
    numbers = {run.key: number for number, run in enumerate(todo)}
    going: list[tuple[float, int, str]] = []
    clock, trials = 0.0, 0
    while True:
        while isinstance(answer := frontier.suggest(str(trials)), dict):
            number = numbers[answer["key"]]
            heapq.heappush(going, (clock + todo[number].cost.device_hours, number, str(trials)))
            trials += 1
        if not going:
            assert not frontier.skipped
            assert trials == len(todo)
            return clock
        clock, _, trial = heapq.heappop(going)
        frontier.on_trial_complete(trial, {"state": "done"})


@given(todo=sweeps(), places=st.integers(1, 4))
def test_it_is_the_sweep_s_own_order(todo: list[Planned], places: int) -> None:
    """The same hours as when the frontier that a sweep uses hands out the runs."""
    assert wall_hours(todo, Cluster(places)) == driven(todo, places)


@given(todo=sweeps(), places=st.integers(1, 4), per_run=st.integers(1, 3), rest=st.integers(0, 2))
def test_bounds_of_list_scheduling(todo: list[Planned], places: int, per_run: int, rest: int) -> None:
    """Never less than the longest chain or the work shared out; never more than Graham's bound above them."""
    hours = {run.key: run.cost.device_hours / per_run for run in todo}
    chains: dict[str, float] = {}
    for run in todo:  # each after what it waits for
        chains[run.key] = hours[run.key] + max((chains.get(key, 0.0) for key in needs(run.spec)), default=0.0)
    chain = max(chains.values(), default=0.0)
    work = sum(hours.values()) / places
    wall = wall_hours(todo, Cluster(places * per_run + min(rest, per_run - 1), per_run))
    assert max(chain, work) <= wall + 1e-9
    assert wall <= work + (1 - 1 / places) * chain + 1e-9


def test_evaluations_wait() -> None:
    """Two devices: the second idles while the only pretraining goes, though its evaluations are there."""
    todo = [pretraining("p", 10.0), evaluation("a", "p", 2.0), evaluation("b", "p", 3.0)]
    assert wall_hours(todo, Cluster(2)) == 13
    assert wall_hours(todo, Cluster(1)) == 15
    assert wall_hours(todo, Cluster(16, 8)) == 13 / 8
    assert wall_hours([], Cluster(2)) == 0


def test_a_choice_waits_for_all_its_candidates() -> None:
    """The last to end counts; those that are finished already are not waited for."""
    todo = [evaluation("a", "finished", 2.0), evaluation("b", "finished", 5.0), choice("c", ("a", "b", "old"), 1.0)]
    assert wall_hours(todo, Cluster(2)) == 6
    assert wall_hours(todo, Cluster(1)) == 8


def test_a_run_is_not_split() -> None:
    """Eleven devices at four a run are two places; fewer devices than a run takes are refused."""
    assert Cluster(11, 4).places == 2
    with pytest.raises(ConfigError, match=r"--gpus 3: a run alone takes 4 \(--gpus-per-run\)"):
        Cluster(3, 4)
