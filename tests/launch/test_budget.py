"""Plans of many tables against a naive count of their graph of runs, and budgets against trying everything."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.expand import Expansion, expand
from harness.config.files import table_ids
from harness.config.identity import plain, run_key
from harness.config.schema import Imported, RandomEncoder, Spec, Subject
from harness.config.structure import structure
from harness.launch.budget import buy, completions, disk, hours
from harness.launch.cost import Cost, Form, Scale, work
from harness.launch.machines import machine_named
from harness.launch.plan import Plan, Planned, make_plan
from harness.tracking.record import Record, Runs

MACHINE = machine_named("h100", "here")
SCALE = Scale(MACHINE)


@cache
def tables() -> dict[str, Expansion]:
    """Every table at the paper's scale."""
    return {table: expand(table, "imagenet") for table in table_ids()}


class Graph:
    """All runs of some tables, counted in the plainest way: a dictionary of key and spec, and sets of keys."""

    def __init__(self, expansions: Collection[Expansion], states: dict[str, str] | None = None) -> None:
        self.specs: dict[str, Spec] = {}
        self.subjects: dict[str, Subject] = {}
        self.tables: defaultdict[str, set[str]] = defaultdict(set)
        self.states = states or {}
        self.asked = 0
        for expansion in expansions:
            for member in expansion.members:
                self.subjects[member.subject_key] = member.subject
                tried = {run_key(candidate): candidate for candidate in member.candidates}
                own = {member.subject_key: member.subject, **tried, member.evaluation_key: member.evaluation}
                for key, spec in own.items():
                    if isinstance(spec, RandomEncoder | Imported):
                        continue
                    self.specs[key] = spec
                    self.tables[expansion.table].add(key)
                    self.asked += 1

    def to_run(self, keys: Collection[str]) -> set[str]:
        """Those that are neither done nor diverged, nor evaluate what has diverged."""
        left = set()
        for key in keys:
            spec = self.specs[key]
            subject = self.states.get(getattr(spec, "subject", ""))
            state = self.states.get(key) or ("diverged" if subject == "diverged" else "missing")
            if state not in ("done", "diverged"):
                left.add(key)
        return left

    def hours(self, keys: Collection[str]) -> float:
        known = {**self.subjects, **self.specs}
        flops = sum(work(self.specs[key], known).flops for key in keys)
        return flops / (MACHINE.assumed_tflops * 1e12 * 3600)

    def disk(self, keys: Collection[str]) -> int:
        known = {**self.subjects, **self.specs}
        return sum(work(self.specs[key], known).disk_bytes for key in keys)


