"""The spool: every reported number, appended to a local file and on the disk before training goes on.

A point keeps the time it was first reported. MLflow's identity of a metric includes that time, so replaying a spool
adds nothing that is already there. Nothing but a torn end is ever cut off: what a resumed run forgets, a line says.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.tracking.record import RecordError


@dataclass(frozen=True)
class Point:
    """Numbers reported at one step."""

    time_unix_ms: int
    step: int
    metrics: dict[str, float]


class Spool:
    """runs/<key>/spool.jsonl, written by one process at a time; a process that resumes begins with `drop_after`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, step: int, metrics: dict[str, float]) -> None:
        self._append({"time_unix_ms": time.time_ns() // 1_000_000, "step": step, "metrics": metrics})

    def read(self) -> list[Point]:
        """All points that stand; what a crash left of a last line is not one."""
        return self.history()[0]

    def history(self) -> tuple[list[Point], int]:
        """The points that stand, and how often points before them were forgotten."""
        try:
            lines = self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return [], 0
        points: list[Point] = []
        forgotten = 0
        for number, line in enumerate(lines, 1):
            try:
                raw = json.loads(line)
                if "dropped_after" in raw:
                    points = [point for point in points if point.step <= raw["dropped_after"]]
                    forgotten += 1
                else:
                    points.append(Point(int(raw["time_unix_ms"]), int(raw["step"]), dict(raw["metrics"])))
            except (KeyError, TypeError, ValueError):
                raise RecordError(f"{self.path}:{number} is no line of a spool; delete it to go on") from None
        return points, forgotten

    def drop_after(self, step: int) -> None:
        """Forget what was reported past the checkpoint a run resumes from: it will be reported again."""
        if not self.path.exists():
            return
        whole, newline, torn = self.path.read_bytes().rpartition(b"\n")
        if torn:
            os.truncate(self.path, len(whole + newline))
        if any(point.step > step for point in self.read()):
            self._append({"dropped_after": step})

    def _append(self, raw: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(json.dumps(raw).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
