"""All that is looked at without MLflow, in the order in which it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from harness.config.finding import Finding, ok, warn
from harness.launch.doctor.checkout import checkout
from harness.launch.doctor.checks import SECONDS, Check, begin
from harness.launch.doctor.datasets import datasets
from harness.launch.doctor.free_space import free_space
from harness.launch.doctor.node import STORAGE_REMEDY, Question, own_checks
from harness.launch.doctor.nodes import SECONDS as VISITS_SECONDS
from harness.launch.doctor.nodes import Cluster, alone, room, visited
from harness.launch.doctor.packages import SETUP, decoder, packages, python_version
from harness.launch.doctor.storage import keeps
from harness.launch.plan import Plan
from harness.launch.site import Site


def examination(plan: Future[Plan], machine: str, counted: Collection[str], here: Site) -> list[Check]:
    """`machine` is what the profile is reckoned on, `counted` are datasets that a table counts."""
    scratch = Path(here.scratch) if here.scratch else None
    question = Question(machine=machine, scratch=scratch, seconds=SECONDS)
    return [
        Check("python", python_version, SETUP),
        Check("packages", packages, SETUP),
        Check("images", decoder, SETUP),
        Check("checkout", checkout, "see whether `git status` answers"),
        *_machines(question, plan, here),
        Check("runs", lambda: _runs(plan.result()), STORAGE_REMEDY),
        Check("disk", lambda: free_space(plan.result(), here), STORAGE_REMEDY),
        Check("datasets", lambda: datasets(plan.result(), counted, here), STORAGE_REMEDY),
    ]


def _machines(question: Question, plan: Future[Plan], here: Site) -> list[Check]:
    """Here where a sweep would start a Ray of its own, else on every node."""
    told = "see whether Ray is well there: `ray status`"
    if here.ray_address in (None, "local"):
        folders = {"HARNESS_HOME": here.home, "HARNESS_DATA": here.data}
        stored = [Check(name, partial(keeps, name, folder), STORAGE_REMEDY) for name, folder in folders.items()]
        found: Future[Cluster] = begin(alone)
        first = [*stored, *own_checks(question, cluster=False), Check("ray", lambda: found.result().findings, SETUP)]
        seconds = SECONDS
    else:
        seconds = VISITS_SECONDS + SECONDS
        found = begin(lambda: visited(here, question.scratch, question.machine))
        first = [Check("ray", lambda: found.result().findings, told, seconds)]
    return [*first, Check("room", lambda: room(plan.result(), here, found.result().resources), told, seconds)]


def _runs(plan: Plan) -> Finding:
    """How many there are of each state."""
    states = Counter(run.status for run in plan.runs)
    found = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none are asked for"
    if states["unreadable"]:
        return warn("runs", found, "`harness status` names the unreadable ones; delete their folders to run them again")
    return ok("runs", found)
