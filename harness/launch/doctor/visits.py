"""The doctor's visit to every node of a running Ray, in a process of its own: `python -m harness.launch.doctor.visits`.

A Ray that accepts and never answers holds its caller in C++ for minutes; a process can be ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.config.errors import ConfigError
from harness.config.finding import Finding, fail, ok, warn
from harness.launch.cluster import joined  # sets what Ray reads at import
from harness.launch.doctor.checks import begin
from harness.launch.doctor.node import STORAGE_REMEDY, Answer, Question, on_node
from harness.launch.doctor.storage import Meeting, answer, meeting, unwritable
from harness.launch.nodes import versions

# isort: split
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

CONNECT_SECONDS = 30
STORAGE_SECONDS = 15.0
CHECK_SECONDS = 60.0  # one of them imports Torch, perhaps from shared storage
NODE_SECONDS = 90.0  # a worker starts, and makes its checks
ADDRESS_REMEDY = "start one, or unset RAY_ADDRESS for a local one; `ray status` says more where it runs"


def main() -> None:
    """From a question on stdin to the answer on stdout, where nobody else writes."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asked = json.load(sys.stdin)
    folders = {name: Path(folder) for name, folder in asked["folders"].items()}
    scratch = Path(asked["scratch"]) if asked["scratch"] else None
    question = Question(machine=asked["machine"], scratch=scratch, seconds=CHECK_SECONDS)
    resources: list[dict[str, float]] = []
    findings: list[Finding] = []
    signal.alarm(CONNECT_SECONDS)  # ends this process
    try:
        with joined(asked["address"]):
            signal.alarm(0)
            nodes = ray.nodes()
            resources = [node["Resources"] for node in nodes if node["Alive"]]
            findings.append(_cluster(asked["address"], nodes))
            findings += _by_name(_visited(_named([node for node in nodes if node["Alive"]]), question, folders))
    except ConfigError as error:
        found, _, remedy = str(error).partition("; ")
        findings.append(fail("ray", found, remedy or ADDRESS_REMEDY))
    json.dump({"resources": resources, "findings": [asdict(one) for one in findings]}, out)
    out.close()


def _cluster(address: str, nodes: list[dict[str, Any]]) -> Finding:
    """How much there is of it, and which machines have left it."""
    alive = [node for node in nodes if node["Alive"]]
    has = {name: sum(node["Resources"].get(name, 0) for node in alive) for name in ("CPU", "GPU")}
    count = f"{len(alive)} node{'s' * (len(alive) != 1)}"
    found = f"Ray {ray.__version__} at {address}: {count}, {has['CPU']:g} CPU, {has['GPU']:g} GPU"
    gone = {node["NodeManagerHostname"] for node in nodes} - {node["NodeManagerHostname"] for node in alive}
    if gone:
        return warn("ray", f"{found}; gone: {', '.join(sorted(gone))}", "start them again, or go on without them")
    return ok("ray", found)


def _named(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """The id of each node by its host, told apart where a host has several."""
    hosts = Counter(node["NodeManagerHostname"] for node in nodes)
    return {
        (host if hosts[host := node["NodeManagerHostname"]] == 1 else f"{host}-{node['NodeID'][:6]}"): node["NodeID"]
        for node in nodes
    }


def _by_name(findings: Iterable[Finding]) -> list[Finding]:
    """What is said of one thing on several nodes, together."""
    told = list(findings)
    names = list(dict.fromkeys(one.name for one in told))
    return sorted(told, key=lambda one: names.index(one.name))


def _visited(nodes: dict[str, str], question: Question, folders: dict[str, Path]) -> Iterator[Finding]:
    with ExitStack() as places:
        opened = {name: begin(partial(places.enter_context, meeting(name, at))) for name, at in folders.items()}
        meetings: list[Meeting] = []
        for name, future in opened.items():
            found = _opened(name, folders[name], future)
            if isinstance(found, Meeting):
                meetings.append(found)
            else:
                yield found
        answers = yield from _answers(nodes, question, meetings)
        for place in meetings:
            yield from _met(place, answers, nodes)
    ours = versions()
    for node, one in answers.items():
        yield _alike(ours, one.versions, node)


def _opened(name: str, folder: Path, future: Future[Meeting]) -> Meeting | Finding:
    try:
        return future.result(STORAGE_SECONDS)
    except TimeoutError:
        return fail(name, f"{folder} did not answer here within {STORAGE_SECONDS:g} s", STORAGE_REMEDY)
    except OSError as error:
        return unwritable(name, folder, error)


def _answers(
    nodes: dict[str, str], question: Question, meetings: list[Meeting]
) -> Generator[Finding, None, dict[str, Answer]]:
    """Of every node that answers, by name; a finding for each that does not."""
    # A worker of its own, which ends with the task and gives its memory on the GPUs back.
    task = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(on_node)
    asked = {}
    for node, number in nodes.items():
        there = NodeAffinitySchedulingStrategy(number, soft=False)
        asked[task.options(scheduling_strategy=there).remote(question, meetings, node, number)] = node
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=NODE_SECONDS)
    answers: dict[str, Answer] = {}
    for reference in ready:
        node = asked[reference]
        try:
            answers[node] = ray.get(reference)
            yield from answers[node].findings
        except ray.exceptions.RayError as error:
            said = str(error).strip().splitlines()[-1]
            remedy = "set the node up as this machine: `make setup` there, or one .venv on shared storage"
            yield replace(fail("node", f"the check could not run there: {said}", remedy), node=node)
    for reference in late:
        ray.cancel(reference, force=True)
        found = f"did not answer within {NODE_SECONDS:g} s"
        yield replace(fail("node", found, "see what keeps it busy, and Ray's logs there"), node=asked[reference])
    return answers


def _met(place: Meeting, answers: dict[str, Answer], nodes: dict[str, str]) -> Iterator[Finding]:
    """What the nodes wrote must be read here, and one of them alone was the first."""
    firsts = []
    for node, one in answers.items():
        if any(found.name == place.name and found.state == "fail" for found in one.findings):
            continue  # said already
        path = answer(place, nodes[node])
        try:
            written = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            found = f"{place.folder}: what the node wrote there is not read here ({error})"
            yield replace(fail(place.name, found, f"mount the same storage at {place.folder} everywhere"), node=node)
            continue
        firsts += [node] * bool(written["first"])
    if len(firsts) > 1:
        found = f"{place.folder}: {', '.join(firsts)} each created the same file"
        yield fail(place.name, found, "mount it so that O_EXCL holds across nodes: two sweeps could train one run")


def _alike(ours: dict[str, str], theirs: dict[str, str], node: str) -> Finding:
    told = ", ".join(f"{name} {version}" for name, version in theirs.items())
    differing = [f"{name} {theirs[name]}, here {version}" for name, version in ours.items() if theirs[name] != version]
    if differing:
        remedy = "set every node up from the same requirements.lock, or share one .venv"
        return replace(fail("versions", f"other than on this machine: {'; '.join(differing)}", remedy), node=node)
    return replace(ok("versions", told), node=node)


if __name__ == "__main__":
    main()
