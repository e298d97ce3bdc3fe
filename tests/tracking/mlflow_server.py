"""A real MLflow server of a test's own on loopback, that can be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from postgres import free_port

START_SECONDS = 180  # a new database on a busy machine; one whose database is dead waits for it


class Server:
    """`mlflow server` on a free port, its store at `backend_uri`, its log in `folder`, alive inside a `with` block."""

    def __init__(self, folder: Path, backend_uri: str) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._backend_uri = backend_uri
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--artifacts-destination", str(self._folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment["MLFLOW_BACKEND_STORE_URI"] = self._backend_uri  # no password where `ps` shows it
        log_path = self._folder / "server.log"
        with log_path.open("a") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        ends = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, log_path.read_text()[-4000:]
            assert time.monotonic() < ends, log_path.read_text()[-4000:]
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL to the group that was started for it: the server and its worker. Nothing happens to a dead one."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=20)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return True
        except OSError:
            return False
