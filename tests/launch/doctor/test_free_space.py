"""Free space against the plan: plans that take more than this very file system has."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.config.expand import Expansion
from harness.launch.doctor import free_space as subject
from harness.launch.doctor.free_space import free_space
from harness.launch.plan import Plan
from harness.launch.site import Site


@pytest.fixture
def here(tmp_path: Path) -> Site:
    """Folders that are yet to be made."""
    return Site(home=tmp_path / "home", data=tmp_path / "home" / "data", tracking_uri="")


@pytest.fixture
def plan(planned: Callable[..., Plan], two_cells: Expansion) -> Plan:
    """Five runs."""
    return planned(two_cells)


def of_size(plan: Plan, each: float) -> Plan:
    """The same runs, which take so many bytes each."""
    return replace(plan, runs=tuple(replace(run, cost=replace(run.cost, disk_bytes=int(each))) for run in plan.runs))


def test_room_for_all_for_one_and_for_none(plan: Plan, here: Site, tmp_path: Path) -> None:
    """All runs together are more than ever lie there at once, so that is a warning; one must fit."""
    room = os.statvfs(tmp_path)
    free = room.f_bavail * room.f_frsize
    assert [one.state for one in free_space(plan, here)] == ["ok"], "one file system, one line"
    assert [one.state for one in free_space(of_size(plan, free / 4), here)] == ["warn"]
    (found,) = free_space(of_size(plan, free), here)
    assert (found.state, "`harness gc --dry-run`" in found.remedy) == ("fail", True)
    assert "5 runs take at most" in found.found


def test_nothing_left_to_run(plan: Plan, here: Site) -> None:
    """Takes nothing."""
    (found,) = free_space(replace(plan, runs=()), here)
    assert (found.state, "0 runs take at most 0 GB" in found.found) == ("ok", True)


def test_too_few_files(plan: Plan, here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system may be out of inodes long before it is out of bytes; some count none."""
    room = {"f_bavail": 10**9, "f_frsize": 4096, "f_favail": 99, "f_files": 1000}
    monkeypatch.setattr(subject.os, "statvfs", lambda _: SimpleNamespace(**room))
    (found,) = free_space(plan, here)
    assert (found.state, "only 99 more files can be made, of 100" in found.found) == ("fail", True)
    room |= {"f_favail": 0, "f_files": 0}
    assert [one.state for one in free_space(plan, here)] == ["ok"]


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="has no other file system")
def test_data_on_storage_of_its_own(plan: Plan, here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a line of its own, and a warning where nothing more would fit."""
    apart = replace(here, data=Path("/dev/shm/no-such-data"))
    assert [one.found.split()[0] for one in free_space(plan, apart)] == ["HARNESS_HOME", "HARNESS_DATA"]
    monkeypatch.setattr(subject, "SPARE_BYTES", 10**18)
    assert [one.state for one in free_space(replace(plan, runs=()), apart)] == ["fail", "warn"]
