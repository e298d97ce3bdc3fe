"""The doctor itself cannot be held up: what hangs or breaks is said, and all else is still looked at."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.config.errors import ConfigError
from harness.config.finding import Finding, fail, ok
from harness.launch.doctor.checks import Check, begin, examine


def broken() -> Finding:
    """A check that has a fault."""
    return {}["no such thing"]


def wrong() -> Finding:
    """A check that meets what a person can mend."""
    raise ConfigError("experiments/profiles/x.yaml:3: no such machine")


def halfway() -> Iterator[Finding]:
    """A check of several findings that breaks after the first."""
    yield ok("halfway", "well so far")
    raise OSError(5, "Input/output error", "/storage")


def test_what_hangs_is_a_failure_in_its_time(tmp_path: Path) -> None:
    """A pipe that nobody writes to blocks its reader in the kernel, as a dead mount does."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    began = time.monotonic()
    hangs = Check("storage", lambda: ok("storage", pipe.read_text()), "look at the mount", 0.5)
    found = list(examine([hangs, Check("other", lambda: ok("other", "fine"), "", 60)]))
    assert time.monotonic() - began < 10
    assert found == [fail("storage", "did not answer within 0.5 s", "look at the mount"), ok("other", "fine")]
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "check"), "none holds the end up"
    pipe.write_text("")  # lets the thread go


def test_what_breaks_is_a_failure_with_its_error() -> None:
    """The rest goes on, and a fault of the check itself is named as what it is."""
    checks = [
        Check("broken", broken, "tell its authors"),
        Check("wrong", wrong, "mend it"),
        Check("halfway", halfway, "look there"),
        Check("late", lambda: begin(lambda: time.sleep(5)).result(0.01) or ok("late", ""), "wait"),
        Check("many", lambda: [ok("many", "one"), ok("many", "two")], ""),
    ]
    assert list(examine(checks)) == [
        fail("broken", "KeyError: 'no such thing'", "tell its authors"),
        fail("wrong", "experiments/profiles/x.yaml:3: no such machine", "mend it"),
        fail("halfway", "OSError: [Errno 5] Input/output error: '/storage'", "look there"),
        fail("late", "TimeoutError", "wait"),
        ok("many", "one"),
        ok("many", "two"),
    ]


def test_checks_go_on_side_by_side() -> None:
    """Ten that wait a while take no longer than one."""
    began = time.monotonic()
    waiting = Check("waits", lambda: time.sleep(0.5) or ok("waits", ""), "")
    assert len(list(examine([waiting] * 10))) == 10
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("seconds", [0.2, 0.4])
def test_a_time_limit_is_counted_from_the_start(seconds: float) -> None:
    """Several that hang end together, not one after the other."""
    never = threading.Event()
    began = time.monotonic()
    found = list(examine([Check("hangs", lambda: never.wait() and ok("", ""), "", seconds)] * 20))
    assert {one.found for one in found} == {f"did not answer within {seconds:g} s"}
    assert time.monotonic() - began < 10 * seconds
    never.set()
