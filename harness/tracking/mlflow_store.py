"""The store in MLflow: one MLflow run a key, found by its tag. The one file that imports mlflow."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# One retry and ten seconds: a dead server must not hold up a report (the defaults wait about four minutes a call).
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

from mlflow.entities import Metric, Param, Run, RunTag  # after the environment it reads at import
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

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

    def put(self, record: Record, points: Iterable[Point], stamp: str, labels: Mapping[str, str]) -> Stored:
        with self._speaking() as client:
            run = self._run(client, record.key)
            if run is None:
                run = client.create_run(
                    self._experiment,
                    start_time=round(record.started_unix_s * 1000),
                    tags={"harness.key": record.key},
                    run_name=f"{record.kind}-{record.key}",
                )
                params = [Param(name, str(value)[:6000]) for name, value in _flat(record.spec)]
                for start in range(0, len(params), PARAMS):
                    client.log_batch(run.info.run_id, params=params[start : start + PARAMS])
            run_id = run.info.run_id
            metrics = [
                Metric(name, value, point.time_unix_ms, point.step)
                for point in points
                for name, value in point.metrics.items()
            ]
            ended = round((record.ended_unix_s or record.started_unix_s) * 1000)
            metrics += [Metric(name, value, ended, 0) for name, value in record.results.items()]
            metrics += [Metric(f"cost.{name}", value, ended, 0) for name, value in record.cost.items()]
            for start in range(0, len(metrics), BATCH):
                client.log_batch(run_id, metrics=metrics[start : start + BATCH])
            tags = {**_tags(record), **labels, "harness.stamp": stamp}  # the stamp says all of it has arrived
            client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
            client.set_terminated(run_id, _STATUS[record.state], ended) if record.ended_unix_s else None
            return Stored(record.key, run_id, record.state, stamp, dict(record.results), dict(record.flags))

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
        except MlflowException as error:
            raise StoreError(f"MLflow at {self.uri} does not answer: {str(error).splitlines()[0]}") from error


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
        name: (float("inf") if value >= INFINITE else value)
        for name, value in run.data.metrics.items()
        if not name.startswith("cost.")
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
    )


def _flat(spec: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in spec.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def quiet() -> None:
    """Keep alembic's and MLflow's chatter off the person's screen."""
    import logging  # noqa: PLC0415

    for name in ("alembic", "mlflow", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.stdout.flush()
