"""An end asked for from outside while a sweep goes: Ctrl-C, or the SIGTERM by which schedulers take a machine back."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from harness.launch.notice import ECHO_SECONDS, PATIENCE_SECONDS, SIGNALS

KEPT = "finished runs are kept, the same command goes on from here"


class Ended(KeyboardInterrupt):  # Tune handles every Exception as a fault of its own
    """The end that a signal asked for."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.signal = number


class Ending:
    """Hears the signals while it is open. Before there are runs to spare, the first one ends everything.

    Later the first one asks: it makes a file that runs look for, and lets none begin. A second one, or no time left,
    has Ended raised in the main thread, and the runs go on from their last checkpoints.
    """

    def __init__(self) -> None:
        self._ask: Callable[[], None] | None = None
        self._asked, self._since = 0, 0.0

    def __enter__(self) -> Ending:
        self._before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
        self._listen()
        return self

    def __exit__(self, _kind: type | None, error: BaseException | None, _trace: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:  # what Ray makes of it as it starts
            raise Ended(signal.SIGTERM) from None

    def spare(self, stop: Path, close: Callable[[], None], say: Callable[[str], None]) -> None:
        """From now on there are runs, which look for the file `stop`; `close` lets no more begin."""

        def ask() -> None:
            close()
            stop.touch()
            say(f"ending: runs save what they have, in at most {PATIENCE_SECONDS:g} s; a second signal ends at once")

        self._ask = ask
        self._listen()  # Ray has taken SIGTERM for itself as it started

    def check(self) -> None:
        """Raise Ended where an end was asked for: the runs have saved what they had."""
        if self._asked:
            raise Ended(self._asked)

    def _listen(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._hear)
        signal.signal(signal.SIGALRM, self._overdue)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self._asked and time.monotonic() - self._since < ECHO_SECONDS:
            return
        if self._asked or self._ask is None:
            raise Ended(self._asked or number)
        self._asked, self._since = number, time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
        self._ask()

    def _overdue(self, _number: int, _frame: FrameType | None) -> None:
        raise Ended(self._asked)
