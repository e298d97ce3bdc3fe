"""A PostgreSQL of a test's own on loopback, that can be killed and started again."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

USER = "harness"
DATABASE = "mlflow"
UNPRIVILEGED = "postgres"  # the account that Debian's package makes: the server refuses to be root
WITHOUT = "no PostgreSQL: install Debian's postgresql"
START_SECONDS = 90  # recovery after a kill on a busy machine included


def find_postgres() -> Path | None:
    """The folder of the newest server's programs; Debian keeps them off the path."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if debian:
        return debian[-1].parent
    initdb = shutil.which("initdb")
    return None if initdb is None else Path(initdb).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Postgres:
    """A cluster in a temporary folder, reached with a password over TCP alone. It runs inside a `with` block; nothing
    of it is left after that.
    """

    def __init__(self) -> None:
        programs = find_postgres()
        if programs is None:
            raise FileNotFoundError(WITHOUT)
        self._programs = programs
        self.port = free_port()
        self._password = secrets.token_urlsafe(12)
        self._folder = Path(tempfile.mkdtemp(prefix="harness-postgres-"))
        self._as: dict[str, Any] = {"cwd": self._folder}
        password = self._folder / "password"
        password.write_text(self._password)
        if os.getuid() == 0:
            self._as |= {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}
            for path in (self._folder, password):
                shutil.chown(path, UNPRIVILEGED, UNPRIVILEGED)
        made = [programs / "initdb", "-D", self._folder / "data", "-U", USER, "--auth=scram-sha-256"]
        made += [f"--pwfile={password}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL, **self._as)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # without waiting for clients
            self._process.wait(timeout=60)
        shutil.rmtree(self._folder)

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg2://{USER}:{self._password}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Answers when this returns. What a killed server had committed is there again."""
        command = [self._programs / "postgres", "-D", self._folder / "data", "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=300"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **self._as)
        ends = time.monotonic() + START_SECONDS
        while not self._answers():
            told = (self._folder / "log").read_text()[-2000:]
            assert self._process.poll() is None, told
            assert time.monotonic() < ends, told
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL to the server and to each process that it has started."""
        process = self._process
        assert process is not None, "start it first"
        process.send_signal(signal.SIGSTOP)  # it starts no more of them
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        for pid in (process.pid, *children):
            with suppress(ProcessLookupError):  # one may end by itself just now
                os.kill(pid, signal.SIGKILL)
        process.wait(timeout=20)
        ends = time.monotonic() + 20
        while any(_lives(pid) for pid in children):  # the next server must not find its shared memory in use
            assert time.monotonic() < ends, "a process of the killed server does not end"
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Whether it lets this user in; the first time that makes the database."""
        import psycopg2  # noqa: PLC0415  # of an extra
        from psycopg2.errors import DuplicateDatabase  # noqa: PLC0415

        login = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": self._password}
        try:
            connection = psycopg2.connect(dbname="postgres", connect_timeout=2, **login)
        except psycopg2.OperationalError:
            return False
        try:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {DATABASE}")
        except DuplicateDatabase:
            return True
        finally:
            connection.close()
        return True


def _lives(pid: int) -> bool:
    """One that has ended may wait, as a zombie, for somebody to ask how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
