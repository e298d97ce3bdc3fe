"""The spool: every reported number, appended to a local file and on the disk before training goes on.

A point keeps the time it was first reported. MLflow's identity of a metric includes that time, so replaying a spool
adds nothing that is already there.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Point:
    """Numbers reported at one step."""

    time_unix_ms: int
    step: int
    metrics: dict[str, float]


class Spool:
    """runs/<key>/spool.jsonl, written by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, step: int, metrics: dict[str, float]) -> None:
        line = json.dumps({"time_unix_ms": time.time_ns() // 1_000_000, "step": step, "metrics": metrics})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Point]:
        """All whole lines; what a crash left of a last one is not a point."""
        try:
            lines = self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        points = []
        for line in lines:
            raw = json.loads(line)
            points.append(Point(int(raw["time_unix_ms"]), int(raw["step"]), dict(raw["metrics"])))
        return points

    def drop_after(self, step: int) -> None:
        """Forget what was reported past the checkpoint a run resumes from: it will be reported again."""
        if not self.path.exists():
            return
        kept = [point for point in self.read() if point.step <= step]
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            for point in kept:
                raw = {"time_unix_ms": point.time_unix_ms, "step": point.step, "metrics": point.metrics}
                file.write(json.dumps(raw).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
