"""The batch scripts under a SLURM of the test's own, whose nodes are real processes here."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkout import CELLS, CHECKOUT, Checkout
from slurm import Slurm, end_all_with, processes_with

from harness.tracking.spool import Spool

SCRIPT = "shared.sbatch"


def until(happens: Callable[[], object], job: subprocess.Popen[str], seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not happens():
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < ends, "it never happened"
        time.sleep(0.05)


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    """Two nodes. What a failed test leaves is ended."""
    yield Slurm(tmp_path / "slurm")
    end_all_with(str(tmp_path / "slurm"))


def environment(home: Path) -> dict[str, str]:
    """Of whoever submits."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HARNESS_", "RAY_", "SLURM_"))}
    return kept | {"HARNESS_HOME": str(home), "PYTHONPATH": str(CHECKOUT)}


@pytest.mark.chain
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_two_nodes_stopped_and_requeued_to_a_finished_table(slurm: Slurm, tmp_path: Path) -> None:
    """SIGTERM in the middle, as a time limit sends it, puts the job back into the queue and leaves nothing running;
    begun again it ends with the table, both nodes having worked on it.
    """
    checkout = Checkout(tmp_path, epochs=6)
    (checkout.root / "cluster").symlink_to(CHECKOUT / "cluster")
    (checkout.root / ".venv").symlink_to(sys.prefix)
    told = {"job": 31_000 + os.getpid(), "root": checkout.root, **environment(checkout.home)}
    logs = checkout.home / "slurm" / str(told["job"])

    def begun() -> list[Path]:
        return [path for path in checkout.home.glob("runs/*/spool.jsonl") if path.stat().st_size]

    first = slurm.sbatch(SCRIPT, "table5b", "SEEDS=1", **told)
    until(begun, first)
    assert (logs / "token").stat().st_mode & 0o077 == 0, "others on the nodes may not read it"
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=120)
    log = (logs / "job.log").read_text()
    assert said == f"slurm: job {told['job']} on node[0-1]; logs in {logs}\n"
    assert slurm.asked == [f"requeue {told['job']}"], log
    assert first.returncode == 143, log
    assert not processes_with(str(tmp_path / "slurm")), "nothing is left"
    assert not list(Path("/tmp").glob(f"ray-{told['job']}-*"))
    before = len(list(checkout.home.glob("runs/*/record.json")))

    second = slurm.sbatch(SCRIPT, "table5b", "SEEDS=1", **told)
    second.communicate(timeout=400)
    log = (logs / "job.log").read_text()
    assert second.returncode == 0, log
    assert slurm.asked == [f"requeue {told['job']}"], "finished, it does not come back"
    assert log.count("Ray on 2 of 2 nodes: node0, node1") == 2, log
    with (checkout.root / "tables" / "built" / "laptop" / "table5b.csv").open() as file:
        rows = {row["cell"]: row for row in csv.DictReader(file) if row["cell"] in CELLS}
    assert {row["status"] for row in rows.values()} == {"complete"}
    assert 0 < before <= 5
    for path in checkout.home.glob("runs/*/spool.jsonl"):
        steps = [point.step for point in Spool(path).read()]
        assert steps == sorted(set(steps)), "each update is told once, over both jobs"
    assert not processes_with(str(tmp_path / "slurm"))
    assert not (logs / "token").exists()
