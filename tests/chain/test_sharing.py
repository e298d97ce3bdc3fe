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


@pytest.mark.parametrize(("share", "together"), [("", True), ("1", False)])
def test_small_runs_share_a_gpu(tmp_path: Path, share: str, together: bool) -> None:
    """The laptop's runs are small: there are always others beside them, unless each is to have the GPU for itself."""
    checkout = Checkout(tmp_path, EPOCHS)
    variables = {"RAY_OVERRIDE_RESOURCES": ONE_GPU, "HARNESS_GPU_SHARE": share}
    ended = checkout.harness("run", "table5b", "--seeds", "1", **variables)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    records = _records(checkout)
    assert {record.kind for record in records} == {"pretrain", "linear"}
    assert all((record.state, record.environment["world"]) == ("done", 1) for record in records)
    beside = [second.started_unix_s < (first.ended_unix_s or 0.0) for first, second in pairwise(records)]
    assert any(beside) == together


def _records(checkout: Checkout) -> list[Record]:
    """Of all runs, as they began."""
    runs = Runs(checkout.home / "runs")
    records = [runs.read(key) for key in runs.keys()]  # noqa: SIM118  # Runs is no mapping
    found = [record for record in records if record is not None]
    assert len(found) == 5
    return sorted(found, key=lambda record: record.started_unix_s)
