"""What MLflow holds, set beside records and spools: every point once, every key in one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow.tracking import MlflowClient

from harness.tracking.mlflow_run import COST, EXPERIMENT, KEY, RESULT
from harness.tracking.record import Runs
from harness.tracking.spool import Spool

Points = Counter[tuple[str, str, int, int, str]]  # key, metric, step, time, value


@dataclass(frozen=True)
class Difference:
    """Points that MLflow lacks, and those that it should not have: any twice, or of a second run of one key."""

    points: int
    lost: Points
    doubled: Points


def difference(runs: Runs, uri: str) -> Difference:
    """Of all runs in the folder and all active ones at a tracking URI."""
    told, held = Counter(_told(runs)), Counter(_held(uri))
    return Difference(told.total(), told - held, held - told)


def _told(runs: Runs) -> Iterator[tuple[str, str, int, int, str]]:
    for key in runs.keys():  # noqa: SIM118  # Runs is no mapping
        for point in Spool(runs.folder(key) / "spool.jsonl").read():
            for name, value in point.metrics.items():
                yield key, name, point.step, point.time_unix_ms, repr(value)
        record = runs.read(key)
        assert record is not None
        ended = round((record.ended_unix_s or record.started_unix_s) * 1000)
        for prefix, numbers in ((RESULT, record.results), (COST, record.cost)):
            for name, value in numbers.items():
                yield key, f"{prefix}{name}", 0, ended, repr(float(value))


def _held(uri: str) -> Iterator[tuple[str, str, int, int, str]]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id], max_results=50_000):
        for name in run.data.metrics:
            for metric in client.get_metric_history(run.info.run_id, name):
                yield run.data.tags[KEY], name, metric.step, metric.timestamp, repr(metric.value)
