"""PostgreSQL behind MLflow, killed while many processes write: nothing is lost, nothing is doubled, nothing hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from held import difference
from mlflow.tracking import MlflowClient
from mlflow_server import Server
from postgres import WITHOUT, Postgres, find_postgres
from writers import write_all

from harness.tracking import mlflow_store
from harness.tracking.mlflow_run import EXPERIMENT
from harness.tracking.mlflow_store import MlflowStore
from harness.tracking.record import Record, Runs
from harness.tracking.spool import Point, Spool
from harness.tracking.store import StoreError
from harness.tracking.sync import sync

pytestmark = pytest.mark.skipif(find_postgres() is None, reason=WITHOUT)
KEY = "a" * 16
WRITERS = 4  # two pairs
SECONDS = 6.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """One for most of the module, as making its tables takes seconds: the writers make them."""
    with Postgres() as postgres:
        yield postgres


@pytest.fixture
def empty() -> Iterator[Postgres]:
    """One without tables."""
    with Postgres() as postgres:
        yield postgres


def _again(one: Postgres | Server) -> None:
    one.kill()
    time.sleep(1)
    one.start()


@pytest.mark.timeout(600)
def test_killed_under_writers(postgres: Postgres, tmp_path: Path) -> None:
    """Processes that touch a new database at once, two for each run, with the database killed among them."""
    runs = Runs(tmp_path / "runs")

    def meanwhile() -> None:
        time.sleep(SECONDS / 2)
        _again(postgres)

    told = write_all(postgres.uri, runs.path, WRITERS, SECONDS, meanwhile)
    found = difference(runs, postgres.uri)
    assert found.points > 1000
    assert len(runs.keys()) >= WRITERS
    assert (found.lost, found.doubled) == ({}, {})
    assert any(one.refused for one in told), "it was killed among them"


@pytest.mark.timeout(600)
def test_a_server_on_it_is_killed_too(empty: Postgres, tmp_path: Path) -> None:
    """The same through a server: first the database dies under it, then the server itself."""
    runs = Runs(tmp_path / "runs")
    with Server(tmp_path, empty.uri) as server:

        def meanwhile() -> None:
            time.sleep(SECONDS / 3)
            _again(empty)
            _again(server)

        told = write_all(server.uri, runs.path, WRITERS, SECONDS, meanwhile)
        found = difference(runs, empty.uri)
    assert found.points > 1000
    assert (found.lost, found.doubled) == ({}, {})
    assert all(one.refused for one in told)


def test_a_dead_one_is_said_at_once(
    postgres: Postgres, record: Callable[..., Record], capfd: pytest.CaptureFixture[str]
) -> None:
    """Protects a report from MLflow's own 100 seconds, and the person's screen from its tracebacks."""
    before = MlflowStore(postgres.uri)
    before.put(record("b" * 16), [], "1", {})
    postgres.kill()
    try:
        for store in (before, MlflowStore(postgres.uri)):
            began = time.monotonic()
            with pytest.raises(StoreError, match="does not answer") as caught:
                store.find([KEY])
            assert time.monotonic() - began < 30
            assert "\n" not in str(caught.value)
    finally:
        postgres.start()
    assert before.find(["b" * 16])["b" * 16].stamp == "1"
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_several_runs_of_one_key_become_one(postgres: Postgres, record: Callable[..., Record], runs: Runs) -> None:
    """Protects from a create call that was repeated since its answer got lost: the next sync leaves one whole run."""
    client = MlflowClient(postgres.uri)
    store = MlflowStore(postgres.uri)
    store.find([KEY])
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    runs.write(record(KEY))
    Spool(runs.folder(KEY) / "spool.jsonl").append(1, {"loss": 1.0})
    tags = {"harness.key": KEY, "harness.started": "1000.5", "harness.forgotten": "0"}
    made = [client.create_run(experiment, start_time=1_000_500, tags=tags).info.run_id for _ in range(3)]
    assert sync(runs, store, [KEY]) == [KEY]
    (left,) = client.search_runs([experiment], f"tags.`harness.key` = '{KEY}'")
    assert left.info.run_id in made
    assert left.data.metrics["loss"] == 1.0
    assert left.data.tags["harness.state"] == "done"


def test_a_run_says_from_its_first_moment_whose_points_it_takes(
    postgres: Postgres, record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects a resumed run whose first points another sweep, which read them before, sends a moment later."""
    key, store, log = "c" * 16, MlflowStore(postgres.uri), mlflow_store._log_metrics
    running = record(key, state="running", ended_unix_s=None, results={}, cost={})
    before = [Point(1_000, 10, {"loss": 1.0}), Point(2_000, 20, {"loss": 2.0})]
    now = [before[0], Point(3_000, 20, {"loss": 3.0})]

    def late(*told: Any) -> None:
        monkeypatch.setattr(mlflow_store, "_log_metrics", log)
        MlflowStore(postgres.uri).put(running, before, "1", {})
        log(*told)

    monkeypatch.setattr(mlflow_store, "_log_metrics", late)
    with suppress(StoreError):  # its run may be gone
        store.put(running, now, "2", {}, forgotten=1)
    store.put(running, now, "2", {}, forgotten=1)
    client = MlflowClient(postgres.uri)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    (run,) = client.search_runs([experiment], f"tags.`harness.key` = '{key}'")
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(10, 1.0), (20, 3.0)]
