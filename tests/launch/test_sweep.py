"""A sweep with runs that cannot end: they fail with their reasons, and hold nothing else up."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.expand import Expansion
from harness.launch.plan import Plan, subject_of
from harness.launch.site import Site
from harness.tracking.lease import read_owner
from harness.tracking.record import Runs

pytest.importorskip("ray.tune")
from harness.launch import attempts
from harness.launch.sweep import sweep

pytestmark = pytest.mark.ray


class Killer(threading.Thread):
    """Kill -9 of every process that begins one run: to the sweep, the run does it to itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder, self.over, self.killed = folder, threading.Event(), set[int]()

    def run(self) -> None:
        while not self.over.wait(0.05):
            owner = read_owner(self._folder / "lease.json")
            begun = (self._folder / "record.json").exists()
            if begun and owner is not None and owner.pid not in (*self.killed, os.getpid()):
                self.killed.add(owner.pid)
                os.kill(owner.pid, signal.SIGKILL)


def lines(folder: Path) -> list[dict[str, object]]:
    """Of the attempts at a run."""
    return [json.loads(line) for line in (folder / "attempts.jsonl").read_text().splitlines()]


def test_runs_that_cannot_end(
    tmp_path: Path,
    data: Path,
    runs: Runs,
    planned: Callable[..., Plan],
    two_cells: Expansion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One kills its worker each time, one raises each time; the third run is done, and the sweep ends."""
    monkeypatch.setattr(attempts, "LOST_RETRIES", 1)
    monkeypatch.setattr(attempts, "OWN_RETRIES", 1)
    plan = planned(two_cells)
    poison, raising = (run for run in plan.runs if run.kind == "pretrain")
    runs.folder(raising.key).mkdir(parents=True)
    (runs.folder(raising.key) / "spool.jsonl").mkdir()  # where a file should be
    site, said = Site(home=tmp_path, data=data, tracking_uri=""), list[str]()
    killer = Killer(runs.folder(poison.key))
    killer.start()
    outcome = sweep(plan, site, said.append)
    killer.over.set()

    assert {run.key for run in outcome.failed} == {poison.key, raising.key}
    assert {subject_of(run.spec) for run in outcome.skipped} == {poison.key, raising.key}
    (untrained,) = (run for run in plan.runs if run not in (*outcome.failed, *outcome.skipped))
    states = {key: (record and record.state) for key in runs.keys() for record in [runs.read(key)]}  # noqa: SIM118
    assert states == {untrained.key: "done", poison.key: "failed", raising.key: "failed"}
    assert len(killer.killed) == 2
    died, raised = lines(runs.folder(poison.key)), lines(runs.folder(raising.key))
    assert [line["fault"] for line in (*died, *raised)] == ["node or worker"] * 2 + ["run"] * 2
    assert "its process died" in outcome.reasons[poison.key]
    assert "IsADirectoryError" in outcome.reasons[raising.key]
    assert all("(attempt 2; all in attempts.jsonl)" in reason for reason in outcome.reasons.values())
    record = runs.read(poison.key)
    assert record is not None
    assert record.error == outcome.reasons[poison.key]
    assert time.time() - float(str(died[0]["time_unix_s"])) < 1000
    assert not list((tmp_path / "ray").iterdir()), "nothing of Ray's is left"
