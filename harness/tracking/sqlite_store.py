"""The store in an MLflow database on this machine: read with SQLite alone, written by MLflow.

Importing MLflow takes seconds and its search ten milliseconds a run. Reports on thousands of runs read the few columns
they need instead, always from the database itself. One whose form is another than SCHEMA is left to MLflow.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.masked import masked
from harness.tracking import mlflow_run
from harness.tracking.record import Record
from harness.tracking.spool import Point
from harness.tracking.store import Stored, StoreError

if TYPE_CHECKING:
    from harness.tracking.mlflow_store import MlflowStore

PREFIX = "sqlite:///"
SCHEMA = "dc11669786a5"  # the form of MLflow 3.17's database, as it names it
WAIT_SECONDS = 20.0  # for another process that writes, as long as MLflow itself waits

# MLflow's own order where several runs have a key: the oldest, and of several as old the first by id.
_RUNS = """
SELECT own.value, own.run_uuid, experiment_id
FROM tags AS own JOIN runs USING (run_uuid) JOIN experiments USING (experiment_id)
WHERE own.key = ? AND own.value IN (SELECT value FROM json_each(?)) AND runs.lifecycle_stage = 'active'
AND experiments.name = ? AND experiments.workspace = 'default' ORDER BY runs.start_time DESC, own.run_uuid DESC
"""
_TAGS = "SELECT run_uuid, key, value FROM tags WHERE run_uuid IN (SELECT value FROM json_each(?))"
_METRICS = """
SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid IN (SELECT value FROM json_each(?))
"""


class SqliteStore:
    """The experiment `byol-tables` in the database at `sqlite:///PATH`, which is made with the first run put."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._path = Path(uri.removeprefix(PREFIX))
        self._writer: MlflowStore | None = None

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        wanted = list(keys)
        if not self._path.exists():
            return {}
        try:
            with closing(sqlite3.connect(self._path, timeout=WAIT_SECONDS, isolation_level=None)) as database:
                database.execute("BEGIN")  # one look, whoever writes meanwhile
                known = _schema(database) == SCHEMA
                found = _read(database, wanted) if known else {}
        except sqlite3.Error as error:
            raise StoreError(f"MLflow at {masked(self.uri)} does not answer: {error}") from error
        return found if known else self._mlflow().find(wanted)

    def put(
        self, record: Record, points: Iterable[Point], stamp: str, labels: Mapping[str, str], forgotten: int = 0
    ) -> Stored:
        return self._mlflow().put(record, points, stamp, labels, forgotten)

    def label(self, stored: Stored, labels: Mapping[str, str]) -> None:
        self._mlflow().label(stored, labels)

    def forget(self, key: str) -> None:
        self._mlflow().forget(key)

    def _mlflow(self) -> MlflowStore:
        if self._writer is None:
            from harness.tracking.mlflow_store import MlflowStore  # noqa: PLC0415  # seconds to import

            self._writer = MlflowStore(self.uri)
        return self._writer


def _schema(database: sqlite3.Connection) -> str | None:
    """The form of the database; None of an empty one, or one that is no MLflow's."""
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        return None
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _read(database: sqlite3.Connection, keys: list[str]) -> dict[str, Stored]:
    rows = database.execute(_RUNS, (mlflow_run.KEY, json.dumps(keys), mlflow_run.EXPERIMENT))
    runs = {key: (run, str(experiment)) for key, run, experiment in rows}  # of several with one key the last row stays
    chosen = json.dumps([run for run, _ in runs.values()])
    tags: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for run, name, text in database.execute(_TAGS, (chosen,)):
        tags[run][name] = text
    metrics: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for run, name, value, is_nan in database.execute(_METRICS, (chosen,)):
        metrics[run][name] = math.nan if is_nan else value
    return {key: mlflow_run.stored(key, *runs[key], tags[runs[key][0]], metrics[runs[key][0]]) for key in runs}
