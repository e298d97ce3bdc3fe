"""The record of a run: runs/<key>/record.json, what is true of it. Written by fsync and rename."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.config.durable import write_json
from harness.config.errors import ConfigError
from harness.config.structure import structure

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
State = Literal["running", "done", "failed", "diverged", "retired"]
FINISHED: tuple[State, ...] = ("done", "diverged")


class RecordError(ConfigError):
    """A record that cannot be read as one: the file, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything known of one run. `results` by metric name, accuracies in percent; `cost` in seconds and updates.

    `notes` are what a person should know of how the run went: a checkpoint that was passed over, say.
    """

    key: str
    kind: str
    state: State
    spec: dict[str, Any]
    commit: str
    environment: dict[str, Any]
    started_unix_s: float
    ended_unix_s: float | None = None
    results: dict[str, float] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    selection: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    notes: tuple[str, ...] = ()

    def ended(self, state: State, ended_unix_s: float, **changes: Any) -> Record:
        return replace(self, state=state, ended_unix_s=ended_unix_s, **changes)


class Runs:
    """The folder of all runs, one sub-folder a key, on storage that every node shares."""

    def __init__(self, folder: Path) -> None:
        self.path = folder

    def folder(self, key: str) -> Path:
        """Where a run's files are: below the folder of all runs, whatever a person or a file gives as its key."""
        if not _KEY.fullmatch(key):
            raise RecordError(f"'{key[:40]}' is no key of a run: letters and digits, as 0f3ad01f0f63a985")
        return self.path / key

    def read(self, key: str) -> Record | None:
        """The record of a key; None where the run was never started."""
        path = self.folder(key) / "record.json"
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            record = structure(Record, json.loads(raw))
        except (RecursionError, ValueError) as error:  # no text, no JSON, or no record
            raise RecordError(f"{path} is no record ({error}); delete its folder to run it again") from None
        if record.key != key:
            raise RecordError(f"{path} is the record of {record.key}; delete its folder to run {key} again")
        return record

    def write(self, record: Record) -> None:
        write_json(self.folder(record.key) / "record.json", asdict(record))

    def archive(self, key: str) -> None:
        """Put what a retired run left into a folder of its own, so that the next attempt starts from nothing."""
        folder = self.folder(key)
        attempt = 1
        while (aside := folder / f"retired-{attempt}").exists():
            attempt += 1
        aside.mkdir()
        for path in sorted(folder.iterdir(), key=lambda path: path.name == "record.json"):  # the record goes last
            if path.name not in ("spec.json", "lease.json") and not path.name.startswith(("retired-", ".")):
                path.replace(aside / path.name)

    def keys(self) -> list[str]:
        if not self.path.is_dir():
            return []
        found = (path.parent.name for path in self.path.glob("*/record.json"))
        return sorted(name for name in found if _KEY.fullmatch(name))
