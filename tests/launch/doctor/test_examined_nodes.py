"""Where runs will work: whether they fit, and a Ray that does not answer is said, not waited for."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.config.expand import Expansion
from harness.config.finding import Finding
from harness.launch.doctor import nodes
from harness.launch.doctor.nodes import alone, room, visited
from harness.launch.plan import Plan
from harness.launch.site import Site

IMPATIENT = "from harness.launch.doctor import visits; visits.CONNECT_SECONDS = 2; visits.main()"


@pytest.fixture
def here(tmp_path: Path) -> Site:
    """With nothing in it."""
    return Site(home=tmp_path / "home", data=tmp_path / "data", tracking_uri="")


@pytest.fixture
def plan(planned: Callable[..., Plan], two_cells: Expansion) -> Plan:
    """Five runs."""
    return planned(two_cells)


def test_runs_that_fit_and_runs_that_never_will(plan: Plan, here: Site) -> None:
    """By the same count as a sweep makes, which would refuse them too."""
    has = [{"CPU": 2.0}]
    assert (room(plan, here, has).state, room(plan, here, has).found) == ("ok", "every run fits: 1 x (1 CPU, 0 GPU)")
    found = room(plan, replace(here, threads=64), has)
    assert (found.state, found.remedy) == ("fail", "lower HARNESS_WORKERS or HARNESS_THREADS")
    assert "1 workers of 64 CPU each, but Ray's nodes have 2 CPU: room for 0" in found.found
    assert room(plan, here, [{"CPU": 8.0, "GPU": 4.0}]).found == "every run fits: 1 x (1 CPU, 0.25 GPU)"


def test_room_without_runs_or_nodes(plan: Plan, here: Site) -> None:
    """Nothing to run fits anywhere; where the nodes are not known, nothing can be promised."""
    assert room(replace(plan, runs=()), here, []).state == "ok"
    assert room(plan, here, []).state == "fail"


@pytest.mark.ray
def test_this_machine_alone() -> None:
    """What a local Ray would have."""
    cluster = alone()
    assert [one.state for one in cluster.findings] == ["ok"]
    assert cluster.resources[0]["CPU"] >= 1


@pytest.mark.ray
def test_an_address_where_nobody_listens(here: Site) -> None:
    """As a sweep says it, with what to do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        cluster = visited(replace(here, ray_address=address), None, "cpu")
    (found,) = cluster.findings
    assert (found.name, found.state, cluster.resources) == ("ray", "fail", [])
    assert f"RAY_ADDRESS={address}: no Ray answers there" in found.found
    assert "unset RAY_ADDRESS" in found.remedy


@pytest.mark.ray
def test_an_address_that_accepts_and_never_answers(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would wait for minutes, in C++: its process is ended. Two seconds stand for the thirty."""
    monkeypatch.setattr(nodes, "COMMAND", [sys.executable, "-c", IMPATIENT])
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        cluster = visited(replace(here, ray_address=f"127.0.0.1:{silent.getsockname()[1]}"), None, "cpu")
        assert time.monotonic() - began < 60
    (found,) = cluster.findings
    assert (found.state, "something listens there, but no Ray answers" in found.found) == ("fail", True)


def test_a_visit_that_breaks_is_an_error(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the last that it said, for the check to tell."""
    monkeypatch.setattr(nodes, "COMMAND", [sys.executable, "-c", "raise SystemExit('out of luck')"])
    with pytest.raises(Exception, match="the visit to the nodes ended with 1 and said: out of luck"):
        visited(replace(here, ray_address="head:6379"), None, "cpu")


def test_an_answer_is_read_back(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings come from the other process as they were."""
    finding = Finding(name="gpus", state="warn", found="none", remedy="a cluster", node="node-1")
    told = json.dumps({"resources": [{"CPU": 4.0}], "findings": [asdict(finding)]})
    monkeypatch.setattr(nodes, "COMMAND", [sys.executable, "-c", f"print({told!r})"])
    cluster = visited(replace(here, ray_address="head:6379"), None, "cpu")
    assert cluster.findings == [finding]
    assert cluster.resources == [{"CPU": 4.0}]
