"""Checks that go on side by side, each with a time limit: storage or a server that hangs holds up nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from harness.config.errors import ConfigError
from harness.config.finding import Finding, fail

SECONDS = 60.0  # Torch, FFCV or MLflow may take half of it to import, where they have to come from a busy disk
Result = TypeVar("Result")


@dataclass(frozen=True)
class Check:
    """`remedy` is for one that raises, or does not come to an end in its time."""

    name: str
    look: Callable[[], Finding | Iterable[Finding]]
    remedy: str
    seconds: float = SECONDS


def begin(call: Callable[[], Result]) -> Future[Result]:
    """Start a call in a thread that the process does not wait for at its end: it may hang for ever."""
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="check", daemon=True).start()
    return future


def examine(checks: Iterable[Check]) -> Iterator[Finding]:
    """What all of them find, in their order. One that raises has failed, and so has one that does not end."""
    began = time.monotonic()
    looking = [(check, begin(partial(_all, check.look))) for check in checks]
    for check, future in looking:
        try:
            yield from future.result(max(0.0, began + check.seconds - time.monotonic()))
        except Exception as error:
            late = isinstance(error, TimeoutError) and not future.done()
            said = f"did not answer within {check.seconds:g} s" if late else reason(error)
            yield fail(check.name, said, check.remedy)


def _all(look: Callable[[], Finding | Iterable[Finding]]) -> list[Finding]:
    found = look()
    return [found] if isinstance(found, Finding) else list(found)


def reason(error: BaseException) -> str:
    """One line; errors for people have no need of their kind's name."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ConfigError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")
