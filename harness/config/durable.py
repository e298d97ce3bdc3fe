"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

DAY_SECONDS = 86_400.0


def write_whole(path: Path, content: bytes) -> None:
    """For what can be made again: nobody sees half of it."""
    with _in_place_of(path) as file:
        file.write(content)


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """For what cannot: `write(file)` makes it, and it is on the disk, under its name, when this returns."""
    with _in_place_of(path) as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """As durably."""
    write_durably(path, lambda file: file.write(json.dumps(value, indent=1, sort_keys=True).encode()))


def passing(path: Path) -> Path:
    """A name beside `path` for what this process needs for a moment; `left_behind` knows it, should it be killed."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")


def left_behind(folder: Path) -> Iterator[Path]:
    """What killed processes have left half-written in a folder: those of this machine at once, others after a day."""
    for path in folder.glob(".*"):
        name, _, pid = path.name.rpartition(".")
        if not pid.isdigit():
            continue
        here = name.endswith(f".{socket.gethostname()}")
        with suppress(FileNotFoundError):  # its process has just put it in its place
            if not Path(f"/proc/{pid}").exists() if here else time.time() - path.stat().st_mtime > DAY_SECONDS:
                yield path


@contextmanager
def _in_place_of(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = passing(path)
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
