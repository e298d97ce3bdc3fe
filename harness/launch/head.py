"""Whether Ray's head still answers: without it nothing moves, and after 60 s Ray ends this process in its own words."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

EVERY_SECONDS = 2.0
LOST_SECONDS = 30.0  # longer than a busy head is silent, shorter than Ray's own patience


def answers(address: str) -> bool:
    """Whether somebody takes connections at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), EVERY_SECONDS).close()
    except OSError:
        return False
    return True


class Watch:
    """While it is open, a thread that calls `lost` once nobody has been `there` for LOST_SECONDS."""

    def __init__(self, there: Callable[[], bool], lost: Callable[[], None]) -> None:
        self._there, self._lost = there, lost
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="head", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        answered = time.monotonic()
        while not self._over.wait(EVERY_SECONDS):
            if self._there():
                answered = time.monotonic()
            elif time.monotonic() - answered >= LOST_SECONDS:
                self._lost()
                return
