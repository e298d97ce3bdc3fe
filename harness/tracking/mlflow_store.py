"""The store in MLflow, through its client: one MLflow run a key. Only this file and health.py import mlflow."""

from __future__ import annotations

import logging
import math
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# One retry and ten seconds: a dead server must not hold up a report (the defaults wait about four minutes a call).
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

from mlflow.entities import Metric, Param, Run, RunTag  # after the environment it reads at import
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy import NullPool, create_engine, text
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
MANY = 1000  # keys, for which a search each takes longer than listing ten thousand runs
PAGE = 200  # runs in one answer, which must come within ten seconds
OLDEST = ("attributes.start_time ASC",)
ATTEMPTS = 3  # at a run that another sweep, which sends it too, makes or deletes meanwhile
DISTURBED = "INVALID_PARAMETER_VALUE"  # what MLflow says of a deleted run, among others
DOUBLES = 10  # of one key that are looked for
LOCK = 5_716_093  # any number, of ours alone: PostgreSQL's name of the lock
REFUSALS = (401, 403)
ACCOUNT = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD must name one that may write there"
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
        """One search a key, as MLflow cannot look for several tags at once; for many keys a list of all runs."""
        wanted = list(keys)
        with self._speaking() as client:
            if len(wanted) < MANY:
                with ThreadPoolExecutor(SEARCHES) as pool:
                    found = dict(zip(wanted, pool.map(lambda key: self._run(client, key), wanted), strict=True))
            else:
                found = self._listed(client, set(wanted))
        return {key: _stored(key, run) for key in wanted if (run := found.get(key)) is not None}

    def put(
        self, record: Record, points: Iterable[Point], stamp: str, labels: Mapping[str, str], forgotten: int = 0
    ) -> Stored:
        tags, told = {**labels, **mlflow_run.tags(record, stamp, forgotten)}, list(points)
        with self._speaking() as client:
            for left in reversed(range(ATTEMPTS)):
                try:
                    run_id = self._put(client, record, told, tags, forgotten)
                    break
                except MlflowException as error:
                    if error.error_code != DISTURBED or not left:
                        raise
        results, flags = dict(record.results), dict(record.flags)
        return Stored(record.key, run_id, record.state, stamp, results, flags, dict(labels), self._experiment)

    def _put(
        self, client: Any, record: Record, points: Sequence[Point], tags: Mapping[str, str], forgotten: int
    ) -> str:
        run = self._only_run(client, record.key)
        if run is not None and not _still_holds(run, record, forgotten):
            client.delete_run(run.info.run_id)  # neither a point nor a result can be taken out of a run
            run = None
        if run is not None and run.data.tags.get("harness.started") not in (None, tags["harness.started"]):
            client.set_tag(run.info.run_id, mlflow_run.KEY, f"{record.key} (retired)")
            run = None
        run = run or self._create(client, record, tags)
        run_id: str = run.info.run_id
        _log_metrics(client, run_id, record, points)
        for name in run.data.tags.keys() - tags.keys():
            if name.startswith(mlflow_run.ENDING):  # of an earlier attempt
                client.delete_tag(run_id, name)
        if record.ended_unix_s is None:
            client.update_run(run_id, status="RUNNING")
        else:
            client.set_terminated(run_id, _STATUS[record.state], round(record.ended_unix_s * 1000))
        client.log_batch(run_id, tags=_run_tags(tags))  # last: all is there
        return run_id

    def label(self, stored: Stored, labels: Mapping[str, str]) -> None:
        with self._speaking() as client:
            client.log_batch(stored.run_id, tags=_run_tags(labels))

    def forget(self, key: str) -> None:
        with self._speaking() as client:
            while (run := self._run(client, key)) is not None:
                client.delete_run(run.info.run_id)

    def _create(self, client: Any, record: Record, tags: Mapping[str, str]) -> Run:
        """A run that says from its first moment whose points it takes, should another process find it."""
        client.create_run(
            self._experiment,
            start_time=round(record.started_unix_s * 1000),
            tags={mlflow_run.KEY: record.key} | {name: tags[name] for name in mlflow_run.BEGINNING},
            run_name=f"{record.kind}-{record.key}",
        )
        run = self._only_run(client, record.key)
        if run is None or any(run.data.tags.get(name) != tags[name] for name in mlflow_run.BEGINNING):
            raise MlflowException.invalid_parameter_value(f"another process sends {record.key} too")
        params = [Param(name, value) for name, value in mlflow_run.parameters(record.spec)]
        for start in range(0, len(params), PARAMS):
            client.log_batch(run.info.run_id, params=params[start : start + PARAMS])
        return run

    def _run(self, client: Any, key: str) -> Run | None:
        return next(iter(self._runs(client, key, most=1)), None)

    def _only_run(self, client: Any, key: str) -> Run | None:
        """Likewise; where two processes, or a call that was repeated, have made several, the others go."""
        run, *others = [*self._runs(client, key, most=DOUBLES)] or [None]
        for other in others:
            client.delete_run(other.info.run_id)
        return run

    def _listed(self, client: Any, wanted: set[str]) -> dict[str, Run | None]:
        """From all runs, the oldest first, until none of the keys is left to find."""
        found: dict[str, Run | None] = {}
        token = None
        while len(found) < len(wanted):
            page = client.search_runs([self._experiment], max_results=PAGE, order_by=list(OLDEST), page_token=token)
            for run in page:
                key = run.data.tags.get(mlflow_run.KEY)
                if key in wanted:
                    found.setdefault(key, run)
            token = page.token
            if not token:
                break
        return found

    def _runs(self, client: Any, key: str, most: int) -> list[Run]:
        """The oldest first, and of several as old always the same one: every process takes that."""
        with_key = f"tags.`{mlflow_run.KEY}` = '{key}'"
        found: list[Run] = client.search_runs([self._experiment], with_key, max_results=most, order_by=list(OLDEST))
        return found

    @contextmanager
    def _speaking(self) -> Iterator[Any]:
        try:
            if self._client is None:
                with _alone(self.uri):
                    client = MlflowClient(self.uri)
                    self._experiment = _experiment(client)
                self._client = client
            yield self._client
        except (
            MlflowException,
            SQLAlchemyError,
            ImportError,
        ) as error:  # the last where a database's driver is missing
            if isinstance(error, MlflowException) and error.get_http_status_code() in REFUSALS:
                raise StoreError(f"MLflow at {masked(self.uri)} refuses this account: {ACCOUNT}") from error
            reason = textwrap.shorten(masked(error), 120, placeholder=" ...")  # masked while addresses are whole
            raise StoreError(f"MLflow at {masked(self.uri)} does not answer: {reason}") from error


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """No other process makes the tables meanwhile: MLflow itself sees to that within one machine.

    A PostgreSQL that does not answer says so here; MLflow would ask it again for 100 seconds.
    """
    if not uri.startswith("postgresql"):
        yield
        return
    engine = create_engine(uri, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))  # of an owner that is cut off
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        if not connection.scalar(text("SELECT to_regclass('alembic_version')")):
            yield
            return
    yield  # the tables are there: others need not wait


def _experiment(client: Any) -> str:
    """The number of ours, made by the first who looks for it."""
    known = client.get_experiment_by_name(EXPERIMENT)
    if known is None:
        try:
            made: str = client.create_experiment(EXPERIMENT)
        except MlflowException:
            known = client.get_experiment_by_name(EXPERIMENT)
            if known is None:
                raise
        else:
            return made
    return str(known.experiment_id)


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
    """Keep alembic's and MLflow's chatter off the person's screen, and tracebacks of what is raised here as well."""
    for name in ("alembic", "mlflow", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
