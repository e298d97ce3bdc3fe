"""How far a long preparation is: a bar with speed and ETA on a terminal, a line now and then without one."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from harness.launch.board import PLAIN_SECONDS, duration

PAUSE = 0.1  # seconds between two redrawings


class Bar:
    """Call it with the images done and their number; `with` ends its last line."""

    def __init__(self, title: str, say: Callable[[str], None], console: Console | None = None) -> None:
        self._title, self._say = title, say
        self._console = console or Console()
        self._started = self._spoken = time.monotonic()
        speed = TextColumn("{task.fields[speed]:.0f} images/s")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
        self._live = Progress(*columns, console=self._console, transient=True)
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._task is not None:
            self._live.stop()

    def __call__(self, done: int, total: int) -> None:
        if done == 1:
            self._started = time.monotonic()
        now = time.monotonic()
        if now - self._spoken < (PAUSE if self._console.is_terminal else PLAIN_SECONDS) and done != total:
            return
        self._spoken = now
        speed = done / max(now - self._started, 1e-9)
        if self._console.is_terminal:
            self._draw(done, total, speed)
        elif done != total:
            left = duration((total - done) / speed)
            self._say(f"{self._title}: {done} of {total} images, {speed:.0f} images/s, about {left} to go")

    def _draw(self, done: int, total: int, speed: float) -> None:
        if self._task is None:
            self._live.start()
            self._task = self._live.add_task(self._title, speed=speed)
        self._live.update(self._task, completed=done, total=total, speed=speed)
