"""Passwords in addresses: whatever is asked, and whether or not anybody answers there, none is ever said or kept."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.commands import sync_all
from harness.config.masked import masked
from harness.tracking.mlflow_store import MlflowStore
from harness.tracking.record import Record, Runs
from harness.tracking.store import MemoryStore, StoreError

ROOT = Path(__file__).parents[2]
SECRET, PART = "hunter2-S3cr/t@x", "S3cr"  # the slash and the sign nobody escaped
KEY = "0" * 16
COMMANDS = (
    ("report", "table5b"),
    ("status", "table5b", "--json"),
    ("plan", "table5b"),
    ("explain", "table5b:byol"),
    ("explain", "table5b:byol", "--json"),
    ("run", "table6"),
    ("sync",),
    ("sync", "--rebuild"),
    ("export-results", "results.json"),
    ("retire", KEY, "--reason", "a test"),
)
SYNC = COMMANDS.index(("sync",))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:secret@host/path", "https://***@host/path"),
        ("postgresql+psycopg2://u:p@ss/w@h:5432/db", "postgresql+psycopg2://***@h:5432/db"),
        ("https://token@host", "https://***@host"),
        ("postgresql://h/db?user=u&password=secret", "postgresql://h/db?***"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("no answer at https://u:secret@host/: refused, ask a@b", "no answer at https://***@host/: refused, ask a@b"),
        ("'https://u:a@h', 'ray://u:b@h'", "'https://***@h', 'ray://***@h'"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_an_address_is_said_without_what_opens_it(text: str, shown: str) -> None:
    """Protects the password, and the host, which a person needs to mend anything."""
    assert masked(text) == shown
    assert masked(masked(text)) == shown


_WORD = st.text(st.characters(codec="ascii", exclude_categories=["C", "Z"]), min_size=1).map(lambda word: f"Q9{word}Q9")


@given(
    st.sampled_from(["https", "postgresql+psycopg2", "mysql", "ray"]), _WORD, _WORD, st.sampled_from(["", " x", "\n"])
)
def test_no_password_gets_through(scheme: str, user: str, password: str, after: str) -> None:
    """Protects every character a password may have but blanks, escaped or not."""
    assert "Q9" not in masked(f"at {scheme}://{user}:{password}@host:1/db{after}")


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]  # bound, but nobody listens


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, and a home with one finished run."""
    for part in ("experiments", "tables"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("built"))
    for name in [name for name in os.environ if name.startswith(("HARNESS_", "MLFLOW_TRACKING", "RAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys.modules[sync_all.__module__], "all_plans", lambda _here: []
    )  # of every table: takes seconds
    facts = {"commit": "c", "environment": {}, "started_unix_s": time.time()}
    record = Record(key=KEY, kind="pretrain", state="running", spec={}, **facts)
    Runs(tmp_path / "home" / "runs").write(record.ended("done", time.time(), results={"pretrain.loss": 1.0}))
    return tmp_path


def kept(folder: Path) -> list[Path]:
    """The files with a part of the secret in them."""
    return [path for path in folder.rglob("*") if path.is_file() and PART.encode() in path.read_bytes()]


@pytest.mark.parametrize("secret", [SECRET, "S3cr-plain"])
@pytest.mark.parametrize("scheme", ["http", "postgresql", "postgresql+psycopg2", "nonsense"])
def test_no_command_says_the_password_of_a_dead_server(
    scheme: str,
    secret: str,
    closed_port: int,
    checkout: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Protects it on the screen and in every file, where MLflow, its HTTP client or its database says what is wrong."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://user:{secret}@127.0.0.1:{closed_port}/db")
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # it would try for minutes
    codes = [main(list(words)) for words in (COMMANDS if scheme == "http" else COMMANDS[SYNC : SYNC + 1])]
    said = capfd.readouterr()
    assert 2 in codes
    assert 1 not in codes
    assert f"{scheme}://***@127.0.0.1:{closed_port}/db does not answer" in said.err
    assert PART not in said.out + said.err
    assert "Traceback" not in said.err
    assert kept(checkout) == []


def test_no_command_says_the_password_of_a_server_that_answers(
    checkout: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects it where all is well: how many runs were sent where, the page's links, the results file."""
    store = MemoryStore(f"https://user:{SECRET}@mlflow.example/base")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.setattr(sys.modules["harness.commands.report"], "store_at", lambda _uri: store)
    for words in COMMANDS:
        assert main(list(words)) == 0, words
    said = capfd.readouterr()
    assert "1 of 1 runs sent to https://***@mlflow.example/base" in said.out
    assert "MLflow: https://***@mlflow.example/base" in said.out
    assert '"uri": "https://***@mlflow.example/base"' in (checkout / "results.json").read_text()
    assert PART not in said.out + said.err
    assert kept(checkout) == []


def test_a_reason_is_masked_before_it_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from half an address, which no longer looks like one."""
    store = MlflowStore(f"http://user:{SECRET}@127.0.0.1:1/")

    def fail(_uri: str) -> None:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415  # slow to import

        raise MlflowException(f"{'x' * 80} https://user:{SECRET}{'y' * 60}@host/ says no")

    monkeypatch.setattr("harness.tracking.mlflow_store.MlflowClient", fail)
    with pytest.raises(StoreError) as caught:
        store.find([KEY])
    assert PART not in str(caught.value)


def test_make_ui_says_no_password_to_who_lists_processes(tmp_path: Path) -> None:
    """Protects it from `ps`, by what make really starts: the address goes by the environment, where MLflow takes it.
    The server listens on this machine alone, whatever the environment says.
    """
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.lock", "pyproject.toml", "cluster/setup.sh", ".venv/ready"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    program = tmp_path / ".venv" / "bin" / "mlflow"
    program.parent.mkdir()
    shows = 'tr "\\0" " " </proc/$$/cmdline\necho\necho "by environment: $MLFLOW_BACKEND_STORE_URI"\n'
    program.write_text(f"#!/bin/sh\n{shows}")
    program.chmod(0o755)
    (program.parent / "harness").write_text(f'#!/bin/sh\nexec {sys.executable} -m harness "$@"\n')
    (program.parent / "harness").chmod(0o755)
    uri = f"postgresql://user:{SECRET}@host/db"
    environment = {**os.environ, "HARNESS_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": uri, "MLFLOW_HOST": "0.0.0.0"}
    command = ["make", "--no-print-directory", "ui"]  # make runs these tests, too
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    arguments, told = done.stdout.splitlines()
    assert arguments.split()[-3:] == ["ui", "--host", "127.0.0.1"]
    assert PART not in arguments + done.stderr
    assert told == f"by environment: {uri}"
    from mlflow.cli import cli  # noqa: PLC0415  # slow to import

    options = {option.name: option for option in cli.commands["server"].params}
    assert options["backend_store_uri"].envvar == "MLFLOW_BACKEND_STORE_URI"
    assert "--host" in options["host"].opts
