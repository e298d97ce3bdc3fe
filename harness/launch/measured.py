"""How fast finished runs went on a machine, from their records."""

from __future__ import annotations

import json
from collections import defaultdict

from harness.config.errors import ConfigError
from harness.config.schema import Choice, Spec
from harness.config.structure import StructureError, structure
from harness.launch.cost import Form, Speed, Work, work
from harness.launch.machines import Machine
from harness.launch.plan import subject_of
from harness.launch.specs import read_spec
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
    """What a run that is done took of this machine: every worker's time, on a CPU that of every core, on a part of a
    GPU that part of it; else 0.

    Alone it would have taken what its companions have paid as well.
    """
    device = record.environment.get("device")
    if record.state != "done" or device not in machine.reported:
        return 0.0
    amount = "threads" if device == "cpu" else "gpu_share"
    devices = float(record.environment.get(amount, 1))
    return (record.cost.get("worker_s", 0.0) + record.cost.get("companions_worker_s", 0.0)) * devices


def _work(record: Record, runs: Runs) -> Work:
    spec: Spec = structure(Spec, record.spec)  # type: ignore[arg-type]  # a union of types
    counted = spec.candidates if isinstance(spec, Choice) and spec.retrain else ()
    subject = subject_of(spec)
    return work(spec, {key: read_spec(runs, key) for key in (subject, *counted) if key is not None})
