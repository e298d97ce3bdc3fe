"""What `harness doctor` says of one thing: its state, what was found, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`remedy` is what to do, with a command where there is one; `node` the machine, empty where it is said of none."""

    name: str
    state: State
    found: str
    remedy: str = ""
    node: str = ""


def ok(name: str, found: str) -> Finding:
    return Finding(name=name, state="ok", found=found)


def warn(name: str, found: str, remedy: str) -> Finding:
    return Finding(name=name, state="warn", found=found, remedy=remedy)


def fail(name: str, found: str, remedy: str) -> Finding:
    return Finding(name=name, state="fail", found=found, remedy=remedy)
