"""Notice to end, as a scheduler or a person gives it to a process: SIGTERM or SIGINT."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PATIENCE_SECONDS = 25.0  # schedulers often give 30; what is left is for the interpreter and the disk
ECHO_SECONDS = 0.5  # `timeout`, and whoever signals a process and then its group, says one thing twice
FAILED = 128  # a shell's exit code of a process that a signal ended is this and the signal's number


class Notice:
    """While it is held the first signal asks for an end: `given` is true from then on, and whoever works looks at it.

    A second one ends the process at once, and so does PATIENCE_SECONDS without an end: what came since the last
    checkpoint is then lost, and nothing else. A thread of its own hears them, since the main one may be busy in a long
    operation of Torch or a compiler, which no Python handler interrupts.
    """

    def __init__(self) -> None:
        self.signal = 0

    def __enter__(self) -> Self:
        self._ear, self._mouth = os.pipe()
        os.set_blocking(self._mouth, False)
        self._handlers = {number: signal.signal(number, _heard_elsewhere) for number in SIGNALS}
        self._wakeup = signal.set_wakeup_fd(self._mouth)
        self._thread = threading.Thread(target=self._listen, name="notice", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._mouth)
        self._thread.join()
        os.close(self._ear)

    def given(self) -> bool:
        """Whether an end is asked for."""
        return self.signal > 0

    @property
    def exit_code(self) -> int:
        """Of a process that ended because of it."""
        return FAILED + self.signal

    def _listen(self) -> None:
        self.signal = self._next(None) or 0
        if not self.signal:
            return
        say(f"an end is asked for: after this update, at once if asked again, or in {PATIENCE_SECONDS:g} s")
        self._pass_over_echo()
        if self._next(PATIENCE_SECONDS - ECHO_SECONDS) != 0:
            say("ended at once; the same command goes on from the last checkpoint")
            os._exit(self.exit_code)

    def _pass_over_echo(self) -> None:
        time.sleep(ECHO_SECONDS)
        while select.select([self._ear], [], [], 0)[0] and os.read(self._ear, 1):
            pass

    def _next(self, seconds: float | None) -> int | None:
        """The next signal; 0 when nothing is listened for any more, None where none came for so long."""
        while select.select([self._ear], [], [], seconds)[0]:
            number = int.from_bytes(os.read(self._ear, 1))
            if number in (0, *SIGNALS):  # Python tells of every signal that it handles
                return number
        return None


def say(line: str) -> None:
    """To whoever reads the log: stdout has results."""
    with suppress(BrokenPipeError):  # Ctrl-C ends the `tee` that reads along, too
        print(f"harness: {line}", file=sys.stderr, flush=True)


def _heard_elsewhere(_number: int, _frame: FrameType | None) -> None:
    """Python's own handler: the thread has read the signal's number."""
