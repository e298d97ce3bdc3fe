"""From an address to the store that is there."""

from __future__ import annotations

from harness.tracking.sqlite_store import PREFIX, SqliteStore
from harness.tracking.store import Store


def store_at(uri: str) -> Store:
    """The store at an MLflow tracking URI."""
    if uri.startswith(PREFIX) and "?" not in uri:
        return SqliteStore(uri)
    from harness.tracking.mlflow_store import MlflowStore  # noqa: PLC0415  # seconds to import

    return MlflowStore(uri)
