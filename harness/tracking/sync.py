"""Brings the store up to date with records and spools. Doing it twice changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from harness.tracking.record import RecordError, Runs
from harness.tracking.spool import Spool
from harness.tracking.store import Store, StoreError

FORM = 2  # moves when the store is told something new or in another way, so that every run is sent again


def _stamp(runs: Runs, key: str) -> str:
    """What the store must have been told: the record's write time and the spool's length."""
    record = (runs.folder(key) / "record.json").stat()
    spool = runs.folder(key) / "spool.jsonl"
    return f"{FORM}:{record.st_mtime_ns}:{spool.stat().st_size if spool.exists() else 0}"


def _joined(known: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """`own` labels with what other plans have said under the same names: a run may stand in many tables and cells."""
    return {
        name: ",".join(dict.fromkeys([*filter(None, known.get(name, "").split(",")), *value.split(",")]))
        for name, value in own.items()
    }


def sync(
    runs: Runs,
    store: Store,
    keys: Iterable[str],
    labels: Mapping[str, Mapping[str, str]] | None = None,
    warn: Callable[[str], None] = print,
    rebuild: bool = False,
) -> list[str]:
    """Put every run of `keys` whose record, spool or labels the store has not seen; return their keys.

    A record or spool that cannot be read is said to `warn` and left out; the others go on. `rebuild` takes every run
    out of the store first and puts it anew.
    """
    known = [key for key in keys if (runs.folder(key) / "record.json").exists()]
    stored = store.find(known)
    changed = []
    for key in known:
        own = _joined(stored[key].labels if key in stored else {}, (labels or {}).get(key, {}))
        stamp = _stamp(runs, key)
        if not rebuild and key in stored and stored[key].stamp == stamp:
            if not own.items() <= stored[key].labels.items():
                store.label(stored[key], own)
                changed.append(key)
            continue
        try:
            record = runs.read(key)
            points, forgotten = Spool(runs.folder(key) / "spool.jsonl").history()
        except RecordError as error:
            warn(str(error))
            continue
        assert record is not None, "its file was there a moment ago"
        if rebuild:
            store.forget(key)
        store.put(record, points, stamp, own, forgotten)
        changed.append(key)
    return changed


@dataclass
class Syncer:
    """Syncs in the background while a sweep runs. A store that does not answer is said once and tried again."""

    runs: Runs
    store: Store
    keys: list[str]
    labels: Mapping[str, Mapping[str, str]]
    warn: Callable[[str], None]
    every_seconds: float = 10.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _said: set[str] = field(default_factory=set)

    def __enter__(self) -> Syncer:
        self._thread = threading.Thread(target=self._work, name="sync", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _warn_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self.warn(line)

    def _work(self) -> None:
        warned = False
        while not self._stop.wait(self.every_seconds):
            try:
                sync(self.runs, self.store, self.keys, self.labels, self._warn_once)
                warned = False
            except StoreError as error:
                if not warned:
                    self.warn(f"{error}; results are kept in {self.runs.path} and will be sent later")
                warned = True
