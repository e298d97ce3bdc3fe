"""Signals to a sweep: asked once, then without asking. Each is really sent, to this process or one of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.launch import ending
from harness.launch.ending import Ended, Ending


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Whatever a test does, the handlers of before are there again."""
    before = {number: signal.getsignal(number) for number in (*ending.SIGNALS, signal.SIGALRM)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0), "no alarm is left to go off later"


def wait() -> None:
    """As Tune does: in steps, in which signals are heard."""
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        time.sleep(0.01)
    pytest.fail("no signal was heard")


class Sweep:
    """What one does while signals come: it begins runs, until it is told not to."""

    def __init__(self, stop: Path) -> None:
        self.stop, self.closed, self.said = stop, 0, list[str]()

    def go(self, *numbers: int, wait: bool) -> None:
        """Hear these, one after the other; then wait, or end as a sweep does whose runs have stopped."""
        with Ending() as end:
            end.spare(self.stop, self._close, self.said.append)
            end.check()
            for number in numbers:
                os.kill(os.getpid(), number)
                time.sleep(0.05)
                assert self.stop.exists()
            if wait:
                tune()
            end.check()

    def _close(self) -> None:
        self.closed += 1


def tune() -> None:
    """Steps, in which signals are heard."""
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        time.sleep(0.01)
    pytest.fail("no signal was heard")


def hear(number: int) -> None:
    """One before there are runs."""
    with Ending():
        os.kill(os.getpid(), number)
        tune()


def leave(code: int) -> None:
    """What Ray does with a SIGTERM while it starts, or somebody else for reasons of their own."""
    with Ending():
        raise SystemExit(code)


@pytest.mark.parametrize("number", ending.SIGNALS)
def test_the_first_asks_and_the_second_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The first makes the file that runs look for, and lets none begin; the second waits for nothing."""
    monkeypatch.setattr(ending, "ECHO_SECONDS", 0.01)
    sweep = Sweep(tmp_path / "stop")
    with pytest.raises(Ended) as end:
        sweep.go(number, signal.SIGINT, wait=True)
    assert end.value.signal == number
    assert (sweep.closed, len(sweep.said)) == (1, 1)


def test_the_runs_have_ended_in_time(tmp_path: Path) -> None:
    """Then it is still the signal that ended the sweep; without one nothing happens."""
    with pytest.raises(Ended) as end:
        Sweep(tmp_path / "stop").go(signal.SIGTERM, wait=False)
    assert end.value.signal == signal.SIGTERM
    Sweep(tmp_path / "none").go(wait=False)


def test_an_echo_asks_for_nothing(tmp_path: Path) -> None:
    """`timeout` signals a process and then its group: the runs have their time all the same."""
    sweep = Sweep(tmp_path / "stop")
    with pytest.raises(Ended) as end:
        sweep.go(signal.SIGTERM, signal.SIGTERM, signal.SIGTERM, wait=False)
    assert end.value.signal == signal.SIGTERM
    assert sweep.closed == 1


def test_runs_that_do_not_end_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a scheduler kills: its patience is longer than this."""
    assert ending.PATIENCE_SECONDS < 30
    monkeypatch.setattr(ending, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(Ended) as end:
        Sweep(tmp_path / "stop").go(signal.SIGTERM, wait=True)
    assert end.value.signal == signal.SIGTERM


@pytest.mark.parametrize("number", ending.SIGNALS)
def test_before_there_are_runs_nothing_is_waited_for(number: signal.Signals) -> None:
    """Nothing has been earned that could be lost."""
    with pytest.raises(Ended) as end:
        hear(number)
    assert end.value.signal == number


def test_ray_s_own_end_is_a_signal_s() -> None:
    """While it starts it makes SystemExit of a SIGTERM; any other code is somebody else's."""
    with pytest.raises(Ended):
        leave(signal.SIGTERM)
    with pytest.raises(SystemExit):
        leave(3)
