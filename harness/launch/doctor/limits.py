"""What the system gives a process on one machine: open files, shared memory, memory."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from harness.config.finding import Finding, fail, ok, warn

FEWEST_FILES = 1024  # a run alone opens hundreds: libraries, data, sockets of Ray
CLUSTER_FILES = 65536  # Ray's own advice for its nodes: every process of the cluster is a connection
SHARED_BYTES = 2 * 10**9  # NCCL's buffers between the GPUs of a node lie there, and Ray's object store
MEMORY_BYTES = 4 * 10**9  # Ray takes 0.6 GB, and each run that goes at once up to 0.9
SHARED = Path("/dev/shm")  # noqa: S108  # only looked at
CGROUP = Path("/sys/fs/cgroup")


def open_files(cluster: bool) -> Finding:
    """How many a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    remedy = "`ulimit -n 65536` before Ray starts; in a container --ulimit nofile=65536"
    found = f"{_count(soft)} open files a process, at most {_count(hard)}"
    if soft == resource.RLIM_INFINITY or soft >= CLUSTER_FILES:
        return ok("open files", found)
    if soft < FEWEST_FILES:
        return fail("open files", f"{found}; a run needs {FEWEST_FILES}", remedy)
    if cluster:
        return warn("open files", f"{found}; each process of a cluster is a connection", remedy)
    return ok("open files", found)


def shared_memory() -> Finding:
    """The room in /dev/shm, which is 64 MB in a container that was not given more."""
    try:
        room = os.statvfs(SHARED)
    except OSError as error:
        return warn("shared memory", f"{SHARED} cannot be looked at ({error.strerror})", f"mount a tmpfs at {SHARED}")
    free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    found = f"{free / 1e9:.1f} of {size / 1e9:.1f} GB free at {SHARED}"
    if free < SHARED_BYTES:
        why = f"{found}; NCCL and Ray keep buffers there"
        return warn("shared memory", why, f"{SHARED_BYTES / 1e9:g} GB: in a container --shm-size=8g")
    return ok("shared memory", found)


def memory() -> Finding:
    """What is available to this process, by the system and by the limit of its container."""
    bounds = [_available(), *_left_in_cgroup()]
    found = f"{min(bounds) / 1e9:.1f} GB of memory are free"
    if min(bounds) < MEMORY_BYTES:
        remedy = "end what else runs there, or give the container more memory"
        return warn("memory", f"{found}; Ray and two runs take {MEMORY_BYTES / 1e9:g}", remedy)
    return ok("memory", found)


def _available() -> int:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def _left_in_cgroup() -> list[int]:
    """Of every limit that a container or a batch system has put around this process; file cache gives way."""
    own = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    left = []
    for folder in (CGROUP / own, *(CGROUP / own).parents):
        limit = folder / "memory.max"
        if folder.is_relative_to(CGROUP) and limit.exists() and (most := limit.read_text().strip()) != "max":
            held = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            used = int((folder / "memory.current").read_text()) - int(held["inactive_file"])
            left.append(max(0, int(most) - used))
    return left


def _count(number: int) -> str:
    return "unlimited" if number == resource.RLIM_INFINITY else str(number)
