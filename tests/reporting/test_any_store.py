"""Whatever a store holds, tables and explanations say what it says: never a wrong number, always a visible state.

The expectation is worked out here from the store's content by brute force, for stores with runs in every state, numbers
that are none, seeds that are missing, and runs that are none of the table's: of another profile, an older recipe.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.config.expand import Expansion, declared_cells, expand
from harness.reporting.aggregate import CellNumber, Table, build_table
from harness.reporting.collect import collect
from harness.reporting.explain import explanation
from harness.reporting.forms import write_table
from harness.reporting.layout import Layout, read_layout
from harness.tracking.record import Record, Runs
from harness.tracking.results import Live, Results
from harness.tracking.snapshot import Snapshot, write_snapshot
from harness.tracking.store import MemoryStore, Store, Stored
from harness.tracking.stores import store_at

METRICS = ("linear_imagenet.top1", "linear_imagenet.top5")  # the table prints the first
CHANCE = {"imagenet": 0.1, "laptop": 10.0}  # percent of 1000 classes, and of 10
STATES = ("running", "done", "done", "done", "failed", "diverged", "retired")


@dataclass(frozen=True)
class Told:
    """What is put into a store for one run; None for a run it has never heard of."""

    state: str
    results: dict[str, float] = field(default_factory=dict)
    collapsed: bool = False


NUMBERS = st.one_of(st.floats(0, 100), st.floats(), st.just(math.nan), st.just(math.inf))
TOLD = st.one_of(
    st.none(),
    st.builds(
        Told, st.sampled_from(STATES), st.dictionaries(st.sampled_from(METRICS), NUMBERS, max_size=2), st.booleans()
    ),
)


@cache
def _layout() -> Layout:
    return read_layout("5b", declared_cells("5b"))


@cache
def _expansion(profile: str, cell: str | None = None) -> Expansion:
    return expand("5b", profile, None, cell)


def _keys(expansion: Expansion) -> list[str]:
    return list(dict.fromkeys(key for m in expansion.members for key in (m.subject_key, m.evaluation_key)))


def _record(key: str, told: Told, started: float) -> Record:
    return Record(
        key=key,
        kind="linear",
        state=told.state,  # type: ignore[arg-type]
        spec={"seed": 0},
        commit="c0ffee",
        environment={},
        started_unix_s=started,
        ended_unix_s=None if told.state == "running" else started + 1,
        results=told.results,
        flags={"collapsed": told.collapsed},
    )


def _fill(store: Store, world: Mapping[str, Told | None]) -> None:
    for number, (key, told) in enumerate(world.items()):
        if told is not None:
            store.put(_record(key, told, 1_000.0 + number), [], "1", {})


def _fate(told: list[Told | None]) -> str:
    """Of a seed, from its evaluation and its subject."""
    for one in told:
        if one is not None and one.state in ("failed", "diverged"):
            return one.state
    return "done" if told[0] is not None and told[0].state == "done" else "pending"


def _check(number: CellNumber, expansion: Expansion, world: Mapping[str, Told | None]) -> None:
    """A cell's number against the seeds' own, one by one."""
    values, fates, collapsed = {}, [], 0
    for member in expansion.members:
        if member.cell != number.cell:
            continue
        evaluation, subject = world.get(member.evaluation_key), world.get(member.subject_key)
        fate = _fate([evaluation, subject])
        if fate == "diverged":
            values[member.seed] = CHANCE[expansion.profile]
        elif fate == "done":
            assert evaluation is not None
            value = evaluation.results.get(number.metric, math.nan)
            if math.isfinite(value):
                values[member.seed] = value
            else:
                fate = "failed"  # it finished without a number: visible, and in no mean
        fates.append(fate)
        collapsed += bool(subject is not None and subject.collapsed)
    assert dict(number.values) == values
    assert number.seeds == len(values)
    assert number.wanted == len(fates) == 3
    assert number.collapsed == collapsed
    if values:
        assert number.ours == pytest.approx(sum(v / len(values) for v in values.values()), rel=1e-9, abs=1e-300)
    else:
        assert number.ours is None
    spread = (max(values.values()) - min(values.values())) / 2 if len(values) > 1 else None
    assert number.half_range == (spread if spread is None else pytest.approx(spread, rel=1e-9))
    expected = "pending"
    for state, status in (("done", "partial"), ("diverged", "diverged"), ("failed", "failed")):
        expected = status if state in fates else expected
    assert number.status == ("complete" if set(fates) == {"done"} else expected)


def _table(expansion: Expansion, results: Results) -> Table:
    return build_table(_layout(), expansion, collect(expansion, results))


def _text(results: Mapping[str, float]) -> str:
    """Told apart to the bit, NaN equal to itself."""
    return repr(sorted(results.items()))


def _check_all(expansion: Expansion, results: Results, world: Mapping[str, Told | None]) -> Table:
    """The table and every explanation."""
    table = _table(expansion, results)
    for number in itertools.chain(table.numbers.values(), table.untrained.values()):
        _check(number, expansion, world)
    for cell in expansion.cells:
        for seed in explanation(expansion, cell, results)["seeds"]:
            for run in seed["runs"].values():
                told = world.get(run["key"])
                assert run.get("state") == (told.state if told else None)
                assert _text(run.get("results", {})) == _text(told.results if told else {})
    return table


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("no runs") / "runs")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), profile=st.sampled_from(["imagenet", "laptop"]))
def test_any_store(nowhere: Runs, data: st.DataObject, profile: str) -> None:
    """Protects every cell of a table, whatever became of its runs, from all that is in the store beside them."""
    expansion = _expansion(profile)
    world: dict[str, Told | None] = data.draw(st.fixed_dictionaries(dict.fromkeys(_keys(expansion), TOLD)))
    store = MemoryStore()
    _fill(store, world)
    wrong = Told("done", dict.fromkeys(METRICS, -1.0))
    others = _keys(_expansion("cifar10")) + [f"{number:016x}" for number in range(5)]
    _fill(store, dict.fromkeys(set(others) - set(world), wrong))
    table = _check_all(expansion, Live(store, nowhere), world)
    assert all(value >= 0 or value in _values(world) for n in table.numbers.values() for value in n.values.values())


def _values(world: Mapping[str, Told | None]) -> set[float]:
    return {value for told in world.values() if told for value in told.results.values()}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_table_from_the_file_is_the_table_from_the_store(nowhere: Runs, data: st.DataObject) -> None:
    """Protects who rebuilds a table from a results file, without the store: every form of it, to the byte."""
    expansion = _expansion("imagenet")
    store = MemoryStore()
    _fill(store, data.draw(st.fixed_dictionaries(dict.fromkeys(_keys(expansion), TOLD))))
    live = Live(store, nowhere)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_snapshot(folder / "results.json.gz", live, _keys(expansion), "c0ffee")
        for name, results in (("live", live), ("file", Snapshot(folder / "results.json.gz"))):
            write_table(_table(expansion, results), folder / name)
        assert _files(folder / "live") == _files(folder / "file")


def _files(folder: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(files) == 3
    return files


@pytest.fixture(scope="module")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("mlflow")
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def renamed() -> Callable[[], Expansion]:
    """One cell of Table 5b with keys that no other example has, as they share one MLflow."""
    number = itertools.count()

    def make() -> Expansion:
        own = next(number)
        expansion = _expansion("imagenet", "byol")
        members = (
            replace(m, subject_key=f"{own:04}{m.subject_key[4:]}", evaluation_key=f"{own:04}{m.evaluation_key[4:]}")
            for m in expansion.members
        )
        return replace(expansion, members=tuple(members))

    return make


def _in_mlflow(uri: str, keys: list[str]) -> Iterator[tuple[str, Any]]:
    """Every active MLflow run of these keys, the oldest first, as MLflow itself lists them."""
    from mlflow.tracking import MlflowClient  # noqa: PLC0415  # seconds to import

    client = MlflowClient(uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    for run in client.search_runs(experiments, order_by=["attributes.start_time ASC"], max_results=50_000):
        if run.data.tags.get("harness.key") in keys:
            yield run.data.tags["harness.key"], run


def _double(uri: str, key: str) -> None:
    """A second MLflow run of a key, as two processes leave that create one at once; it says something else."""
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    client = MlflowClient(uri)
    (first,) = (run for _, run in _in_mlflow(uri, [key]))
    tags = {"harness.key": key, "harness.state": "done"}
    second = client.create_run(first.info.experiment_id, start_time=first.info.start_time + 60_000, tags=tags)
    for metric in METRICS:
        client.log_metric(second.info.run_id, f"result.{metric}", -1.0)


@settings(max_examples=5, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_mlflow(nowhere: Runs, mlflow_uri: str, renamed: Callable[[], Expansion], data: st.DataObject) -> None:
    """Protects tables from a store that is read wrongly: MLflow is searched here by brute force; one run is doubled."""
    expansion = renamed()
    keys = _keys(expansion)
    world: dict[str, Told | None] = data.draw(st.fixed_dictionaries(dict.fromkeys(keys, TOLD)))
    store = store_at(mlflow_uri)
    _fill(store, {key: Told("done", dict.fromkeys(METRICS, -2.0)) for key in keys[:2] if world[key]})
    _fill(store, world)  # what was told first stands no more
    doubled = next((key for key in keys if world[key]), None)
    if doubled:
        _double(mlflow_uri, doubled)
    stored = Live(store_at(mlflow_uri), nowhere).find(keys)
    told: dict[str, Any] = {}
    for key, run in _in_mlflow(mlflow_uri, keys):
        told.setdefault(key, run)
    assert {key: one.run_id for key, one in stored.items()} == {key: run.info.run_id for key, run in told.items()}
    for key, run in told.items():
        one = stored[key]
        assert one.state == run.data.tags["harness.state"]
        for metric, value in one.results.items():
            logged = run.data.metrics[f"result.{metric}"]
            assert repr(logged) == repr(value) or (math.isinf(value) and abs(logged) > 1e308)
    _check_all(expansion, Live(store_at(mlflow_uri), nowhere), world)


def test_a_run_that_left_the_store_leaves_the_table(nowhere: Runs) -> None:
    """Protects a table from what was retired, forgotten or trained again after it was built."""
    expansion = _expansion("imagenet")
    store = MemoryStore()
    good = Told("done", dict.fromkeys(METRICS, 50.0))
    world: dict[str, Told | None] = dict.fromkeys(_keys(expansion), good)
    _fill(store, world)
    _check_all(expansion, Live(store, nowhere), world)
    first, second, third = (member.evaluation_key for member in expansion.members[:3])
    world |= {first: Told("retired", good.results), second: None, third: Told("done", dict.fromkeys(METRICS, 60.0))}
    store.forget(second)
    for key in (first, third):
        told = world[key]
        assert told is not None
        store.put(_record(key, told, 9_000.0), [], "2", {})
    table = _check_all(expansion, Live(store, nowhere), world)
    assert table.numbers[expansion.members[0].cell, METRICS[0]].status == "partial"


def test_the_brute_force_can_fail(nowhere: Runs) -> None:
    """Protects these tests from comparing nothing: one wrong number in the store is noticed."""
    expansion = _expansion("imagenet")
    store = MemoryStore()
    world: dict[str, Told | None] = dict.fromkeys(_keys(expansion), Told("done", dict.fromkeys(METRICS, 50.0)))
    _fill(store, world)
    key = expansion.members[0].evaluation_key
    store.runs[key] = Stored(key, "run", "done", "1", dict.fromkeys(METRICS, 50.5))
    with pytest.raises(AssertionError):
        _check_all(expansion, Live(store, nowhere), world)
