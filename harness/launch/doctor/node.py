"""What is looked at on one machine: on this one, or by a small task on every node of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness.config.finding import Finding
from harness.launch.doctor import gpus
from harness.launch.doctor.checks import Check, examine
from harness.launch.doctor.limits import memory, open_files, shared_memory
from harness.launch.doctor.storage import Meeting, keeps, visit

STORAGE_REMEDY = "see whether the storage behind it answers: `stat` its folder"
DRIVER_REMEDY = "see whether `nvidia-smi` answers"


@dataclass(frozen=True, kw_only=True)
class Question:
    """machine: what the profile is reckoned on; scratch: a folder of the node's own, where one is named."""

    machine: str
    scratch: Path | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Of one node: its versions, and what was found there."""

    versions: dict[str, str]
    findings: list[Finding]


def on_node(question: Question, meetings: list[Meeting], node: str, visitor: str) -> Answer:
    """The task of a cluster's node."""
    from harness.launch.nodes import versions  # noqa: PLC0415  # Ray, which a machine alone does not need for this

    seconds = question.seconds
    shared = [Check(one.name, partial(visit, one, visitor), STORAGE_REMEDY, seconds) for one in meetings]
    found = examine([*shared, *own_checks(question, cluster=True)])
    return Answer(versions=versions(), findings=[replace(one, node=node) for one in found])


def own_checks(question: Question, cluster: bool) -> list[Check]:
    """What a machine is, whatever it shares."""
    seconds, scratch = question.seconds, question.scratch
    checks = [
        Check("open files", partial(open_files, cluster), "`ulimit -n` says it too", seconds),
        Check("shared memory", shared_memory, "see whether `df /dev/shm` answers", seconds),
        Check("memory", memory, "`free` says it too", seconds),
        Check("gpus", lambda: gpus.gpus(question.machine, gpus.see()), DRIVER_REMEDY, seconds),
    ]
    if scratch is not None:
        checks.append(Check("HARNESS_SCRATCH", partial(keeps, "HARNESS_SCRATCH", scratch), STORAGE_REMEDY, seconds))
    return checks
