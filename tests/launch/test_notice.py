"""Signals as notice to end: heard at once whatever the process does, and insisted on. Real processes and signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from harness.launch import notice

PATIENCE = 3.0  # long enough to tell what waits for it from what does not
DEAF = "hashlib.pbkdf2_hmac('sha256', b'', b'', 500_000_000)"  # minutes in C: no Python handler is called meanwhile
LOOKING = "while not held.given(): time.sleep(0.01)"
BUSY = "while True: time.sleep(0.01)"


def begun(work: str) -> subprocess.Popen[str]:
    """A process that works while it holds a notice."""
    program = f"""
import hashlib, time
from harness.launch import notice
notice.PATIENCE_SECONDS = {PATIENCE}
with notice.Notice() as held:
    print("working", flush=True)
    {work}
print("ended by itself", flush=True)
raise SystemExit(held.exit_code)
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", program], text=True, **pipes)  # type: ignore[call-overload]
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_asks(sent: signal.Signals, code: int) -> None:
    """Whoever looks finds out, ends in his own time, and the exit code is a shell's."""
    with begun(LOOKING) as process:
        process.send_signal(sent)
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "ended by itself\n")
    assert "an end is asked for" in said
    assert "ended at once" not in said


def test_the_second_ends_at_once() -> None:
    """Even a process that is deep in C; the exit code is the first one's."""
    with begun(DEAF) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert "an end is asked for" in process.stderr.readline()
        time.sleep(notice.ECHO_SECONDS + 0.3)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, "")
    assert time.monotonic() - sent < PATIENCE
    assert "goes on from the last checkpoint" in said


def test_an_echo_is_no_second_signal() -> None:
    """`timeout` tells a process and then its group, and a checkpoint is worth more than half a second."""
    with begun(LOOKING.replace("0.01", "0.1")) as process:
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.01)  # else the kernel makes one of them
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, "ended by itself\n")


@pytest.mark.parametrize("work", [DEAF, BUSY], ids=["in C", "in Python"])
def test_patience_has_an_end(work: str) -> None:
    """A phase that never looks does not hold up a scheduler, which would kill it less kindly."""
    with begun(work) as process:
        sent = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert time.monotonic() - sent >= PATIENCE


def test_signals_are_given_back() -> None:
    """Afterwards a signal does what it did before, and other signals were never touched."""
    before = [signal.getsignal(number) for number in notice.SIGNALS]
    with notice.Notice() as held:
        assert [signal.getsignal(number) for number in notice.SIGNALS] != before
    assert [signal.getsignal(number) for number in notice.SIGNALS] == before
    assert not held.given()
    assert signal.set_wakeup_fd(-1) == -1
