"""What the system gives a process: real limits of this process, lowered, and a container's files."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.launch.doctor import limits
from harness.launch.doctor.limits import memory, open_files, shared_memory


@pytest.fixture
def soft() -> Iterator[Callable[[int], None]]:
    """Lower this process's soft limit; it is given back at the end."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda number: resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_open_files(soft: Callable[[int], None]) -> None:
    """1024, many a login's default, is enough here and little on a cluster; less is enough nowhere."""
    soft(1024)
    assert [open_files(cluster=False).state, open_files(cluster=True).state] == ["ok", "warn"]
    soft(512)
    assert [open_files(cluster=False).state, open_files(cluster=True).state] == ["fail", "fail"]
    assert open_files(cluster=True).found.startswith("512 open files a process")
    assert "ulimit -n 65536" in open_files(cluster=True).remedy


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are the system's; too little of it is a warning that says who needs it."""
    room = os.statvfs("/dev/shm")
    monkeypatch.setattr(limits, "SHARED_BYTES", 1)
    assert f"of {room.f_blocks * room.f_frsize / 1e9:.1f} GB free at /dev/shm" in shared_memory().found
    assert shared_memory().state == "ok"
    monkeypatch.setattr(limits, "SHARED_BYTES", room.f_blocks * room.f_frsize + 1)
    found = shared_memory()
    assert (found.state, "NCCL and Ray" in found.found, "--shm-size" in found.remedy) == ("warn", True, True)
    monkeypatch.setattr(limits, "SHARED", tmp_path / "nothing")
    assert "cannot be looked at (No such file or directory)" in shared_memory().found


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the machine has, no less than nothing, and a warning where it is too little."""
    monkeypatch.setattr(limits, "MEMORY_BYTES", 1)
    free = float(memory().found.split()[0])
    assert 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9 + 0.1
    assert memory().state == "ok"
    monkeypatch.setattr(limits, "MEMORY_BYTES", 10**15)
    assert memory().state == "warn"


def test_the_memory_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limit counts, less what is held, of which the file cache gives way; `max` is none."""
    monkeypatch.setattr(limits, "CGROUP", tmp_path)
    own = tmp_path / Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    own.mkdir(parents=True, exist_ok=True)
    (own / "memory.max").write_text("max\n")
    assert "0.1 GB" not in memory().found
    (own / "memory.max").write_text("1000000000\n")
    (own / "memory.current").write_text("950000000\n")
    (own / "memory.stat").write_text("anon 900000000\ninactive_file 50000000\n")
    assert (memory().state, memory().found) == ("warn", "0.1 GB of memory are free; Ray and two runs take 4")
