"""The store in MLflow, against a real one on sqlite."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.record import Record, Runs
from harness.tracking.spool import Point, Spool
from harness.tracking.store import MemoryStore, StoreError
from harness.tracking.sync import sync

pytest.importorskip("mlflow")
from mlflow.entities import Run
from mlflow.store.db import utils
from mlflow.tracking import MlflowClient

from harness.tracking import mlflow_store
from harness.tracking.mlflow_run import EXPERIMENT
from harness.tracking.mlflow_store import MlflowStore

Make = Callable[..., Record]
KEY = "0" * 16
POINTS = [Point(1_000, 10, {"pretrain.loss": 4.0, "pretrain.spread": 0.5}), Point(2_000, 20, {"pretrain.loss": 3.0})]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for the module, as making its tables takes seconds; each test has keys of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'new folder' / 'mlflow.db'}"


@pytest.fixture(scope="module")
def store(uri: str) -> MlflowStore:
    return MlflowStore(uri)


def _runs(uri: str, key: str) -> list[Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    found: list[Run] = client.search_runs([experiment.experiment_id], f"tags.`harness.key` = '{key}'")
    return found


def _history(uri: str, key: str, metric: str) -> list[tuple[int, int, float]]:
    (run,) = _runs(uri, key)
    return [(m.timestamp, m.step, m.value) for m in MlflowClient(uri).get_metric_history(run.info.run_id, metric)]


def test_two_puts_are_one_run(store: MlflowStore, uri: str, record: Make) -> None:
    """Protects the store from doubled runs and points when a spool is sent again, here or elsewhere."""
    for one in (store, MlflowStore(uri)):
        one.put(record(KEY), POINTS, "stamp", {"table.5b": "byol"})
    assert len(_runs(uri, KEY)) == 1
    assert _history(uri, KEY, "pretrain.loss") == [(1_000, 10, 4.0), (2_000, 20, 3.0)]
    assert _history(uri, KEY, "pretrain.spread") == [(1_000, 10, 0.5)]
    assert _history(uri, KEY, "result.pretrain.loss") == [(2_000_250, 0, 0.25)]


def test_what_was_put_is_found(store: MlflowStore, record: Make) -> None:
    """Protects reports: a result is the record's, though a curve of the same name ends elsewhere."""
    one = record("1" * 16, state="diverged", results={"pretrain.loss": 0.25}, flags={"collapsed": True, "odd": False})
    put = store.put(one, POINTS, "1:2", {"table.5b": "byol"})
    found = store.find(["1" * 16, "f" * 16])
    assert found.keys() == {"1" * 16}
    stored = found["1" * 16]
    assert (stored.state, stored.stamp, stored.run_id) == ("diverged", "1:2", put.run_id)
    assert stored.results == {"pretrain.loss": 0.25}
    assert stored.flags == {"collapsed": True, "odd": False}
    assert stored.labels["table.5b"] == "byol"


def test_it_is_the_twin_of_the_memory_store(store: MlflowStore, record: Make) -> None:
    """Protects tests that use the in-memory store from proving nothing about MLflow."""
    one, memory = record("2" * 16, results={"a": 1.5, "b": 0.0}), MemoryStore()
    for each in (store, memory):
        each.put(record("2" * 16, state="failed", results={}, flags={"collapsed": True}), [], "1", {"table.1": "x"})
        each.put(one, POINTS, "2", {"table.2": "y"})
    ours, twin = store.find([one.key])[one.key], memory.find([one.key])[one.key]
    assert (ours.state, ours.stamp, ours.results, ours.flags) == (twin.state, twin.stamp, twin.results, twin.flags)
    assert twin.labels.items() <= ours.labels.items()


def test_values_that_are_no_number(store: MlflowStore, uri: str, record: Make) -> None:
    """Protects infinities, which MLflow's tables cannot hold, and a loss that became NaN."""
    results = {"up": math.inf, "down": -math.inf, "none": math.nan, "most": 1e300}
    store.put(record("3" * 16, results=results), [Point(1, 1, {"loss": math.nan})] * 2, "1", {})
    found = store.find(["3" * 16])["3" * 16].results
    assert (found["up"], found["down"], found["most"]) == (math.inf, -math.inf, 1e300)
    assert math.isnan(found["none"])
    ((_, _, loss),) = _history(uri, "3" * 16, "loss")
    assert math.isnan(loss)


