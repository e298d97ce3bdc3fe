"""The nodes of a cluster: which live, and whether they run what the driver runs."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import harness
from harness.config.errors import ConfigError
from harness.launch.head import answers

# Whose versions move numbers, or do not talk to each other. FFCV may be missing: torchvision makes the same views.
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "safetensors", "ray")
ASK_SECONDS = 120.0  # a node that has never run anything unpacks the code and starts a process first
DEATH_SECONDS = 30.0  # until Ray has noticed that a node was killed


def living() -> dict[str, dict[str, float]]:
    """The resources of each, by Ray's id of it: no node that comes later has the same."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def anchor() -> Callable[[], bool]:
    """Asks whether what this process hangs on is there: Ray's head, and its own node, without which no trial starts."""
    here = ray.get_runtime_context()
    head, own = here.gcs_address, here.get_node_id()

    def there() -> bool:
        try:
            return answers(head) and own in living()
        except (RayError, RuntimeError):  # it has died since it answered
            return False

    return there


def shipped() -> dict[str, object]:
    """The part of a runtime environment that has the nodes import this process's own code."""
    return {"py_modules": [str(Path(harness.__file__).parent)]}


def versions() -> dict[str, str]:
    """Of this process."""
    return {"Python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def check_alike() -> None:
    """ConfigError for a node that has other versions than this process, or cannot import the code."""
    ask, here = ray.remote(num_cpus=0)(versions), versions()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [ask.options(scheduling_strategy=_on(node)).remote() for node in nodes]
    for node, answer in zip(nodes, asked, strict=True):
        name = node["NodeManagerHostname"]
        try:
            there = ray.get(answer, timeout=ASK_SECONDS)
        except GetTimeoutError:
            remedy = "take it out of the cluster, or restart it"
            raise ConfigError(f"node {name} did not answer within {ASK_SECONDS:g} s; {remedy}") from None
        except RayError as error:
            if not isinstance(error, RayTaskError) and _dies(node["NodeID"]):
                continue
            reason = str(error).strip().splitlines()[-1]
            raise ConfigError(f"node {name} cannot run the harness ({reason}); set it up as this machine") from None
        different = [f"{what} {there[what]}, not {mine}" for what, mine in here.items() if there[what] != mine]
        if different:
            remedy = "set it up from the same requirements.lock"
            raise ConfigError(f"node {name} has {' and '.join(different)} as here; {remedy}")


def _dies(node: str) -> bool:
    """Whether it was dead all along: Ray counts a node that has just been killed among the living for a while."""
    ends = time.monotonic() + DEATH_SECONDS
    while node in living():
        if time.monotonic() > ends:
            return False
        time.sleep(1)
    return True


def _on(node: dict[str, str]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
