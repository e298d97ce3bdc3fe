"""Reading MLflow's database with SQLite alone: the same answers as MLflow's, without MLflow."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.tracking.record import Record, Runs
from harness.tracking.sqlite_store import SCHEMA, SqliteStore
from harness.tracking.store import StoreError
from harness.tracking.stores import store_at
from harness.tracking.sync import sync

pytest.importorskip("mlflow")
from mlflow.tracking import MlflowClient

from harness.tracking.mlflow_run import EXPERIMENT
from harness.tracking.mlflow_store import MlflowStore

Make = Callable[..., Record]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory, record: Make) -> str:
    """Runs in every state, told twice, doubled, retired, deleted, and in another experiment."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    store = MlflowStore(uri)
    store.put(record("a" * 16, results={"x": 0.1 + 0.2, "y": -1e300}, flags={"collapsed": True}), [], "1", {"t": "c"})
    odd = {"up": math.inf, "down": -math.inf, "none": math.nan}
    store.put(record("b" * 16, state="diverged", results=odd), [], "1", {})
    store.put(record("c" * 16, state="failed", results={}, error="boom"), [], "1", {})
    for results in ({"x": 90.0, "gone": 1.0}, {"x": 80.0}):  # corrected by hand: the same start and end
        store.put(record("d" * 16, results=results), [], "1", {})
    for started in (1_000.0, 5_000.0):  # another attempt
        store.put(record("e" * 16, started_unix_s=started, results={"x": started}), [], "1", {})
    store.put(record("f" * 16), [], "1", {})
    store.forget("f" * 16)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    key = {"harness.key": "9" * 16, "harness.state": "done"}
    for start, value in ((3_000, 3.0), (2_000, 2.0), (2_000, 2.5)):  # the oldest stands
        run = client.create_run(experiment.experiment_id, start_time=start, tags=key)
        client.log_metric(run.info.run_id, "result.x", value)
    elsewhere = client.create_run(
        client.create_experiment("another"), start_time=1, tags={**key, "harness.key": "8" * 16}
    )
    client.log_metric(elsewhere.info.run_id, "result.x", 8.0)
    return uri


KEYS = [digit * 16 for digit in "abcdef9870"]


def test_it_reads_what_mlflow_reads(uri: str) -> None:
    """Protects every number of a report from a second way of reading that differs from MLflow's own."""
    own, theirs = SqliteStore(uri).find(KEYS), MlflowStore(uri).find(KEYS)
    assert own.keys() == theirs.keys() == {digit * 16 for digit in "abcde9"}
    for key, stored in own.items():
        assert repr(sorted(stored.results.items())) == repr(sorted(theirs[key].results.items())), "NaN included"
        assert (stored.run_id, stored.state, stored.stamp) == (theirs[key].run_id, theirs[key].state, theirs[key].stamp)
        assert (stored.flags, stored.labels, stored.experiment) == (
            theirs[key].flags,
            theirs[key].labels,
            theirs[key].experiment,
        )


def test_what_stands_there(uri: str) -> None:
    """Protects the numbers themselves, bit for bit, and what was corrected or trained again from its former number."""
    found = SqliteStore(uri).find(KEYS)
    assert found["a" * 16].results == {"x": 0.1 + 0.2, "y": -1e300}
    assert found["a" * 16].flags == {"collapsed": True}
    assert repr(sorted(found["b" * 16].results.items())) == "[('down', -inf), ('none', nan), ('up', inf)]"
    assert (found["b" * 16].state, found["c" * 16].state) == ("diverged", "failed")
    assert found["d" * 16].results == {"x": 80.0}
    assert found["e" * 16].results == {"x": 5_000.0}
    assert found["9" * 16].results["x"] in (2.0, 2.5)


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    """Protects a report before the first run: no database, no folder, no seconds of MLflow."""
    path = tmp_path / "home" / "mlflow.db"
    store = store_at(f"sqlite:///{path}")
    assert isinstance(store, SqliteStore)
    assert store.find(KEYS) == {}
    assert not path.parent.exists()


def test_the_schema_is_that_of_the_installed_mlflow(uri: str) -> None:
    """Protects reports from an MLflow that keeps runs in another way: where this fails, compare, then move SCHEMA."""
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA,)]


def test_another_schema_is_left_to_mlflow(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a database of a later MLflow from being read in the old way."""
    monkeypatch.setattr("harness.tracking.sqlite_store.SCHEMA", "another")
    monkeypatch.setattr("harness.tracking.sqlite_store._read", lambda *_: pytest.fail("read in the old way"))
    assert SqliteStore(uri).find(KEYS).keys() == MlflowStore(uri).find(KEYS).keys()


def test_a_damaged_database(tmp_path: Path) -> None:
    """Protects the person from a traceback."""
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 100)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.raises(StoreError, match=f"^MLflow at {uri} does not answer: file is not a database$"):
        SqliteStore(uri).find(KEYS)


def test_a_server_is_asked_through_mlflow() -> None:
    """Protects every other address: those only MLflow knows."""
    assert isinstance(store_at("http://127.0.0.1:1"), MlflowStore)
    assert isinstance(store_at("sqlite:///here.db?mode=ro"), MlflowStore)


LOOK = """
import sys
from harness.tracking.record import Runs
from harness.tracking.stores import store_at
from harness.tracking.sync import sync
from pathlib import Path
runs = Runs(Path(sys.argv[1]))
store = store_at(sys.argv[2])
print(sync(runs, store, runs.keys()), len(store.find(runs.keys())), "mlflow" in sys.modules)
"""


def test_mlflow_is_not_imported_to_read(uri: str, runs: Runs, record: Make) -> None:
    """Protects reports on finished runs from the seconds that importing MLflow takes."""
    runs.write(record("7" * 16))
    sync(runs, store_at(uri), ["7" * 16])
    command = [sys.executable, "-c", LOOK, str(runs.path), uri]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[] 1 False\n"
