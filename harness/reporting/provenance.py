"""The runs behind the numbers of a page, as plain data: seeds by cell, runs by key, each distinct spec once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from harness.config.expand import Expansion
from harness.config.identity import plain
from harness.config.schema import RandomEncoder
from harness.reporting.aggregate import Table
from harness.tracking.record import Record
from harness.tracking.results import Results, link
from harness.tracking.store import Stored

HOST = re.compile(r"[A-Za-z0-9.:_-]+")
PER_RUN = ("seed", "subject", "candidates")  # what differs between the runs of a cell, and is said beside the spec


def provenance(
    tables: Sequence[Table], expansions: Sequence[Expansion], results: Results, under_way: Mapping[str, float]
) -> dict[str, Any]:
    """What a number's dialog shows; `under_way` is how far each running run is, from 0 to 1."""
    members = [member for expansion in expansions for member in expansion.members]
    specs = {key: spec for m in members for key, spec in m.specs.items()}
    stored = results.find(specs)
    distinct: dict[str, int] = {}  # a spec's text -> its place in the list
    runs = {}
    for key, spec in specs.items():
        shared = {name: value for name, value in plain(spec).items() if name not in PER_RUN}
        place = distinct.setdefault(json.dumps(shared, sort_keys=True), len(distinct))
        state = "no run of its own" if isinstance(spec, RandomEncoder) else "pending"
        facts = {"kind": spec.kind, "spec": place, "state": state, "share": under_way.get(key)}
        facts["candidates"] = getattr(spec, "candidates", None)
        runs[key] = _said(facts | _stored(stored.get(key), results.uri) | _recorded(key, results))
    cells: dict[str, list[dict[str, Any]]] = {}
    for m in members:
        behind = {"seed": m.seed, "subject": m.subject_key, "evaluation": m.evaluation_key}
        cells.setdefault(f"{m.table}:{m.cell}", []).append(behind)
    values = {
        f"{table.layout.table}:{cell}:{metric}": {str(seed): f"{value:.6g}" for seed, value in number.values.items()}
        for table in tables
        for (cell, metric), number in table.numbers.items()
        if number.values
    }
    return {"cells": cells, "runs": runs, "specs": [json.loads(text) for text in distinct], "values": values}


def _said(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, "", ())}


def _stored(stored: Stored | None, uri: str) -> dict[str, Any]:
    """What the tables go by."""
    if stored is None:
        return {}
    return {"state": stored.state, "mlflow": stored.run_id, "link": link(server_address(uri), stored)}


def _recorded(key: str, results: Results) -> dict[str, Any]:
    """What the run says of itself."""
    record = results.record(key)
    if record is None:
        return {}
    return {
        "commit": record.commit,
        "chosen": record.selection.get("chosen"),
        "hardware": _hardware(record),
        "cost": _cost(record),
        "error": record.error,
        "notes": record.notes,
    }


def _hardware(record: Record) -> str:
    device, world = record.environment.get("device", ""), record.environment.get("world", 1)
    if device == "cpu":
        device = f"CPU, threads: {record.environment.get('threads', 1)}"
    return f"{world} x {device}" if world != 1 else str(device)


def _cost(record: Record) -> str:
    """Hours of all its workers together; of a part of a GPU, that part."""
    if "worker_s" not in record.cost:
        return ""
    unit = "hours on a CPU" if record.environment.get("device") == "cpu" else "GPU-hours"
    share = record.environment.get("gpu_share", 1.0)
    if not isinstance(share, int | float):  # an environment is not declared, and may come from a results file
        return ""
    return f"{record.cost['worker_s'] * share / 3600:.3g} {unit}"


def server_address(uri: str) -> str:
    """Where a browser finds the MLflow server, without the user and password a uri may hold; empty for a file."""
    try:
        told = urlsplit(uri)
        port = f":{told.port}" if told.port else ""
    except ValueError:
        return ""
    if told.scheme not in ("http", "https") or not HOST.fullmatch(told.hostname or ""):
        return ""
    host = f"[{told.hostname}]" if ":" in str(told.hostname) else told.hostname
    return f"{told.scheme}://{host}{port}{quote(told.path, safe='/%')}"