def test_tags_and_parameters(store: MlflowStore, uri: str, record: Make) -> None:
    """Protects the person who looks for a run in MLflow's own page."""
    one = record("4" * 16, selection={"learning_rate": 0.1}, error="it broke")
    store.put(one, [], "1", {"table.5b": "byol", "harness.profile": "laptop"})
    (run,) = _runs(uri, "4" * 16)
    expected = {
        "harness.key": "4" * 16,
        "harness.kind": "pretrain",
        "harness.state": "done",
        "harness.seed": "2",
        "harness.commit": "c0ffee",
        "harness.flag.collapsed": "false",
        "harness.selection": "learning_rate=0.1",
        "harness.error": "it broke",
        "harness.profile": "laptop",
        "table.5b": "byol",
    }
    assert expected.items() <= run.data.tags.items()
    assert run.data.params == {
        "kind": "pretrain",
        "seed": "2",
        "model.encoder": "resnet50",
        "model.projector": "[4096, 256]",
    }
    assert (run.info.run_name, run.info.status) == (f"pretrain-{'4' * 16}", "FINISHED")
    assert (run.info.start_time, run.info.end_time) == (1_000_500, 2_000_250)
    assert run.data.metrics["cost.wall_s"] == 999.75


def test_a_second_attempt_replaces_the_first(store: MlflowStore, uri: str, record: Make) -> None:
    """Protects a run that failed and then went well from its old error, status and flags."""
    key = "5" * 16
    seen = []
    for state, changes in (
        ("failed", {"error": "boom", "results": {"loss": 9.0}, "flags": {"old": True}}),
        ("running", {"ended_unix_s": None, "results": {}}),
        ("done", {"ended_unix_s": 3_000.0, "results": {"loss": 1.0}}),
    ):
        store.put(record(key, state=state, **changes), [], state, {})
        (run,) = _runs(uri, key)
        seen.append((run.info.status, run.data.tags.get("harness.error")))
    assert seen == [("FAILED", "boom"), ("RUNNING", None), ("FINISHED", None)]
    stored = store.find([key])[key]
    assert (stored.results, stored.flags) == ({"loss": 1.0}, {"collapsed": False})


def test_a_result_corrected_by_hand(store: MlflowStore, uri: str, record: Make, runs: Runs) -> None:
    """Protects a table from the former number: of two results at one time MLflow shows the larger."""
    key = "8" * 16
    for results in ({"x": 90.0, "y": 1.0, "z": math.nan}, {"x": 80.0, "z": math.nan}):
        runs.write(record(key, results=results))
        assert sync(runs, store, [key]) == [key]
        found = store.find([key])[key].results
        assert found.keys() == results.keys()
        assert found["x"] == results["x"]
    (run,) = _runs(uri, key)
    runs.write(record(key, results={"x": 80.0, "z": math.nan, "more": 1.0}))
    assert sync(runs, store, [key]) == [key]
    assert [one.info.run_id for one in _runs(uri, key)] == [run.info.run_id], "what is new is added"


def test_labels_are_added(store: MlflowStore, uri: str, record: Make) -> None:
    """Protects a run that another table wants as well from being sent again: its tags grow, nothing else changes."""
    put = store.put(record("9" * 16), POINTS, "1", {"table.5a": "tau_0.99"})
    store.label(put, {"table.5b": "byol"})
    stored = store.find(["9" * 16])["9" * 16]
    assert (stored.labels["table.5a"], stored.labels["table.5b"]) == ("tau_0.99", "byol")
    assert (stored.run_id, stored.stamp, stored.results) == (put.run_id, "1", put.results)


def test_many_are_found_at_once(store: MlflowStore, record: Make) -> None:
    """Protects the searches that go at the same time from answering for each other."""
    keys = [f"{number:016x}" for number in range(100, 120)]
    for number, key in enumerate(keys[::2]):
        store.put(record(key, spec={}, results={"x": float(number)}), [], "1", {})
    found = store.find(keys)
    assert list(found) == keys[::2]
    assert [stored.results["x"] for stored in found.values()] == list(range(10))


