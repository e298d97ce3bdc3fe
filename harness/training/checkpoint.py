"""Checkpoints of a run: written whole or not at all, the last two kept."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness.config.durable import write_durably

KEPT = 2
# What torch.load makes of a file that is cut off, empty, or zeros.
UNREADABLE = (RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError)
_NAME = re.compile(r"checkpoint-(\d{9})\.pt")


def _free() -> None:
    """Anybody may write."""


class Checkpoints:
    """The folder `checkpoint-<updates done>.pt` files live in."""

    def __init__(self, folder: Path, warn: Callable[[str], None] = print, guard: Callable[[], None] = _free) -> None:
        """`warn` is told what is passed over; `guard` is called before anything is written, and may raise."""
        self.folder = folder
        self._warn = warn
        self._guard = guard

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write by fsync and rename, then drop all but the last two, and what a killed process left half-written."""
        self._guard()
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".checkpoint-*"):
            left.unlink()
        path = self.folder / f"checkpoint-{step:09d}.pt"
        write_durably(path, lambda file: torch.save({"step": step, "state": state}, file))
        for old in self._paths()[:-KEPT]:
            old.unlink()
        return path

    def latest(self, device: torch.device) -> tuple[int, dict[str, Any]] | None:
        """The newest that can be read; an unreadable one is said and passed over."""
        for path in reversed(self._paths()):
            try:
                saved = torch.load(path, map_location=device, weights_only=True)
                return int(saved["step"]), saved["state"]
            except UNREADABLE as error:
                self._warn(f"{path} cannot be read ({type(error).__name__}); going back to the checkpoint before it")
        return None

    def _paths(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))
