"""The sealed test: a test split opens for the recorded choice of its evaluation, and for no other."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from harness.config.durable import write_durably

T = TypeVar("T")


class SealError(RuntimeError):
    """The test split was asked for without, or against, the recorded choice."""


@dataclass(frozen=True)
class Selection:
    """What was chosen from what, by its score on the held-out split; a candidate that diverged has none."""

    metric: str
    candidates: tuple[str, ...]
    scores: tuple[float | None, ...]

    @property
    def chosen(self) -> int:
        """The best candidate; among equals the first. Those without a score come last."""
        return max(range(len(self.scores)), key=lambda i: (-math.inf if (s := self.scores[i]) is None else s, -i))

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


class Seal:
    """Keeps the choice of one evaluation in its folder, and the key to its test split."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "selection.json"

    def record(self, selection: Selection) -> dict[str, object]:
        """Write the choice down before the test is opened. The same choice may be recorded again, another never."""
        known = self.recorded()
        if known is not None:
            if known["digest"] != selection.digest:
                raise SealError(
                    f"{self._path} records another choice ({known['chosen']}); the test split stays closed. "
                    "Retire the run to choose anew"
                )
            return known
        entry: dict[str, object] = {
            "metric": selection.metric,
            "candidates": list(selection.candidates),
            "scores": list(selection.scores),
            "chosen": selection.candidates[selection.chosen],
            "digest": selection.digest,
            "recorded_unix_s": time.time(),
        }
        write_durably(self._path, lambda file: file.write(json.dumps(entry, indent=1).encode()))
        return entry

    def recorded(self) -> dict[str, object] | None:
        if not self._path.is_file():
            return None
        entry: dict[str, object] = json.loads(self._path.read_text(encoding="utf-8"))
        return entry

    def open(self, selection: Selection, test: Callable[[], T]) -> T:
        """Call `test` for the recorded choice; raise SealError for any other."""
        known = self.recorded()
        if known is None:
            raise SealError("the test split is closed until a choice has been recorded")
        if known["digest"] != selection.digest:
            raise SealError(f"the test split is open for the choice {known['chosen']} alone")
        return test()
