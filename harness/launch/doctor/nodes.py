"""The machines that runs will work on: this one, or those of the Ray at RAY_ADDRESS."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.config.errors import ConfigError
from harness.config.finding import Finding, fail, ok
from harness.data.threads import cores
from harness.launch.doctor.packages import SETUP
from harness.launch.plan import Plan
from harness.launch.room import check_fits
from harness.launch.share import demands
from harness.launch.site import Site

COMMAND = [sys.executable, "-m", "harness.launch.doctor.visits"]
SECONDS = 180.0  # more than all limits of the visits together

Resources = list[dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What each node has, as Ray counts it; nothing where it cannot be reached. And what was found there."""

    resources: Resources
    findings: list[Finding]


def visited(here: Site, scratch: Path | None, machine: str) -> Cluster:
    """By another process, which may be lost in a Ray that accepts and never answers."""
    folders = {"HARNESS_HOME": str(here.home), "HARNESS_DATA": str(here.data)}
    told = scratch and str(scratch)
    question = {"address": here.ray_address, "folders": folders, "scratch": told, "machine": machine}
    ran = subprocess.run(
        COMMAND, input=json.dumps(question), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if ran.returncode == -signal.SIGALRM:
        found = f"RAY_ADDRESS={here.ray_address}: something listens there, but no Ray answers"
        return Cluster(resources=[], findings=[fail("ray", found, "see whether Ray's head node is well")])
    if ran.returncode:
        said = (ran.stderr.strip() or "nothing").splitlines()[-1]
        raise ConfigError(f"the visit to the nodes ended with {ran.returncode} and said: {said}")
    answer = json.loads(ran.stdout)
    return Cluster(resources=answer["resources"], findings=[Finding(**one) for one in answer["findings"]])


def alone() -> Cluster:
    """This machine, where a sweep starts a Ray of its own."""
    import torch  # noqa: PLC0415  # seconds

    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return Cluster(resources=[], findings=[fail("ray", "Ray is not installed", SETUP)])
    has = {"CPU": float(cores()), "GPU": float(torch.cuda.device_count())}
    found = f"Ray {version}; a sweep starts one of its own here, with {has['CPU']:g} CPU and {has['GPU']:g} GPU"
    return Cluster(resources=[has], findings=[ok("ray", found)])


def room(plan: Plan, here: Site, resources: Resources) -> Finding:
    """Whether every run that is left fits on some node."""
    if not plan.missing:
        return ok("room", "nothing is left to run")
    if not resources:
        return fail("room", "what the nodes have is not known", "see what is said of ray")
    asked = set(demands(plan, here, gpus=sum(int(node.get("GPU", 0)) for node in resources)).values())
    try:
        check_fits(resources, asked)
    except ConfigError as error:
        found, _, remedy = str(error).rpartition("; ")
        return fail("room", found, remedy)
    each = " or ".join(sorted(f"{one.workers} x ({one.cpus:g} CPU, {one.gpu:g} GPU)" for one in asked))
    return ok("room", f"every run fits: {each}")
