"""Runs in a folder of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.record import Record, Runs


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


@pytest.fixture(scope="session")
def record() -> Callable[..., Record]:
    """A finished pretraining, with whatever else a test says of it."""

    def make(key: str = "0" * 16, **changes: Any) -> Record:
        known: dict[str, Any] = {
            "key": key,
            "kind": "pretrain",
            "state": "done",
            "spec": {"kind": "pretrain", "seed": 2, "model": {"encoder": "resnet50", "projector": [4096, 256]}},
            "commit": "c0ffee",
            "environment": {"python": "3.11"},
            "started_unix_s": 1_000.5,
            "ended_unix_s": 2_000.25,
            "results": {"pretrain.loss": 0.25},
            "flags": {"collapsed": False},
            "cost": {"wall_s": 999.75},
        }
        return Record(**{**known, **changes})

    return make
