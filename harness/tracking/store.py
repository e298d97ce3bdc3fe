"""What the harness asks of a tracking server, and an in-memory twin that tests use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from harness.tracking.record import Record
from harness.tracking.spool import Point


class StoreError(RuntimeError):
    """The tracking server cannot be used just now: one sentence, naming it."""


@dataclass(frozen=True)
class Stored:
    """A run as the store knows it: what reports are made from."""

    key: str
    run_id: str
    state: str
    stamp: str
    results: dict[str, float] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)


class Store(Protocol):
    """Runs by key. `put` may be repeated: it never doubles a run or a point."""

    uri: str

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        """The runs among `keys` that the store holds."""
        ...

    def put(self, record: Record, points: Iterable[Point], stamp: str, labels: Mapping[str, str]) -> Stored:
        """Create or complete the run of a record. `stamp` says what was put; `labels` are tags for people."""
        ...


class MemoryStore:
    """The same contract in a dictionary."""

    uri = "memory"

    def __init__(self) -> None:
        self.runs: dict[str, Stored] = {}
        self.points: dict[str, set[tuple[int, int, str, float]]] = {}
        self.labels: dict[str, dict[str, str]] = {}

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        return {key: self.runs[key] for key in keys if key in self.runs}

    def put(self, record: Record, points: Iterable[Point], stamp: str, labels: Mapping[str, str]) -> Stored:
        known = self.points.setdefault(record.key, set())
        for point in points:
            known.update((point.time_unix_ms, point.step, name, value) for name, value in point.metrics.items())
        self.labels.setdefault(record.key, {}).update(labels)
        stored = Stored(
            record.key, f"memory-{record.key}", record.state, stamp, dict(record.results), dict(record.flags)
        )
        self.runs[record.key] = stored
        return stored
