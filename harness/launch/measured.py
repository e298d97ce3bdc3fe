"""How fast finished runs went on a machine, from their records."""

from __future__ import annotations

import json
from collections import defaultdict

from harness.config.errors import ConfigError
from harness.config.schema import Spec, Subject
from harness.config.structure import StructureError, structure
from harness.launch.cost import Form, Speed, Work, work
from harness.launch.machines import Machine
from harness.launch.plan import subject_of
from harness.tracking.record import Record, RecordError, Runs


def speeds(runs: Runs, machine: Machine) -> dict[Form, Speed]:
    """Of each form of run: operations over device time, start and reading included, of all that it has done.

    What cannot be read or counted measures nothing; the plan itself complains of a damaged record.
    """
    spent: defaultdict[Form, list[tuple[float, float]]] = defaultdict(list)
    for key in runs.keys():  # noqa: SIM118  # a folder, no dict
        try:
            record = runs.read(key)
            seconds = 0.0 if record is None else device_seconds(record, machine)
            if record is None or seconds <= 0:
                continue
            done = _work(record, runs)
        except (RecordError, StructureError, ConfigError, OSError, json.JSONDecodeError):
            continue
        spent[done.form].append((done.flops, seconds))
    return {
        form: Speed(sum(flops for flops, _ in one) / sum(seconds for _, seconds in one) / 1e12, len(one))
        for form, one in spent.items()
    }


def device_seconds(record: Record, machine: Machine) -> float:
    """What a run that is done took of this machine: every worker's time, on a CPU that of every core; else 0."""
    device = record.environment.get("device")
    if record.state != "done" or device not in machine.reported:
        return 0.0
    cores = float(record.environment.get("threads", 1)) if device == "cpu" else 1.0
    return record.cost.get("worker_s", 0.0) * cores


def _work(record: Record, runs: Runs) -> Work:
    spec: Spec = structure(Spec, record.spec)  # type: ignore[arg-type]  # a union of types
    key = subject_of(spec)
    if key is None:
        return work(spec, {})
    raw = json.loads((runs.folder(key) / "spec.json").read_text(encoding="utf-8"))
    subject: Subject = structure(Subject, raw)  # type: ignore[arg-type]  # likewise
    return work(spec, {key: subject})
