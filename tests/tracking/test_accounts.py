"""The server that compose.yaml describes, started for real with PostgreSQL behind it: who has an account gets in."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg2
import pytest
import yaml
from postgres import WITHOUT, Postgres, find_postgres, free_port

from harness.tracking.mlflow_store import MlflowStore
from harness.tracking.record import Record, Runs
from harness.tracking.store import StoreError
from harness.tracking.sync import sync

pytestmark = pytest.mark.skipif(find_postgres() is None, reason=WITHOUT)
DOCKER = Path(__file__).parents[2] / "cluster" / "docker"
KEY = "a" * 16
ADMIN = "an-admin's-password"
PASSWORD = "open/sesame@home"
START_SECONDS = 240


def _filled(value: str, **told: str) -> str:
    """As compose does it: ${NAME:?why} must be told, ${NAME:-default} may be."""
    required = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: told[found[1]], value)
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: told.get(found[1], found[2]), required)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return document


@pytest.fixture(scope="module")
def database(compose: dict[str, Any]) -> Iterator[dict[str, str]]:
    """A PostgreSQL in which compose's SQL was run at the start, as libpq's variables name it."""
    with Postgres() as postgres:
        where = urlsplit(postgres.uri)
        connection = psycopg2.connect(postgres.uri.replace("+psycopg2", ""))
        connection.autocommit = True
        (script,) = compose["services"]["postgresql"]["configs"]
        connection.cursor().execute(compose["configs"][script["source"]]["content"])
        connection.close()
        login = {"PGHOST": "127.0.0.1", "PGPORT": str(where.port), "PGUSER": str(where.username)}
        yield login | {"PGPASSWORD": unquote(str(where.password))}


@pytest.fixture(scope="module")
def server(
    compose: dict[str, Any], database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Its address. Of compose's command line the host, the port and the folder alone are others."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    service = compose["services"]["mlflow"]
    ours = {"--host": "127.0.0.1", "--port": str(port), "--artifacts-destination": str(folder / "artifacts")}
    words = [word.partition("=")[0] for word in service["command"]]
    assert ours.keys() <= set(words)
    command = [
        f"{word}={ours[word]}" if word in ours else whole for word, whole in zip(words, service["command"], strict=True)
    ]
    secrets = {
        "POSTGRES_PASSWORD": "not used here",
        "MLFLOW_ADMIN_PASSWORD": ADMIN,
        "MLFLOW_SECRET_KEY": "a long random word",
    }
    environment = {name: _filled(value, **secrets) for name, value in service["environment"].items()}
    environment |= {**database, "MLFLOW_AUTH_CONFIG_PATH": str(DOCKER / "accounts.ini")}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PG"))}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            cwd=folder,
            env={**inherited, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        ends = time.monotonic() + START_SECONDS
        while _status(f"http://127.0.0.1:{port}/health") != 200:
            assert process.poll() is None, (folder / "log").read_text()[-4000:]
            assert time.monotonic() < ends, (folder / "log").read_text()[-4000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the group that was started for it: the server and its workers
            process.wait(timeout=20)


def _status(url: str, told: dict[str, str] | None = None, account: str = "", host: str = "") -> int:
    """What the server answers; 0 where it does not."""
    headers = {"Content-Type": "application/json", **({"Host": host} if host else {})}
    if account:
        headers["Authorization"] = f"Basic {base64.b64encode(account.encode()).decode()}"
    request = urllib.request.Request(url, json.dumps(told).encode() if told else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture
def log_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    def told(name: str, password: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    return told


def _make(server: str, name: str, account: str = f"admin:{ADMIN}") -> int:
    return _status(f"{server}/api/2.0/mlflow/users/create", {"username": name, "password": PASSWORD}, account)


@pytest.mark.timeout(600)
def test_accounts(server: str, runs: Runs, record: Callable[..., Record], log_in: Callable[[str, str], None]) -> None:
    """Admin's account makes others. The first that writes owns the experiment, and another writes when it is let."""
    assert _make(server, "harness", account="") == 401
    assert _make(server, "harness") == _make(server, "other") == 200
    runs.write(record(KEY))
    log_in("harness", PASSWORD)
    assert sync(runs, MlflowStore(server), [KEY]) == [KEY]
    found = MlflowStore(server).find([KEY])[KEY]
    assert found.results == record(KEY).results

    log_in("other", PASSWORD)
    assert MlflowStore(server).find([KEY]) == {KEY: found}, "it may read"
    with pytest.raises(StoreError, match="refuses this account"):
        sync(runs, MlflowStore(server), [KEY], rebuild=True)
    own = {"username": "other", "resource_type": "experiment", "resource_id": found.experiment, "permission": "MANAGE"}
    assert _status(f"{server}/api/3.0/mlflow/users/permissions/grant", own, f"admin:{ADMIN}") == 200
    assert sync(runs, MlflowStore(server), [KEY], rebuild=True) == [KEY]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "password"), [("harness", "no/sesame@home"), ("nobody", PASSWORD), ("", "")])
def test_nobody_else(server: str, name: str, password: str, log_in: Callable[[str, str], None]) -> None:
    """One sentence says which variables count, and no password."""
    log_in(name, password)
    with pytest.raises(StoreError, match="refuses this account: MLFLOW_TRACKING_USERNAME and") as refused:
        MlflowStore(server).find([KEY])
    assert "sesame" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.timeout(600)
def test_a_name_that_nobody_gave_it(server: str) -> None:
    """A page elsewhere that has a browser ask under a name of its own gets nothing."""
    page = f"{server}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    assert _status(page, account=f"admin:{ADMIN}") == 200
    assert _status(page, account=f"admin:{ADMIN}", host="elsewhere.example") == 403
