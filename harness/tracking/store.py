"""What the harness asks of a tracking server, and an in-memory twin that tests use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from harness.tracking.record import Record
from harness.tracking.spool import Point


class StoreError(RuntimeError):
    """The tracking server cannot be used just now: one sentence, naming it."""


@dataclass(frozen=True)
class Stored:
    """A run as the store knows it: what reports are made from. `labels` holds at least those it was put with."""

    key: str
    run_id: str
    state: str
    stamp: str
    results: dict[str, float] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    experiment: str = ""  # MLflow's number of the experiment that the run is in


class Store(Protocol):
    """Runs by key. `put` may be repeated: it never doubles a run or a point."""

    uri: str

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        """The runs among `keys` that the store holds."""
        ...

    def put(
        self, record: Record, points: Iterable[Point], stamp: str, labels: Mapping[str, str], forgotten: int = 0
    ) -> Stored:
        """Create or complete the run of a record. `stamp` says what was put; `labels` are tags for people.

        Where `forgotten` has changed, points that were put before no longer stand and are taken out. A record that
        began at another time is another attempt: the store keeps the former one, but no longer under this key.
        """
        ...

    def label(self, stored: Stored, labels: Mapping[str, str]) -> None:
        """Add tags to a run that was found."""
        ...

    def forget(self, key: str) -> None:
        """Take the run of a key out of the store."""
        ...


class MemoryStore:
    """The same contract in a dictionary; `uri` where it stands in for a server."""

    def __init__(self, uri: str = "memory") -> None:
        self.uri = uri
        self.runs: dict[str, Stored] = {}
        self.points: dict[str, dict[tuple[int, int, str], float]] = {}  # by time, step and name
        self._attempt: dict[str, tuple[float, int]] = {}

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        return {key: self.runs[key] for key in keys if key in self.runs}

    def put(
        self, record: Record, points: Iterable[Point], stamp: str, labels: Mapping[str, str], forgotten: int = 0
    ) -> Stored:
        if self._attempt.setdefault(record.key, (record.started_unix_s, forgotten)) != (
            record.started_unix_s,
            forgotten,
        ):
            self.forget(record.key)
            self._attempt[record.key] = (record.started_unix_s, forgotten)
        known = self.points.setdefault(record.key, {})
        for point in points:
            known.update({(point.time_unix_ms, point.step, name): value for name, value in point.metrics.items()})
        before = self.runs.get(record.key)
        stored = Stored(
            key=record.key,
            run_id=f"memory-{record.key}",
            state=record.state,
            stamp=stamp,
            results=dict(record.results),
            flags=dict(record.flags),
            labels={**(before.labels if before else {}), **labels},
        )
        self.runs[record.key] = stored
        return stored

    def label(self, stored: Stored, labels: Mapping[str, str]) -> None:
        self.runs[stored.key] = replace(stored, labels={**stored.labels, **labels})

    def forget(self, key: str) -> None:
        for known in (self.runs, self.points, self._attempt):
            known.pop(key, None)
