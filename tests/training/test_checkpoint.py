"""Checkpoints: whole or not there, and never the only copy of a run's state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.training.checkpoint import Checkpoints

CPU = torch.device("cpu")


def names(folder: Path) -> list[str]:
    """Every file there, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    """Disk use is bounded, and one spare remains."""
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 10, 100):
        checkpoints.save(step, {"weight": torch.full((2,), float(step))})
    assert names(tmp_path) == ["checkpoint-000000010.pt", "checkpoint-000000100.pt"]
    step, state = checkpoints.latest(CPU) or (None, {})
    assert step == 100
    assert state["weight"].tolist() == [100.0, 100.0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda _: b"",
        lambda data: bytes(len(data)),
        lambda data: b"\xff" * len(data),
    ],
    ids=["half", "last byte", "empty", "zeros", "ones"],
)
def test_a_torn_newest_falls_back(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """A checkpoint that a crash left unreadable is named and passed over."""
    said: list[str] = []
    checkpoints = Checkpoints(tmp_path, said.append)
    checkpoints.save(1, {"value": 1})
    newest = checkpoints.save(2, {"value": 2})
    newest.write_bytes(damage(newest.read_bytes()))
    assert checkpoints.latest(CPU) == (1, {"value": 1})
    assert len(said) == 1
    assert str(newest) in said[0]


def test_none_is_none(tmp_path: Path) -> None:
    """A run without a checkpoint starts at the beginning."""
    assert Checkpoints(tmp_path / "nowhere").latest(CPU) is None


def test_what_a_killed_process_left_goes_with_the_next_save(tmp_path: Path) -> None:
    """A process killed while saving leaves gigabytes under a hidden name; they do not stay."""
    (tmp_path / ".checkpoint-000000007.pt.4242").write_bytes(b"half")
    Checkpoints(tmp_path).save(8, {})
    assert names(tmp_path) == ["checkpoint-000000008.pt"]
