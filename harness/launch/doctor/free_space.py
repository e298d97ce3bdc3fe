"""Whether what the plan takes has room in HARNESS_HOME and HARNESS_DATA."""

from __future__ import annotations

import os
from pathlib import Path

from harness.config.finding import Finding, fail, ok, warn
from harness.launch.budget import disk
from harness.launch.doctor.storage import standing
from harness.launch.plan import Plan
from harness.launch.site import Site

FILES = 20  # of a run: it leaves up to 8, and features of one encoder some dozens
SPARE_BYTES = 10**9  # beyond the runs: MLflow's database, logs, tables
RUNS_REMEDY = "free some, `harness gc --dry-run` says what no table needs; or name another folder with HARNESS_HOME"
DATA_REMEDY = "free some, or name another folder with HARNESS_DATA"


def free_space(plan: Plan, here: Site) -> list[Finding]:
    """One finding a file system."""
    home, data = standing(here.home), standing(here.data)
    found = [_for_runs(plan, home)]
    if os.stat(home).st_dev != os.stat(data).st_dev:
        found.append(_for_data(data))
    return found


def _for_runs(plan: Plan, folder: Path) -> Finding:
    """The plan counts what each run takes while it goes, checkpoints included: all at once is more than ever is."""
    free, files = _free(folder)
    needed = disk(plan.missing)
    largest = max((run.cost.disk_bytes for run in plan.missing), default=0)
    count = len(plan.missing)
    found = f"HARNESS_HOME has {_gb(free)} free; {count} runs take at most {_gb(needed)}, the largest {_gb(largest)}"
    if files is not None and files < FILES * count:
        return fail("disk", f"{found}; only {files} more files can be made, of {FILES * count}", RUNS_REMEDY)
    if free < largest + SPARE_BYTES:
        return fail("disk", found, RUNS_REMEDY)
    if free < needed + SPARE_BYTES:
        return warn("disk", found, RUNS_REMEDY)
    return ok("disk", found)


def _for_data(folder: Path) -> Finding:
    """How much a dataset takes is its owner's; `harness prepare` asks for it before it writes."""
    free, files = _free(folder)
    found = f"HARNESS_DATA has {_gb(free)} free"
    if free < SPARE_BYTES or files == 0:
        return warn("disk", found, DATA_REMEDY)
    return ok("disk", found)


def _free(folder: Path) -> tuple[int, int | None]:
    """Bytes, and files; None of these where the file system does not count them."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize, room.f_favail if room.f_files else None


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
