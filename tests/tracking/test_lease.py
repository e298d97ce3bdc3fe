"""The lease: two processes never work on one run, and a dead one's run is not lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.tracking import lease
from harness.tracking.lease import Lease, LeaseLostError, is_free

HEARTBEAT = 0.2
TIMEOUT = 1.5

OWNER = f"""
import sys, time
from pathlib import Path
from harness.tracking import lease
lease.HEARTBEAT_SECONDS, lease.TIMEOUT_SECONDS = {HEARTBEAT}, {TIMEOUT}
mine = lease.Lease(Path(sys.argv[1]))
print(mine.acquire(), flush=True)
while sys.stdin.readline():
    try:
        mine.check()
        print("mine", flush=True)
    except lease.LeaseLostError:
        print("lost", flush=True)
mine.release()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", HEARTBEAT)
    monkeypatch.setattr(lease, "TIMEOUT_SECONDS", TIMEOUT)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease of tmp_path; a line to it makes it look whether it still does."""
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.communicate(timeout=20)


def _ask(owner: subprocess.Popen[str]) -> str:
    assert owner.stdin is not None
    assert owner.stdout is not None
    owner.stdin.write("\n")
    owner.stdin.flush()
    return owner.stdout.readline().strip()


def test_one_at_a_time(tmp_path: Path) -> None:
    """A free run is taken, a taken one is not, a given-back one is free again."""
    first, second = Lease(tmp_path), Lease(tmp_path)
    assert first.acquire()
    assert not second.acquire()
    first.check()
    with pytest.raises(LeaseLostError):
        second.check()
    first.release()
    assert is_free(tmp_path)
    assert second.acquire()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_a_living_owner_keeps_it(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    """Heartbeats hold a lease well past the time-out, against another process."""
    ends = time.monotonic() + 2 * TIMEOUT
    while time.monotonic() < ends:
        assert not Lease(tmp_path).acquire()
        time.sleep(HEARTBEAT)
    assert _ask(owner) == "mine"


def test_a_killed_owner_is_followed_at_once(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    """On one machine nobody waits for the time-out of a process that is gone; what it was writing goes too."""
    (tmp_path / f".record.json.{socket.gethostname()}.{owner.pid}").touch()
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait(timeout=10)
    mine = Lease(tmp_path)
    began = time.monotonic()
    assert mine.acquire()
    assert time.monotonic() - began < TIMEOUT
    mine.release()
    assert list(tmp_path.iterdir()) == []


def test_an_owner_elsewhere_that_falls_silent_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another machine's process only its silence can be known: it is followed after the time-out, not before."""
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    theirs = Lease(tmp_path)
    assert theirs._create()  # held, and never freshened
    monkeypatch.undo()
    monkeypatch.setattr(lease, "TIMEOUT_SECONDS", TIMEOUT)
    mine = Lease(tmp_path)
    assert not mine.acquire()
    time.sleep(TIMEOUT + 0.2)
    assert mine.acquire()
    mine.release()


def test_a_stopped_owner_is_followed_and_finds_out(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    """A process that is only stopped loses its lease after the time-out; woken up, it knows before it writes."""
    os.kill(owner.pid, signal.SIGSTOP)
    mine = Lease(tmp_path)
    assert not mine.acquire(), "it has not been silent for long"
    time.sleep(TIMEOUT + 0.2)
    assert mine.acquire()
    os.kill(owner.pid, signal.SIGCONT)
    assert _ask(owner) == "lost"
    owner.communicate(timeout=20)  # it ends, and leaves the lease of its follower alone
    mine.check()
    mine.release()


def test_of_many_takers_one_wins(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    """A dead owner's lease goes to exactly one of those that see it at the same moment."""
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait(timeout=10)
    takers = [Lease(tmp_path) for _ in range(8)]
    won: list[Lease] = []
    start = threading.Barrier(len(takers))

    def take(taker: Lease) -> None:
        start.wait()
        if taker.acquire():
            won.append(taker)

    threads = [threading.Thread(target=take, args=(taker,)) for taker in takers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    won[0].check()
    won[0].release()
