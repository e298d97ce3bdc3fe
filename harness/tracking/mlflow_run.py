"""How a run stands in MLflow: its experiment, and which tags and metrics say what."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from harness.tracking.record import Record
from harness.tracking.store import Stored

EXPERIMENT = "byol-tables"
KEY = "harness.key"
INFINITE = 1.79e308  # MLflow stores an infinity as the largest double
RESULT = "result."
COST = "cost."
BEGINNING = ("harness.started", "harness.forgotten")  # tags that a run has from its first moment
ENDING = ("harness.error", "harness.selection", "harness.flag.")  # tags that not every ending has
_FLAG = "harness.flag."


def tags(record: Record, stamp: str, forgotten: int) -> dict[str, str]:
    told = {
        "harness.kind": record.kind,
        "harness.state": record.state,
        "harness.seed": str(record.spec.get("seed", "")),
        "harness.commit": record.commit,
        "harness.started": repr(record.started_unix_s),
        "harness.forgotten": str(forgotten),
        "harness.stamp": stamp,
    }
    told.update({f"{_FLAG}{flag}": str(value).lower() for flag, value in record.flags.items()})
    if record.selection:
        told["harness.selection"] = ", ".join(f"{what}={value}" for what, value in record.selection.items())[:4900]
    if record.error:
        told["harness.error"] = record.error[:4900]
    return told


def stored(key: str, run_id: str, experiment: str, told: Mapping[str, str], metrics: Mapping[str, float]) -> Stored:
    """What reports read, from a run's tags and the last value of each metric."""
    results = {
        metric.removeprefix(RESULT): math.copysign(math.inf, value) if abs(value) >= INFINITE else value
        for metric, value in metrics.items()
        if metric.startswith(RESULT)
    }
    flags = {tag.removeprefix(_FLAG): value == "true" for tag, value in told.items() if tag.startswith(_FLAG)}
    state, stamp = told.get("harness.state", "running"), told.get("harness.stamp", "")
    return Stored(key, run_id, state, stamp, results, flags, dict(told), experiment)


def parameters(spec: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A spec's values by their dotted names."""
    for part, value in spec.items():
        if isinstance(value, Mapping):
            yield from parameters(value, f"{prefix}{part}.")
        else:
            yield f"{prefix}{part}", str(value)[:6000]
