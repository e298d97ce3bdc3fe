"""The watch on Ray's head: silence is told once, a short one or a late answer is not."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from harness.launch import head
from harness.launch.head import Watch


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tenths of seconds in place of seconds."""
    monkeypatch.setattr(head, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(head, "LOST_SECONDS", 0.5)


def listening(port: int = 0) -> socket.socket:
    """Somebody who takes connections."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen(100)
    return server


def test_a_head_that_dies_is_told() -> None:
    """Not at once: one that comes back in time is the same."""
    server, lost = listening(), threading.Event()
    address = f"127.0.0.1:{server.getsockname()[1]}"
    with Watch(lambda: head.answers(address), lost.set):
        time.sleep(0.2)
        server.close()
        closed = time.monotonic()
        assert lost.wait(10)
        assert time.monotonic() - closed >= 0.3
    assert not head.answers(address)


def test_a_head_that_comes_back_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The silence begins anew with each answer."""
    monkeypatch.setattr(head, "LOST_SECONDS", 2.0)
    server, lost = listening(), threading.Event()
    port = server.getsockname()[1]
    with Watch(lambda: head.answers(f"127.0.0.1:{port}"), lost.set):
        for _ in range(3):
            server.close()
            time.sleep(0.9)
            server = listening(port)
            time.sleep(0.4)
    server.close()
    assert not lost.is_set()


def test_a_sweep_that_is_over_watches_no_more() -> None:
    """Ray's end is not the head's death."""
    server, lost = listening(), threading.Event()
    address = f"127.0.0.1:{server.getsockname()[1]}"
    with Watch(lambda: head.answers(address), lost.set):
        pass
    server.close()
    assert not lost.wait(1.0)
