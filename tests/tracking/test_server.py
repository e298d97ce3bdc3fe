"""A real MLflow server that dies, comes back, and loses everything: no number is lost, none stands twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from mlflow_server import Server

from harness.tracking.mlflow_run import EXPERIMENT
from harness.tracking.mlflow_store import MlflowStore
from harness.tracking.record import Record, Runs
from harness.tracking.spool import Spool
from harness.tracking.store import StoreError
from harness.tracking.sync import sync

KEY = "a" * 16
DATABASE = "server.db"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, f"sqlite:///{tmp_path / DATABASE}") as server:
        yield server


def _points(server: Server) -> list[tuple[int, float]]:
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss"))


@pytest.mark.timeout(300)
def test_a_server_that_dies_and_comes_back(server: Server, tmp_path: Path, record: Callable[..., Record]) -> None:
    """Reports go on while it is dead; afterwards each point stands once, also in a store made anew."""
    runs, store = Runs(tmp_path / "runs"), MlflowStore(server.uri)
    spool = Spool(runs.folder(KEY) / "spool.jsonl")
    runs.write(record(KEY, state="running", ended_unix_s=None, results={}))
    for step in range(10):
        spool.append(step, {"loss": float(step)})
    assert sync(runs, store, [KEY]) == [KEY]

    server.kill()
    began = time.monotonic()
    for step in range(10, 20):
        spool.append(step, {"loss": float(step)})
    assert time.monotonic() - began < 1, "a report waits for the disk alone"
    with pytest.raises(StoreError, match="does not answer"):
        sync(runs, store, [KEY])

    server.start()
    runs.write(record(KEY))
    whole = [(step, float(step)) for step in range(20)]
    assert sync(runs, store, [KEY]) == [KEY]
    assert _points(server) == whole
    assert sync(runs, store, [KEY]) == [], "the second time there is nothing to send"
    told = store.find([KEY])[KEY]

    server.kill()
    (tmp_path / DATABASE).unlink()
    server.start()
    assert sync(runs, MlflowStore(server.uri), [KEY], rebuild=True) == [KEY]
    assert _points(server) == whole
    rebuilt = MlflowStore(server.uri).find([KEY])[KEY]
    assert (rebuilt.state, rebuilt.results, rebuilt.flags) == (told.state, told.results, told.flags)
