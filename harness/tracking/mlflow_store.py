"""The store in MLflow, through its client: one MLflow run a key. The one file that imports mlflow."""

from __future__ import annotations

import logging
import math
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
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

from harness.config.masked import masked
from harness.tracking import mlflow_run
from harness.tracking.mlflow_run import EXPERIMENT
from harness.tracking.record import Record
from harness.tracking.spool import Point
from harness.tracking.store import Stored, StoreError

BATCH = 1000  # metrics in one call: MLflow's limit
PARAMS = 100
SEARCHES = 8  # at a time: a server is often far away
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
        _quiet()
        self.uri = uri
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self._client: Any = None
        self._experiment = ""

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        """One search a key, as MLflow cannot look for several tags at once; several searches at a time."""
        wanted = list(keys)
        with self._speaking() as client, ThreadPoolExecutor(SEARCHES) as pool:
            runs = list(pool.map(lambda key: self._run(client, key), wanted))
        return {key: _stored(key, run) for key, run in zip(wanted, runs, strict=True) if run is not None}

    def put(
        self, record: Record, points: Iterable[Point], stamp: str, labels: Mapping[str, str], forgotten: int = 0
    ) -> Stored:
        tags = {**labels, **mlflow_run.tags(record, stamp, forgotten)}
        with self._speaking() as client:
            run = self._run(client, record.key)
            if run is not None and not _still_holds(run, record, forgotten):
                client.delete_run(run.info.run_id)  # neither a point nor a result can be taken out of a run
                run = None
            if run is not None and run.data.tags.get("harness.started") not in (None, tags["harness.started"]):
                client.set_tag(run.info.run_id, mlflow_run.KEY, f"{record.key} (retired)")
                run = None
            run = run or self._create(client, record)
            run_id = run.info.run_id
            _log_metrics(client, run_id, record, points)
            for name in run.data.tags.keys() - tags.keys():
                if name.startswith(mlflow_run.ENDING):  # of an earlier attempt
                    client.delete_tag(run_id, name)
            if record.ended_unix_s is None:
                client.update_run(run_id, status="RUNNING")
            else:
                client.set_terminated(run_id, _STATUS[record.state], round(record.ended_unix_s * 1000))
            client.log_batch(run_id, tags=_run_tags(tags))  # last: all is there
            results, flags = dict(record.results), dict(record.flags)
            return Stored(record.key, run_id, record.state, stamp, results, flags, dict(labels), self._experiment)

    def label(self, stored: Stored, labels: Mapping[str, str]) -> None:
        with self._speaking() as client:
            client.log_batch(stored.run_id, tags=_run_tags(labels))

    def forget(self, key: str) -> None:
        with self._speaking() as client:
            while (run := self._run(client, key)) is not None:
                client.delete_run(run.info.run_id)

    def _create(self, client: Any, record: Record) -> Run:
        run = client.create_run(
            self._experiment,
            start_time=round(record.started_unix_s * 1000),
            tags={mlflow_run.KEY: record.key},
            run_name=f"{record.kind}-{record.key}",
        )
        params = [Param(name, value) for name, value in mlflow_run.parameters(record.spec)]
        for start in range(0, len(params), PARAMS):
            client.log_batch(run.info.run_id, params=params[start : start + PARAMS])
        return run

    def _run(self, client: Any, key: str) -> Run | None:
        # The oldest one, should two processes ever have created the same run at once.
        with_key, oldest = f"tags.`{mlflow_run.KEY}` = '{key}'", ["attributes.start_time ASC"]
        found = client.search_runs([self._experiment], with_key, max_results=1, order_by=oldest)
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
        except (
            MlflowException,
            SQLAlchemyError,
            ImportError,
        ) as error:  # the last where a database's driver is missing
            reason = textwrap.shorten(masked(error), 120, placeholder=" ...")  # masked while addresses are whole
            raise StoreError(f"MLflow at {masked(self.uri)} does not answer: {reason}") from error


def _stored(key: str, run: Run) -> Stored:
    return mlflow_run.stored(key, run.info.run_id, run.info.experiment_id, run.data.tags, run.data.metrics)


def _run_tags(tags: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(name, value) for name, value in tags.items()]


def _still_holds(run: Run, record: Record, forgotten: int) -> bool:
    """Whether all that was put into an MLflow run is still so; what is new can be added to it."""
    if run.data.tags.get("harness.forgotten", "0") != str(forgotten):
        return False
    told = _stored(record.key, run).results
    return all(name in record.results and _same(value, record.results[name]) for name, value in told.items())


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _log_metrics(client: Any, run_id: str, record: Record, points: Iterable[Point]) -> None:
    """Curves under their own names; results and costs under `result.` and `cost.`, as a curve may share the name."""
    metrics = [
        Metric(name, value, point.time_unix_ms, point.step) for point in points for name, value in point.metrics.items()
    ]
    ended = round((record.ended_unix_s or record.started_unix_s) * 1000)
    metrics += [Metric(f"{mlflow_run.RESULT}{name}", value, ended, 0) for name, value in record.results.items()]
    metrics += [Metric(f"{mlflow_run.COST}{name}", value, ended, 0) for name, value in record.cost.items()]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])


def _quiet() -> None:
    """Keep alembic's and MLflow's chatter off the person's screen."""
    for name in ("alembic", "mlflow", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.ERROR)
