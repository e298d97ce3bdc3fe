"""The store in MLflow: one MLflow run a key, found by its tag. The one file that imports mlflow."""

from __future__ import annotations

import logging
import math
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# One retry and ten seconds: a dead server must not hold up a report (the defaults wait about four minutes a call).
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

from mlflow.entities import Metric, Param, Run, RunTag  # after the environment it reads at import
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from harness.tracking.record import Record
from harness.tracking.spool import Point
from harness.tracking.store import Stored, StoreError

EXPERIMENT = "byol-tables"
BATCH = 1000  # metrics in one call: MLflow's limit
PARAMS = 100
INFINITE = 1.79e308  # MLflow stores an infinity as the largest double
_STATUS = {
    "running": "RUNNING",
    "done": "FINISHED",
    "failed": "FAILED",
    "diverged": "FINISHED",
    "retired": "KILLED",
}
_RESULT = "result."
_ENDING = ("harness.error", "harness.selection", "harness.flag.")  # tags that not every ending has


class MlflowStore:
    """Runs of the experiment `byol-tables` at a tracking URI; a bare folder of sqlite is made where none is."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self._client: Any = None
        self._experiment = ""

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        with self._speaking() as client:
            found = {}
            for key in keys:
                run = self._run(client, key)
                if run is not None:
                    found[key] = _stored(key, run)
            return found

    def put(
        self, record: Record, points: Iterable[Point], stamp: str, labels: Mapping[str, str], forgotten: int = 0
    ) -> Stored:
        started = repr(record.started_unix_s)
        ours = {"harness.started": started, "harness.forgotten": str(forgotten), "harness.stamp": stamp}
        tags = {**_tags(record), **labels, **ours}
        with self._speaking() as client:
            run = self._run(client, record.key)
            if run is not None and run.data.tags.get("harness.forgotten", "0") != str(forgotten):
                client.delete_run(run.info.run_id)  # a point cannot be taken out of a run
                run = None
            if run is not None and run.data.tags.get("harness.started") not in (None, started):
                client.set_tag(run.info.run_id, "harness.key", f"{record.key} (retired)")
                run = None
            run = run or self._create(client, record)
            run_id = run.info.run_id
            _log_metrics(client, run_id, record, points)
            for name in run.data.tags.keys() - tags.keys():
                if name.startswith(_ENDING):  # of an earlier attempt
                    client.delete_tag(run_id, name)
            if record.ended_unix_s is None:
                client.update_run(run_id, status="RUNNING")
            else:
                client.set_terminated(run_id, _STATUS[record.state], round(record.ended_unix_s * 1000))
            client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])  # last: all is there
            return Stored(
                record.key, run_id, record.state, stamp, dict(record.results), dict(record.flags), dict(labels)
            )

    def forget(self, key: str) -> None:
        with self._speaking() as client:
            while (run := self._run(client, key)) is not None:
                client.delete_run(run.info.run_id)

    def _create(self, client: Any, record: Record) -> Run:
        run = client.create_run(
            self._experiment,
            start_time=round(record.started_unix_s * 1000),
            tags={"harness.key": record.key},
            run_name=f"{record.kind}-{record.key}",
        )
        params = [Param(name, str(value)[:6000]) for name, value in _flat(record.spec)]
        for start in range(0, len(params), PARAMS):
            client.log_batch(run.info.run_id, params=params[start : start + PARAMS])
        return run

    def _run(self, client: Any, key: str) -> Run | None:
        # The oldest one, should two processes ever have created the same run at once.
        found = client.search_runs(
            [self._experiment],
            f"tags.`harness.key` = '{key}'",
            max_results=1,
            order_by=["attributes.start_time ASC"],
        )
        return found[0] if found else None

    @contextmanager
    def _speaking(self) -> Iterator[Any]:
        try:
            if self._client is None:
                client = MlflowClient(self.uri)
                known = client.get_experiment_by_name(EXPERIMENT)
                self._experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
                self._client = client
            yield self._client
        except (MlflowException, SQLAlchemyError) as error:
            reason = textwrap.shorten(str(error), 120, placeholder=" ...")
            raise StoreError(f"MLflow at {self.uri} does not answer: {reason}") from error


def _log_metrics(client: Any, run_id: str, record: Record, points: Iterable[Point]) -> None:
    """Curves under their own names; results and costs under `result.` and `cost.`, as a curve may share the name."""
    metrics = [
        Metric(name, value, point.time_unix_ms, point.step) for point in points for name, value in point.metrics.items()
    ]
    ended = round((record.ended_unix_s or record.started_unix_s) * 1000)
    metrics += [Metric(f"{_RESULT}{name}", value, ended, 0) for name, value in record.results.items()]
    metrics += [Metric(f"cost.{name}", value, ended, 0) for name, value in record.cost.items()]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])


def _tags(record: Record) -> dict[str, str]:
    tags = {
        "harness.kind": record.kind,
        "harness.state": record.state,
        "harness.seed": str(record.spec.get("seed", "")),
        "harness.commit": record.commit,
    }
    tags.update({f"harness.flag.{name}": str(value).lower() for name, value in record.flags.items()})
    if record.selection:
        tags["harness.selection"] = ", ".join(f"{name}={value}" for name, value in record.selection.items())[:4900]
    if record.error:
        tags["harness.error"] = record.error[:4900]
    return tags


def _stored(key: str, run: Run) -> Stored:
    tags = run.data.tags
    results = {
        name.removeprefix(_RESULT): math.copysign(math.inf, value) if abs(value) >= INFINITE else value
        for name, value in run.data.metrics.items()
        if name.startswith(_RESULT)
    }
    flags = {
        name.removeprefix("harness.flag."): value == "true"
        for name, value in tags.items()
        if name.startswith("harness.flag.")
    }
    return Stored(
        key,
        run.info.run_id,
        tags.get("harness.state", "running"),
        tags.get("harness.stamp", ""),
        results,
        flags,
        labels=dict(tags),
    )


def _flat(spec: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in spec.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def quiet() -> None:
    """Keep alembic's and MLflow's chatter off the person's screen."""
    for name in ("alembic", "mlflow", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.ERROR)
