"""What a run tells the world while it goes, its spool and a progress file for whoever watches, and what it is told."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.durable import write_whole
from harness.tracking.spool import Spool

if TYPE_CHECKING:  # planning looks at progress and must not wait for torch
    from harness.training.loop import Progress

EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Seen:
    """The progress file of a run. The time that it shared with others is in parts: `spent_s` its own, `companions_s`
    theirs.
    """

    done: int
    total: int
    updates_per_s: float
    spent_s: float
    time_unix_s: float
    companions_s: float = 0.0


def unasked() -> bool:
    """Nobody asks this process for an end."""
    return False


class Observer:
    """Receives a task's reports and progress, in the run's folder.

    `guard` raises before anything is written into a run that another process has taken over. An end is asked for where
    `asked` says so, or the file `stop` exists; that is looked at once a second, because shared storage may be slow.
    """

    def __init__(
        self, folder: Path, guard: Callable[[], None], asked: Callable[[], bool] = unasked, stop: str = ""
    ) -> None:
        self.guard = guard
        self._asked, self._stop = asked, stop
        self._stopping, self._looked = False, -math.inf
        self._spool = Spool(folder / "spool.jsonl")
        self._path = folder / "progress.json"
        before = read_progress(folder)
        self._spent_s, self._companions_s = (before.spent_s, before.companions_s) if before else (0.0, 0.0)
        self._among = 1
        self._written = 0.0
        self._first: float | None = None
        self._began = self._since = time.monotonic()
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        """Something a person should know of this run; it goes into the record."""
        self.notes.append(line)

    def resumed(self, step: int) -> None:
        self.guard()
        self._spool.drop_after(step)

    def report(self, step: int, metrics: dict[str, float]) -> None:
        self.guard()
        self._spool.append(step, metrics)

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
        if now - self._written < EVERY_SECONDS and progress.done != progress.total:
            return
        self._written = now
        rate = (progress.done - progress.resumed_at) / max(progress.seconds, 1e-9)
        seen = {
            "done": progress.done,
            "total": progress.total,
            "updates_per_s": rate,
            "spent_s": self.spent_s,
            "time_unix_s": time.time(),
            "companions_s": self.companions_s,
        }
        write_whole(self._path, json.dumps(seen).encode())

    def stopping(self) -> bool:
        """Whether an end is asked for; once it is, it stays so."""
        self._stopping = self._stopping or self._asked() or self._told_to_stop()
        return self._stopping

    def _told_to_stop(self) -> bool:
        now = time.monotonic()
        if not self._stop or now - self._looked < EVERY_SECONDS:
            return False
        self._looked = now
        return os.path.exists(self._stop)

    def share(self, among: int) -> None:
        """From now on the time that passes is that of `among` runs, in equal parts."""
        self._spent_s, self._companions_s = self.spent_s, self.companions_s
        self._since, self._among = time.monotonic(), among

    @property
    def spent_s(self) -> float:
        """Seconds this run has cost, those before an interruption included."""
        return self._spent_s + (time.monotonic() - self._since) / self._among

    @property
    def companions_s(self) -> float:
        """Seconds that others have cost meanwhile, which this run alone would have taken as well."""
        return self._companions_s + (time.monotonic() - self._since) * (self._among - 1) / self._among

    @property
    def first_update_s(self) -> float:
        """From the start to the end of the first update: reading, compiling, first kernels."""
        return (self._first or time.monotonic()) - self._began


def read_progress(folder: Path) -> Seen | None:
    """The last progress of a run; None where there is none, or none that can be read."""
    try:
        raw = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        return Seen(**raw)
    except (OSError, json.JSONDecodeError, TypeError):
        return None
