"""Visits to the nodes of a real Ray on this machine, and what is said where they find fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
from ray.cluster_utils import Cluster

from harness.config.durable import write_json
from harness.config.finding import Finding
from harness.launch.doctor import visits
from harness.launch.doctor.node import Answer, Question, on_node
from harness.launch.doctor.nodes import visited
from harness.launch.doctor.storage import answer, meeting
from harness.launch.nodes import versions
from harness.launch.site import Site

OWN = ["open files", "shared memory", "memory", "gpus"]
QUESTION = Question(machine="cpu", scratch=None, seconds=60.0)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a Ray of this module's own, with a head that trains nothing and a node, as its drivers find it."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


@pytest.mark.ray
def test_every_node_is_looked_at(address: str, tmp_path: Path) -> None:
    """A task there sees the folders, the limits and the versions, and nothing is left of it."""
    here = Site(home=tmp_path / "home", data=tmp_path / "data", tracking_uri="", ray_address=address)
    cluster = visited(here, tmp_path / "scratch", "cpu")
    told = {one.name: one for one in cluster.findings}
    on_nodes = ["HARNESS_HOME", "HARNESS_DATA", *OWN, "HARNESS_SCRATCH", "versions"]
    assert list(told) == ["ray", *on_nodes]
    assert {one.state for one in cluster.findings} <= {"ok", "warn"}, cluster.findings
    assert f" at {address}: 2 nodes, 1 CPU, " in told["ray"].found
    for name in on_nodes:
        seen = [one.node for one in cluster.findings if one.name == name]
        assert len(seen) == len(set(seen)) == 2, "each has a name of its own"
    assert sorted(one.get("CPU", 0) for one in cluster.resources) == [0, 1]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_here(tmp_path: Path) -> None:
    """Is said once, of this machine; the nodes are asked about the rest."""
    (tmp_path / "file").write_text("")
    entered = visits.begin(meeting("HARNESS_HOME", tmp_path / "file").__enter__)
    found = visits._opened("HARNESS_HOME", tmp_path, entered)
    assert isinstance(found, Finding)
    assert (found.state, "cannot be written (Not a directory)" in found.found) == ("fail", True)


def test_answers_that_do_not_come_back(tmp_path: Path) -> None:
    """A node that wrote what is not read here, and two that both were first: storage that is shared by halves."""
    nodes = {"one": "1", "two": "2", "three": "3"}
    with meeting("HARNESS_HOME", tmp_path) as place:
        answers = {name: on_node(replace(QUESTION), [place], name, number) for name, number in nodes.items()}
        assert list(visits._met(place, answers, nodes)) == []
        answer(place, "3").unlink()
        write_json(answer(place, "2"), {"word": place.word, "first": True})
        lost, twice = visits._met(place, answers, nodes)
    assert (lost.node, lost.state, "is not read here" in lost.found) == ("three", "fail", True)
    assert (twice.state, "one, two each created the same file" in twice.found) == ("fail", True)


def test_versions_must_be_alike() -> None:
    """Another Torch would make other numbers, another Ray talk to ours in vain: each is named with both."""
    ours = versions()
    assert ours["torch"]
    assert visits._alike(ours, ours, "node").state == "ok"
    found = visits._alike(ours, {**ours, "torch": "2.0", "ray": "1.0"}, "node")
    assert (found.state, found.node) == ("fail", "node")
    assert f"torch 2.0, here {ours['torch']}; ray 1.0, here {ours['ray']}" in found.found


def node(host: str, number: str, alive: bool = True) -> dict[str, Any]:
    """As Ray tells of one."""
    return {"NodeManagerHostname": host, "NodeID": number, "Alive": alive, "Resources": {"CPU": 8.0} if alive else {}}


def test_nodes_have_names_of_their_own() -> None:
    """The host's, and part of the id where a host has several."""
    assert visits._named([node("a", "0123456789"), node("b", "1"), node("b", "2")]) == {
        "a": "0123456789",
        "b-1": "1",
        "b-2": "2",
    }


def test_a_machine_that_left_is_named() -> None:
    """Not one that has come back."""
    found = visits._cluster("head:6379", [node("a", "1"), node("a", "0", False), node("b", "2", False)])
    assert (found.state, found.found.endswith("1 node, 8 CPU, 0 GPU; gone: b")) == ("warn", True)
    assert visits._cluster("head:6379", [node("a", "1"), node("a", "0", False)]).state == "ok"


def test_what_is_said_of_one_thing_stands_together() -> None:
    """In the order in which things are first spoken of."""
    told = [replace(found, node=name) for name in "ab" for found in (visits.ok("memory", ""), visits.ok("gpus", ""))]
    assert [(one.name, one.node) for one in visits._by_name(told)] == [
        ("memory", "a"),
        ("memory", "b"),
        ("gpus", "a"),
        ("gpus", "b"),
    ]


def test_one_answer_has_all_of_a_node(tmp_path: Path) -> None:
    """Its name stands on each finding; a scratch folder is looked at where one is named."""
    told = on_node(replace(QUESTION, scratch=tmp_path), [], "node-7", "7")
    assert isinstance(told, Answer)
    assert [one.name for one in told.findings] == [*OWN, "HARNESS_SCRATCH"]
    assert {one.node for one in told.findings} == {"node-7"}
    assert list(tmp_path.iterdir()) == []
