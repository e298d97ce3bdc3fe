"""Whether MLflow at a tracking URI can take what runs will send: it answers, its form is ours, it can be written."""

from __future__ import annotations

import importlib.metadata
import textwrap
from pathlib import Path

from harness.tracking import mlflow_store  # noqa: F401  # before MLflow: sets what that reads at import

# isort: split
import mlflow
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from harness.config.finding import Finding, fail, ok, warn
from harness.config.masked import masked
from harness.tracking.mlflow_run import EXPERIMENT

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
MIGRATIONS = Path(mlflow.__file__).parent / "store" / "db_migrations"
REACH = "start it, or name another with MLFLOW_TRACKING_URI; runs go on without, `harness sync` sends them later"
DRIVER = "write postgresql+psycopg2:// in MLFLOW_TRACKING_URI, whose driver is locked; or install this one"
CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def health(uri: str) -> Finding:
    """Of the store there. Nothing is written: a first sweep makes what is missing."""
    look = _database if uri.startswith(DATABASES) else _server
    try:
        return look(uri)
    except ModuleNotFoundError as error:  # SQLAlchemy takes psycopg for postgresql:// alone
        return fail("mlflow", f"{masked(uri)} needs a driver that is not installed ({error.name})", DRIVER)
    except (MlflowException, SQLAlchemyError) as error:
        reason = str(getattr(error, "orig", None) or error).rpartition("(Caused by ")[2]
        remedy = CREDENTIALS if any(code in reason for code in ("error code 401", "error code 403")) else REACH
        said = textwrap.shorten(reason, 200, placeholder=" ...")
        return fail("mlflow", f"{masked(uri)} cannot be used: {masked(said)}", remedy)


def _server(uri: str) -> Finding:
    """Its version and the experiment, by the way that runs are sent."""
    known = MlflowClient(uri).get_experiment_by_name(EXPERIMENT)
    answer = http_request(get_default_host_creds(uri), "/version", "GET")
    ours, theirs = importlib.metadata.version("mlflow"), answer.text.strip() if answer.ok else "of an unknown version"
    found = f"MLflow {theirs} at {masked(uri)}, {_experiment(known and known.experiment_id)}"
    if known is not None and known.lifecycle_stage == "deleted":
        return _deleted(found, known.experiment_id)
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        return warn("mlflow", f"{found}; ours is {ours}", f"install MLflow {ours} there")
    return ok("mlflow", found)


def _database(uri: str) -> Finding:
    url = make_url(uri)
    where = f"{url.get_backend_name()} at {masked(uri)}"
    is_file = url.get_backend_name() == "sqlite" and not (url.database or "").startswith("file:")
    if is_file and not Path(url.database or "").exists():
        return ok("mlflow", f"{where} is not there yet, the first sweep makes it")
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return _schema(connection, uri, where)
    finally:
        engine.dispose()


def _schema(connection: Connection, uri: str, where: str) -> Finding:
    """Its form against that of our MLflow, then the experiment, and whether a run could be changed."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return ok("mlflow", f"{where} is empty, the first sweep makes its tables")
    theirs = MigrationContext.configure(connection).get_current_revision()
    ours = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    if theirs != ours:
        said = uri if masked(uri) == uri else "$MLFLOW_TRACKING_URI"
        found = f"{where} has the form {theirs}, our MLflow {mlflow.__version__} takes {ours} alone"
        return fail("mlflow", found, f'make a copy of it, then `.venv/bin/mlflow db upgrade "{said}"`')
    asked = text("SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = :name")
    row = connection.execute(asked, {"name": EXPERIMENT}).first()
    found = f"{where} in the form of MLflow {mlflow.__version__}, {_experiment(row and row[0])}"
    if row is not None and row[1] == "deleted":
        return _deleted(found, row[0])
    connection.execute(text("UPDATE runs SET name = name WHERE 1 = 0"))  # no row: asks whether one may be changed
    connection.rollback()
    return ok("mlflow", found)


def _experiment(number: object) -> str:
    return f"experiment {EXPERIMENT} is to be made" if number is None else f"experiment {EXPERIMENT} is number {number}"


def _deleted(found: str, number: object) -> Finding:
    return fail("mlflow", f"{found} but deleted", f"`.venv/bin/mlflow experiments restore --experiment-id {number}`")
