"""Several runs on one GPU, from the command line. Ray is told of a GPU; Torch finds none and takes the CPU."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from checkout import Checkout

from harness.tracking.record import Record, Runs

pytestmark = [pytest.mark.chain, pytest.mark.ray]
EPOCHS = 20  # some 200 updates: longer than it takes to start another process
ONE_GPU = '{"GPU": 1}'


def test_small_runs_share_a_gpu(tmp_path: Path) -> None:
    """The laptop's runs are small: there are others beside them. How shares count: tests/launch/test_packing.py."""
    checkout = Checkout(tmp_path, EPOCHS)
    ended = checkout.harness("run", "table5b", "--seeds", "1", RAY_OVERRIDE_RESOURCES=ONE_GPU)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    records = _records(checkout)
    assert {record.kind for record in records} == {"pretrain", "linear"}
    assert all((record.state, record.environment["world"]) == ("done", 1) for record in records)
    assert any(second.started_unix_s < (first.ended_unix_s or 0.0) for first, second in pairwise(records))


def _records(checkout: Checkout) -> list[Record]:
    """Of all runs, as they began."""
    runs = Runs(checkout.home / "runs")
    records = [runs.read(key) for key in runs.keys()]  # noqa: SIM118  # Runs is no mapping
    found = [record for record in records if record is not None]
    assert len(found) == 5
    return sorted(found, key=lambda record: record.started_unix_s)
