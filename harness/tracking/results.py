"""What reports read results through: the tracking store with the records beside it, or a file made from both."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from harness.tracking.record import Record, RecordError, Runs
from harness.tracking.spool import Point, Spool
from harness.tracking.store import Store, Stored


class Results(Protocol):
    """Runs by key, as they stood when they were first asked for."""

    @property
    def uri(self) -> str:
        """Where MLflow has, or had, these runs."""
        ...

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        """The runs among `keys` that are known: what every number is made from."""
        ...

    def record(self, key: str) -> Record | None:
        """The record of a run; None where none is here that can be read: `sync` says which cannot."""
        ...

    def curve(self, key: str) -> list[Point]:
        """What a run reported on its way, in that order."""
        ...

    def folder(self, key: str) -> Path | None:
        """Where the files of a run are; None where they did not come along."""
        ...


def link(uri: str, stored: Stored) -> str:
    """The page of a run in MLflow; empty where no server shows one."""
    if not uri.startswith(("http://", "https://")) or not stored.experiment:
        return ""
    return f"{uri.rstrip('/')}/#/experiments/{stored.experiment}/runs/{stored.run_id}"


class Live:
    """The store as it is now, and the folder of runs. Each run is looked up once: a report is made from one look."""

    def __init__(self, store: Store, runs: Runs) -> None:
        self._store = store
        self._runs = runs
        self._seen: dict[str, Stored | None] = {}

    @property
    def uri(self) -> str:
        return self._store.uri

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        wanted = list(dict.fromkeys(keys))
        unseen = [key for key in wanted if key not in self._seen]
        if unseen:
            found = self._store.find(unseen)
            self._seen.update({key: found.get(key) for key in unseen})
        return {key: stored for key in wanted if (stored := self._seen[key]) is not None}

    def record(self, key: str) -> Record | None:
        with suppress(RecordError):
            return self._runs.read(key)
        return None

    def curve(self, key: str) -> list[Point]:
        with suppress(RecordError):
            return Spool(self._runs.folder(key) / "spool.jsonl").read()
        return []

    def folder(self, key: str) -> Path | None:
        return self._runs.folder(key)