class Remembered(Runs):
    """Records from memory: only their states are looked at."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(Path("nowhere"))
        self._graph = graph

    def read(self, key: str) -> Record | None:
        if key not in self._graph.states:
            return None
        spec = self._graph.specs[key]
        facts = {"key": key, "kind": spec.kind, "spec": plain(spec), "commit": "", "environment": {}}
        return structure(Record, {**facts, "state": self._graph.states[key], "started_unix_s": 0.0})


def planned(names: Collection[str], states: dict[str, str] | None = None) -> tuple[Plan, Graph]:
    """A plan and the graph of the same tables, with the same runs finished."""
    expansions = [tables()[name] for name in names]
    graph = Graph(expansions, states)
    return make_plan(expansions, Remembered(graph), SCALE), graph


def check(names: Collection[str], plan: Plan, graph: Graph) -> None:
    """Counts, sharing, hours and disk of everything, and of each table alone and after those before it."""
    todo = graph.to_run(graph.specs)
    assert {run.key for run in plan.runs} == set(graph.specs)
    assert len(plan.runs) == len(graph.specs)
    assert plan.shared == graph.asked - len(graph.specs)
    assert {run.key for run in plan.missing} == todo
    assert hours(plan.missing) == pytest.approx(graph.hours(todo), rel=1e-9)
    assert disk(plan.missing) == graph.disk(todo)
    before: set[str] = set()
    for name, one in zip(names, completions(plan, list(names)), strict=True):
        own = graph.to_run(graph.tables[name])
        assert one.table == name
        assert {run.key for run in one.runs} == graph.tables[name]
        assert {run.key for run in one.missing} == own
        assert {run.key for run in one.beyond} == own - before
        assert hours(one.missing) == pytest.approx(graph.hours(own), rel=1e-9)
        assert hours(one.beyond) == pytest.approx(graph.hours(own - before), rel=1e-9)
        before |= own
    assert before == todo


def test_all_tables_at_the_paper_s_scale() -> None:
    """The plan of everything is the graph of everything."""
    plan, graph = planned(tables())
    assert plan.shared > 0
    check(list(tables()), plan, graph)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[str], dict[str, str]]:
    """Some tables in any order, and any of their runs finished, failed or retired, alone or by whole tables."""
    names = draw(st.lists(st.sampled_from(list(tables())), min_size=1, max_size=6, unique=True))
    graph = Graph([tables()[name] for name in names])
    state = st.sampled_from(["done", "done", "diverged", "failed", "retired"])
    states = draw(st.dictionaries(st.sampled_from(sorted(graph.specs)), state, max_size=60))
    for name in draw(st.lists(st.sampled_from(names), max_size=2)):
        states |= dict.fromkeys(graph.tables[name], "done")
    return names, states


@settings(max_examples=40, deadline=None)
@given(situation=situations())
def test_any_tables_with_any_runs_finished(situation: tuple[list[str], dict[str, str]]) -> None:
    """The same for every choice of tables, whatever has finished."""
    names, states = situation
    check(names, *planned(names, states))


@settings(max_examples=40, deadline=None)
@given(situation=situations(), share=st.floats(0, 1.2))
def test_a_budget_buys_the_cheapest_first(situation: tuple[list[str], dict[str, str]], share: float) -> None:
    """Each step is the cheapest of what was left, nothing is paid twice, and nothing left out would have fitted."""
    names, states = situation
    plan, graph = planned(names, states)
    budget = share * hours(plan.missing)
    purchase = buy(plan, names, budget)
    paid: set[str] = set()
    left = list(names)
    for one in purchase.bought:
        prices = {name: graph.hours(graph.to_run(graph.tables[name]) - paid) for name in left}
        assert hours(one.beyond) == pytest.approx(prices[one.table], rel=1e-9)
        assert prices[one.table] == pytest.approx(min(prices.values()), rel=1e-9)
        paid |= graph.to_run(graph.tables[one.table])
        left.remove(one.table)
    assert {run.key for run in purchase.runs} == paid
    assert hours(purchase.runs) <= budget
    assert purchase.over == pytest.approx(budget - graph.hours(paid), rel=1e-6, abs=1e-6)
    assert sorted(one.table for one in purchase.left) == sorted(left)
    for one in purchase.left:
        assert hours(one.beyond) == pytest.approx(graph.hours(graph.to_run(graph.tables[one.table]) - paid), rel=1e-9)
        assert hours(one.beyond) + hours(purchase.runs) > budget


def made_up(wants: dict[str, set[int]], costs: list[int]) -> Plan:
    """A plan of runs that cost whole hours."""
    spec = next(member.evaluation for member in tables()["5b"].members)
    runs = []
    for number, one in enumerate(costs):
        cells = tuple(f"table{name}:cell" for name, numbers in wants.items() if number in numbers)
        cost = Cost(Form("linear", "resnet50_x1", 224), 0.0, float(one), 0)
        runs.append(Planned(str(number), spec, "missing", cells, 0, cost))
    return Plan("imagenet", tuple(runs), {}, 0, SCALE)


@given(
    costs=st.lists(st.integers(1, 9), min_size=6, max_size=6),
    wants=st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=5),
    budget=st.integers(0, 40),
)
def test_a_budget_against_trying_every_choice(costs: list[int], wants: list[set[int]], budget: int) -> None:
    """What is bought is affordable, no table could be added, and without sharing no choice has more tables."""
    named = {"abcde"[number]: keys for number, keys in enumerate(wants)}
    price = {
        chosen: sum(costs[key] for key in set().union(*(named[name] for name in chosen)))
        for size in range(len(named) + 1)
        for chosen in itertools.combinations(named, size)
    }
    affordable = {chosen for chosen, one in price.items() if one <= budget}
    purchase = buy(made_up(named, costs), list(named), budget)
    bought = tuple(name for name in named if name in {one.table for one in purchase.bought})
    assert bought in affordable
    assert not [chosen for chosen in affordable if set(bought) < set(chosen)]
    if sum(map(len, wants)) == len(set().union(*wants)):
        assert len(bought) == max(len(chosen) for chosen in affordable)


def test_of_equally_cheap_tables_the_first() -> None:
    """In the order in which they were asked for, so that a plan is the same whenever it is made."""
    plan = made_up({"a": {0}, "b": {1}, "c": {2}, "d": {0, 3}}, [2, 2, 1, 1])
    assert [one.table for one in buy(plan, ["a", "b", "c", "d"], 4).bought] == ["c", "a", "d"]
    assert [one.table for one in buy(plan, ["b", "a", "c", "d"], 5).bought] == ["c", "b", "a"]
