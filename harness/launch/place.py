"""Where and how a task runs; nothing here bears identity."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Place:
    """Travels to workers as plain values."""

    runs: str
    data: str
    commit: str
    threads: int = 1
    device: str = "cpu"
    checkpoint_seconds: float = 5.0
    online_classifier: bool = False
