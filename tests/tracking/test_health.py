"""What is said of MLflow: real databases in every state, and servers that are dead, silent, old or closed to us."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from harness.tracking.health import health
from harness.tracking.mlflow_run import EXPERIMENT
from harness.tracking.mlflow_store import MlflowStore

BEFORE = "1b5f0d9ad7c1"  # an old form


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as a sweep leaves it."""
    path = tmp_path_factory.mktemp("made") / "mlflow.db"
    MlflowStore(f"sqlite:///{path}").find(["0" * 16])
    return path


@pytest.fixture
def database(made: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copy(made, tmp_path / "mlflow.db"))


def spoil(database: Path, *statements: str) -> None:
    """Behind MLflow's back."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_a_database_that_is_well(database: Path) -> None:
    """With the experiment's number; looking changes no byte of it."""
    before = database.read_bytes()
    found = health(f"sqlite:///{database}")
    assert (found.state, f"experiment {EXPERIMENT} is number 1" in found.found) == ("ok", True)
    assert database.read_bytes() == before
    assert [path.name for path in database.parent.iterdir()] == ["mlflow.db"]


def test_a_database_that_is_yet_to_be_made(tmp_path: Path) -> None:
    """Neither a file that is not there nor an empty one is a fault, and neither is made."""
    found = health(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert (found.state, "the first sweep makes it" in found.found) == ("ok", True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mlflow.db").touch()
    assert (health(f"sqlite:///{tmp_path / 'mlflow.db'}").state, (tmp_path / "mlflow.db").stat().st_size) == ("ok", 0)


def test_an_old_form(database: Path) -> None:
    """MLflow refuses it, and so does the doctor, with MLflow's own command for it."""
    spoil(database, f"UPDATE alembic_version SET version_num = '{BEFORE}'")
    uri = f"sqlite:///{database}"
    with pytest.raises(MlflowException, match="out-of-date database schema"):
        MlflowClient(uri).search_experiments()
    found = health(uri)
    assert (found.state, f'mlflow db upgrade "{uri}"' in found.remedy) == ("fail", True)
    assert f"has the form {BEFORE}" in found.found


def test_a_deleted_experiment(database: Path) -> None:
    """MLflow would refuse every run of it."""
    MlflowClient(f"sqlite:///{database}").delete_experiment("1")
    found = health(f"sqlite:///{database}")
    assert (found.state, found.remedy) == ("fail", "`.venv/bin/mlflow experiments restore --experiment-id 1`")


def test_a_database_that_cannot_be_written_or_read(database: Path, tmp_path: Path) -> None:
    """One that may only be read, one that another process holds for itself, and a file that is none."""
    read_only = health(f"sqlite:///file:{database}?mode=ro&uri=true")
    assert (read_only.state, "readonly database" in read_only.found) == ("fail", True)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        locked = health(f"sqlite:///{database}?timeout=0.1")
    assert (locked.state, "database is locked" in locked.found) == ("fail", True)
    (tmp_path / "text").write_text("this is no database, whatever its name may say" * 100)
    assert health(f"sqlite:///{tmp_path / 'text'}").state == "fail"


def test_a_dead_database_and_its_password() -> None:
    """Said without the password, of which no error may speak."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = health(f"postgresql+psycopg2://user:secret@127.0.0.1:{free.getsockname()[1]}/mlflow")
    unknown = health("mysql+nosuchdriver://user:secret@127.0.0.1/mlflow")
    assert (dead.state, "Connection refused" in dead.found) == ("fail", True)
    assert unknown.state == "fail"
    assert "secret" not in f"{dead} {unknown}"


@pytest.mark.skipif(importlib.util.find_spec("pymssql") is not None, reason="its driver is installed")
def test_a_database_whose_driver_is_not_installed() -> None:
    """Says which, and the address that takes the one that is locked."""
    found = health("mssql+pymssql://user:secret@127.0.0.1/mlflow")
    assert (found.state, "needs a driver that is not installed (pymssql)" in found.found) == ("fail", True)
    assert "postgresql+psycopg2://" in found.remedy


class Answers(BaseHTTPRequestHandler):
    """What the tests' server says: by path, a status and a body."""

    said: dict[str, tuple[int, str]]

    def do_GET(self) -> None:  # the base class's name
        status, body = self.said[self.path.partition("?")[0]]
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_told: object) -> None:
        """The screen is the tests'."""


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """A server of `version` with, or without, the experiment; returns its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(version: str, status: int = 200, **experiment: str) -> str:
        body = {"experiment": {"experiment_id": "7", "name": EXPERIMENT, **experiment}}
        if status == 401:
            body = "You are not authenticated."  # type: ignore[assignment]
        if status == 404:
            body = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}  # type: ignore[dict-item]
        said = {
            "/api/2.0/mlflow/experiments/get-by-name": (status, body if isinstance(body, str) else json.dumps(body)),
            "/version": (200, version),
        }
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("These", (Answers,), {"said": said}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_server_that_is_well(serve: Callable[..., str]) -> None:
    """Of our version, with the experiment or before it."""
    from mlflow.version import VERSION  # noqa: PLC0415

    found = health(serve(VERSION, lifecycle_stage="active"))
    assert (found.state, f"MLflow {VERSION} at http://127.0.0.1:" in found.found) == ("ok", True)
    assert found.found.endswith("is number 7")
    assert health(serve(VERSION, 404)).found.endswith("is to be made")


def test_a_server_of_another_version(serve: Callable[..., str]) -> None:
    """Its form of runs may differ: a warning. One whose experiment was deleted takes no run."""
    found = health(serve("2.9.2", lifecycle_stage="active"))
    assert (found.state, "MLflow 2.9.2 at" in found.found) == ("warn", True)
    assert health(serve("2.9.2", lifecycle_stage="deleted")).state == "fail"


def test_a_server_that_does_not_let_us_in(serve: Callable[..., str]) -> None:
    """The remedy is another than for one that is dead."""
    found = health(serve("3.0", 401))
    assert (found.state, "MLFLOW_TRACKING_PASSWORD" in found.remedy) == ("fail", True)


def test_a_dead_server_and_a_silent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is said in its time, with what a sweep does meanwhile."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        uri = f"http://user:secret@127.0.0.1:{server.getsockname()[1]}"
        dead = health(uri)
        server.listen()
        silent = health(uri)
    for found in (dead, silent):
        assert (found.state, "harness sync" in found.remedy, "secret" in str(found)) == ("fail", True, False)
    assert "timed out" in silent.found
