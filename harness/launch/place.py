"""Where and how a task runs; nothing here bears identity."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

from harness.config.errors import ConfigError

Solver = Literal["torch", "scikit-learn"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Travels to workers as plain values. gpu_share: the part of the device, if that is a GPU, which each worker has.

    solver: of logistic regressions. stop: a file that asks for an end by being there; nobody asks where it is empty.
    scratch: a folder on the node's own disk that datasets are read from; empty where they are read from `data`.
    """

    runs: str
    data: str
    commit: str
    threads: int = 1
    device: str = "cpu"
    gpu_share: float = 1.0
    checkpoint_seconds: float = 5.0
    online_classifier: bool = False
    solver: Solver = "torch"
    stop: str = ""
    scratch: str = ""


def wanted_scratch() -> str:
    """HARNESS_SCRATCH: a folder of that name on every node, so it says where from the root."""
    text = os.environ.get("HARNESS_SCRATCH") or ""
    if text and not os.path.isabs(text):
        raise ConfigError(f"HARNESS_SCRATCH={text}: must be an absolute path, of a folder that every node has")
    return text


def wanted_solver() -> Solver:
    """HARNESS_SOLVER, or torch."""
    text = os.environ.get("HARNESS_SOLVER") or "torch"
    if text not in get_args(Solver):
        raise ConfigError(f"HARNESS_SOLVER={text}: must be {' or '.join(get_args(Solver))}")
    return text  # type: ignore[return-value]  # one of them
