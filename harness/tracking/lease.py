"""Who works on a run: a file that one process creates, keeps fresh while it lives, and removes when it is done.

Two sweeps never train one key. An owner that stops keeping its lease fresh is taken for dead after TIMEOUT_SECONDS, or
at once where it ran on this machine and its process is gone. The next one takes over, and the old owner, should it ever
wake up, finds out before it writes anything.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.config.durable import left_behind, passing

HEARTBEAT_SECONDS = 5.0
TIMEOUT_SECONDS = 30.0  # several heartbeats: shared storage may be slow, an owner must not lose its lease to that
SETTLE_SECONDS = 0.2  # between a take-over and the look at who won it


class BusyError(RuntimeError):
    """Another process works on the run."""


class LeaseLostError(BusyError):
    """Another process has taken over: this one must write nothing more."""


@dataclass(frozen=True)
class Owner:
    """A process, told apart from a later one with the same number by when it began."""

    token: str
    host: str
    pid: int
    began: str

    @classmethod
    def this_process(cls) -> Owner:
        return cls(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _began(os.getpid()))

    @property
    def gone(self) -> bool:
        """Surely dead: it ran here, and there is no such process any more."""
        return self.host == socket.gethostname() and _began(self.pid) != self.began


def _began(pid: int) -> str:
    """When a process began, in the kernel's ticks; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


class Lease:
    """The lease on one run's folder. `acquire` it, work, `release` it; `check` before anything is written."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lease.json"
        self._owner = Owner.this_process()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> bool:
        """Take the lease if it is free or its owner is dead; False where another process works on the run."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not (self._create() or self._take_over()):
            return False
        for left in left_behind(self._path.parent):
            left.unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._keep_fresh, name="lease", daemon=True)
        self._thread.start()
        return True

    def check(self) -> None:
        """Raise LeaseLostError unless the lease is still this process's."""
        if read_owner(self._path) != self._owner:
            raise LeaseLostError(f"{self._path} belongs to another process now; this one stops")

    def release(self) -> None:
        """Give the lease back; nothing happens to one that another process has taken."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if read_owner(self._path) == self._owner:
            self._path.unlink(missing_ok=True)

    def _create(self) -> bool:
        try:
            with os.fdopen(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644), "w") as file:
                json.dump(asdict(self._owner), file)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            return False
        except OSError:  # a full disk: an empty lease would only hold up the next one
            self._path.unlink(missing_ok=True)
            raise
        return True

    def _take_over(self) -> bool:
        """Replace a dead owner. Of several that try at once the last to rename wins, and each looks who that was."""
        if not is_free(self._path.parent):
            return False
        temporary = passing(self._path.with_name(self._owner.token))
        try:
            temporary.write_text(json.dumps(asdict(self._owner)))
            temporary.replace(self._path)
        finally:
            temporary.unlink(missing_ok=True)
        time.sleep(SETTLE_SECONDS)
        return read_owner(self._path) == self._owner

    def _keep_fresh(self) -> None:
        while not self._over.wait(HEARTBEAT_SECONDS):
            if read_owner(self._path) != self._owner:
                return  # `check` says so where it matters
            with suppress(FileNotFoundError):  # taken away just now: the next look finds that
                os.utime(self._path)


def is_free(folder: Path) -> bool:
    """Nobody works on the run of this folder: no lease, or one of a dead owner."""
    path = folder / "lease.json"
    try:
        age = storage_time(folder) - path.stat().st_mtime
    except FileNotFoundError:
        return True
    owner = read_owner(path)
    return age > TIMEOUT_SECONDS or (owner is not None and owner.gone)


def read_owner(path: Path) -> Owner | None:
    """Who holds the lease; None where nobody does, or it was torn as it was written."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError, TypeError):
        return None


def storage_time(folder: Path) -> float:
    """The time by the storage's own clock: those of the nodes may differ from it, and from each other."""
    probe = passing(folder / uuid.uuid4().hex)
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()