def test_a_run_that_another_deletes_meanwhile(
    store: MlflowStore, uri: str, record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects two sweeps of one table, which send the same runs, from saying of a living server that it is dead."""
    key, log = "e" * 16, mlflow_store._log_metrics

    def after_the_other(client: MlflowClient, run_id: str, *told: Any) -> None:
        monkeypatch.setattr(mlflow_store, "_log_metrics", log)
        client.delete_run(run_id)
        log(client, run_id, *told)

    monkeypatch.setattr(mlflow_store, "_log_metrics", after_the_other)
    put = store.put(record(key), iter(POINTS), "1", {})
    (run,) = _runs(uri, key)
    assert run.info.run_id == put.run_id
    assert _history(uri, key, "pretrain.loss") == [(1_000, 10, 4.0), (2_000, 20, 3.0)]


def test_a_run_that_another_makes_meanwhile(
    store: MlflowStore, uri: str, record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects a resumed run from points that no longer stand, which another sweep sends from what it read before."""
    key, create = "d" * 16, MlflowClient.create_run

    def after_the_other(self: MlflowClient, experiment: str, start_time: int, **told: Any) -> Run:
        monkeypatch.setattr(MlflowClient, "create_run", create)
        tags = {**told["tags"], "harness.forgotten": "0"}
        theirs = create(self, experiment, start_time=start_time - 1, tags=tags)
        self.log_metric(theirs.info.run_id, "pretrain.loss", 9.0, timestamp=1_500, step=20)
        return create(self, experiment, start_time=start_time, **told)

    monkeypatch.setattr(MlflowClient, "create_run", after_the_other)
    store.put(record(key), POINTS, "1", {}, forgotten=1)
    assert _history(uri, key, "pretrain.loss") == [(1_000, 10, 4.0), (2_000, 20, 3.0)]


def test_very_many_are_found_in_a_list(
    store: MlflowStore, uri: str, record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects reports on thousands of runs from a search each; what is found, doubled runs among it, is the same."""
    keys = [f"{number:016x}" for number in range(200, 212)]
    for number, key in enumerate(keys[:9]):
        store.put(record(key, spec={}, results={"x": float(number)}, started_unix_s=2_000.0 - number), [], "1", {})
    client = MlflowClient(uri)
    for key in keys[:3]:
        (run,) = _runs(uri, key)
        for start in (run.info.start_time, run.info.start_time + 1):
            client.create_run(run.info.experiment_id, start_time=start, tags={"harness.key": key})
    one_by_one = store.find(keys)
    monkeypatch.setattr(mlflow_store, "MANY", len(keys))
    monkeypatch.setattr(mlflow_store, "PAGE", 4)
    searched: list[str] = []
    monkeypatch.setattr(MlflowStore, "_run", lambda _, __, key: searched.append(key))
    assert store.find(keys) == one_by_one
    assert list(one_by_one) == keys[:9]
    assert not searched


def test_forgotten_points_are_taken_out(store: MlflowStore, uri: str, record: Make, runs: Runs) -> None:
    """Protects each step of a resumed run from standing twice, though it was sent before the run was stopped."""
    key = "6" * 16
    spool = Spool(runs.folder(key) / "spool.jsonl")
    runs.write(record(key, state="running", ended_unix_s=None))
    for step in (10, 20):
        spool.append(step, {"loss": 1.0})
    sync(runs, store, [key])
    spool.drop_after(10)
    spool.append(20, {"loss": 2.0})
    assert sync(runs, store, [key]) == [key]
    assert [(step, value) for _, step, value in _history(uri, key, "loss")] == [(10, 1.0), (20, 2.0)]
    assert sync(runs, store, [key]) == []


def test_more_metrics_than_one_call_takes(store: MlflowStore, uri: str, record: Make) -> None:
    """Protects long runs from MLflow's limit of 1000 metrics and 100 parameters a call."""
    spec = {f"p{i}": i for i in range(150)}
    points = [Point(step, step, {"a": 1.0, "b": 2.0}) for step in range(600)]
    store.put(record("7" * 16, spec=spec), points, "1", {})
    assert len(_history(uri, "7" * 16, "a")) == len(_history(uri, "7" * 16, "b")) == 600
    (run,) = _runs(uri, "7" * 16)
    assert run.data.params == {name: str(value) for name, value in spec.items()}


def test_a_server_that_is_not_there() -> None:
    """Protects a report from hanging: one sentence within seconds, not the minutes of MLflow's own retries."""
    with socket.socket() as probe:  # a port that was free a moment ago
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(StoreError, match=f"^MLflow at {address} does not answer: ") as caught:
        MlflowStore(address).find([KEY])
    assert time.monotonic() - started < 15
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the person from SQLAlchemy's traceback."""
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 100)
    monkeypatch.setattr(utils, "MAX_RETRY_COUNT", 1)  # MLflow tries for 100 seconds
    with pytest.raises(StoreError, match=r"does not answer: .*file is not a database"):
        MlflowStore(f"sqlite:///{tmp_path / 'mlflow.db'}").find([KEY])


def test_a_uri_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the person from a traceback for MLFLOW_TRACKING_URI=nonsense://."""
    monkeypatch.setattr(utils, "MAX_RETRY_COUNT", 1)
    unused: Any = MlflowStore("nonsense://somewhere")
    with pytest.raises(StoreError, match="nonsense://somewhere"):
        unused.find([KEY])
