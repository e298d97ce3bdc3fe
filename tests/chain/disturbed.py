"""A sweep that reports to an MLflow server with PostgreSQL behind it, and ways to kill each part of that."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from aftermath import last_step, processes
from checkout import Checkout
from mlflow_server import Server
from postgres import Postgres

COMMAND = ("run", "table5b", "--seeds", "1")
STEP_SECONDS = 400.0  # from one fault to the next, and from the last to the end, on a busy machine
FAILED = 2  # times that a person gives a command again which ended with a failed run


@dataclass(frozen=True)
class Fault:
    """What is killed, the share of all updates that are made then, and for how long a server stays down."""

    kind: str
    share: float
    down_s: float

    def __str__(self) -> str:
        return f"{self.kind} at {self.share:.0%}" + (f" for {self.down_s:.1f} s" if self.down_s else "")


class Disturbed:
    """Inside the block both servers and the sweep go."""

    def __init__(self, checkout: Checkout, updates: dict[str, int], say: Callable[[str], None], data: str) -> None:
        """`updates` are those of each run, by key."""
        self._checkout, self._updates, self._say = checkout, updates, say
        self._folder = checkout.home.parent
        self._postgres = Postgres()
        self._server = Server(self._folder, self._postgres.uri)
        self.uri = self._server.uri
        self._variables = {"MLFLOW_TRACKING_URI": self.uri, "HARNESS_DATA": data}
        self._pool = ThreadPoolExecutor(2)
        self._starting: dict[str, Future[None]] = {}
        self._failed = 0

    def __enter__(self) -> Disturbed:
        with ExitStack() as stack:
            stack.enter_context(self._postgres)
            stack.enter_context(self._server)
            self._servers = stack.pop_all()
        self._began = time.monotonic()
        self._driver = self._begin()
        return self

    def __exit__(self, *error: object) -> None:
        self._driver.kill()
        self._pool.shutdown()
        self._servers.close()

    def suffer(self, fault: Fault, draw: random.Random) -> None:
        """Let it fall when the work is as far as it says."""
        self._until(lambda: self._share() >= fault.share)
        share = self._share()
        kill = {"worker": self._kill_worker, "driver": self._kill_driver}.get(fault.kind, self._kill_server)
        what = kill(fault, draw)
        self._tell(f"{share:4.0%} of the updates are made: SIGKILL to {what}")

    def end(self) -> None:
        """Let it come to its end, and send what the servers have missed."""
        self._until(lambda: self._driver.poll() == 0)
        self._tell("the sweep has ended well")
        for starting in self._starting.values():
            starting.result()
        sent = self._checkout.harness("sync", **self._variables)
        assert sent.returncode == 0, sent.stdout + sent.stderr
        self._tell(sent.stdout.strip())

    def _begin(self) -> subprocess.Popen[str]:
        with (self._folder / "sweep.log").open("a") as log:
            return subprocess.Popen(**self._checkout.command(*COMMAND, **self._variables), stdout=log, stderr=log)

    def _tell(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._began:6.1f} s: {what}")

    def _share(self) -> float:
        made = sum(last_step(self._checkout.home, key) for key in self._updates)
        return made / sum(self._updates.values())

    def _until(self, happens: Callable[[], object]) -> None:
        """Wait for it. A sweep that ended with a failed run is begun again, as a person would."""
        ends = time.monotonic() + STEP_SECONDS
        while not happens():
            code = self._driver.poll()
            if code is not None and not happens():
                log = (self._folder / "sweep.log").read_text()[-4000:]
                assert code != 0, f"the sweep ended before all faults fell, it is too short\n{log}"
                self._failed += 1
                assert self._failed <= FAILED, f"it ended with {code} once more\n{log}"
                self._tell(f"the sweep has ended with {code}; the same command again")
                self._driver = self._begin()
            assert time.monotonic() < ends, (self._folder / "sweep.log").read_text()[-4000:]
            time.sleep(0.05)

    def _kill_worker(self, _: Fault, draw: random.Random) -> str:
        self._until(self._owners)
        key, pid = draw.choice(self._owners())
        os.kill(pid, signal.SIGKILL)
        return f"process {pid}, which works on {key}"

    def _owners(self) -> list[tuple[str, int]]:
        """Runs with the processes that work on them now."""
        ours, found = set(processes(self._checkout.home)), []
        for path in sorted(self._checkout.home.glob("runs/*/lease.json")):
            try:
                pid = int(json.loads(path.read_text())["pid"])
            except (FileNotFoundError, json.JSONDecodeError):
                continue  # given back, or taken, just now
            if pid in ours:
                found.append((path.parent.name, pid))
        return found

    def _kill_driver(self, _: Fault, __: random.Random) -> str:
        self._driver.kill()
        self._driver.wait(timeout=60)
        self._driver = self._begin()
        return "the driver; the same command again"

    def _kill_server(self, fault: Fault, _: random.Random) -> str:
        service: Server | Postgres = self._server if fault.kind == "server" else self._postgres
        if fault.kind in self._starting:
            self._starting[fault.kind].result()
        service.kill()

        def start() -> None:
            time.sleep(fault.down_s)
            service.start()

        self._starting[fault.kind] = self._pool.submit(start)
        name = "the MLflow server" if fault.kind == "server" else "PostgreSQL"
        return f"{name}, to be started again after {fault.down_s:.1f} s"
