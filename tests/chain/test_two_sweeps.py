"""Two sweeps of one table share its runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from checkout import Checkout

from harness.tracking.record import Runs
from harness.tracking.spool import Spool

pytestmark = [pytest.mark.chain, pytest.mark.ray]
COMMAND = ("run", "table5b", "--seeds", "1")
EPOCHS = 20  # about 200 updates, seconds in which something can happen


def test_two_sweeps_at_once(tmp_path: Path) -> None:
    """Started together they share the work: every key is trained once, both end well and print the same table."""
    checkout = Checkout(tmp_path, EPOCHS)
    checkout.harness("prepare", "digits")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(**checkout.command(*COMMAND), **pipes) for _ in range(2)]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    tables = [out[out.index("**Table 5b.**") : out.index("written:")] for out, _ in said]
    assert tables[0] == tables[1]
    runs = Runs(checkout.home / "runs")
    for key in runs.keys():  # noqa: SIM118  # Runs is no mapping
        record = runs.read(key)
        assert record is not None
        assert record.state == "done"
        assert Spool(runs.folder(key) / "spool.jsonl").history()[1] == 0, "somebody began this run a second time"
