"""Whether a folder keeps what is written, and whether every node sees the same folder, tried with files of its own.

A node that starts a run takes its lease by O_EXCL, writes by rename and fsync, and reads what others wrote. Each of
these is done here, in a hidden folder that is removed at the end.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.config.durable import write_json
from harness.config.finding import Finding, fail, ok, warn
from harness.tracking.lease import storage_time

ROUNDS = 5  # of writing and reading a small file
SLOW_SECONDS = 1.0  # for one: a heartbeat of a lease has 5
SKEW_SECONDS = 2.0  # between clocks
WORD, FIRST = "word.json", "first"


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """Where this process and the nodes meet in a `folder`: files at `path`, the first of which holds `word`."""

    name: str
    folder: Path
    path: Path
    word: str


def standing(folder: Path) -> Path:
    """The folder, or what is there already of those it will be made in."""
    return next(one for one in (folder, *folder.parents) if one.exists())


@contextmanager
def meeting(name: str, folder: Path) -> Iterator[Meeting]:
    """A meeting place in the folder called `name`; OSError where nothing can be written."""
    word = uuid.uuid4().hex
    path = standing(folder) / f".doctor-{word}"
    path.mkdir()
    try:
        write_json(path / WORD, word)
        yield Meeting(name=name, folder=folder, path=path, word=word)
    finally:
        shutil.rmtree(path)


def unwritable(name: str, folder: Path, error: OSError) -> Finding:
    """What there is to say where no meeting place can be made."""
    remedy = f"name another folder with {name}, or make this one writable"
    return fail(name, f"{folder} cannot be written ({error.strerror or error})", remedy)


def visit(place: Meeting, visitor: str) -> Finding:
    """On a node: read the word, work as a run does, and leave an answer."""
    name, folder = place.name, place.folder
    try:
        word = (place.path / WORD).read_text()
    except OSError as error:
        found = f"{folder} is not shared: what the driver wrote there is not seen here ({error.strerror})"
        return fail(name, found, f"mount shared storage at {folder} on every node, or name another folder with {name}")
    if place.word not in word:
        return fail(name, f"{folder} does not give back what was written: {word[:80]!r}", "check the file system")
    try:
        seconds = statistics.median(_round(place.path, f"{visitor}-{number}") for number in range(ROUNDS))
        skew = _skew(place.path)
        exclusive = _take(place.path / f"{visitor}-own") and not _take(place.path / f"{visitor}-own")
        write_json(answer(place, visitor), {"word": place.word, "first": _take(place.path / FIRST)})
    except OSError as error:
        return unwritable(name, folder, error)
    return _judged(place, seconds, skew, exclusive)


def answer(place: Meeting, visitor: str) -> Path:
    """Where a visitor writes that it was there, and whether it was the first to create one file."""
    return place.path / f"{visitor}.json"


def _judged(place: Meeting, seconds: float, skew: float, exclusive: bool) -> Finding:
    name = place.name
    found = f"{place.folder}{'' if place.folder.exists() else ' (will be made)'}: {seconds * 1000:.0f} ms a small file"
    if not exclusive:
        remedy = "mount it so that O_EXCL holds (NFS version 3 or later): two sweeps could train one run"
        return fail(name, f"{found}; a file could be created twice", remedy)
    if abs(skew) > SKEW_SECONDS:
        remedy = "set the clocks by NTP; leases go by the storage's, times in records and MLflow by the node's"
        return warn(name, f"{found}; its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}", remedy)
    if seconds > SLOW_SECONDS:
        return warn(name, f"{found}, which holds up leases and records", "faster storage for small files")
    return ok(name, found)


def _round(folder: Path, name: str) -> float:
    """The seconds that a record takes: written, on the disk, in the place of another, and read."""
    began = time.monotonic()
    for value in (0, 1):
        write_json(folder / name, value)
    if (folder / name).read_text() != "1":
        raise OSError("a file that took another's place holds what the other held")
    return (time.monotonic() - began) / 2


def _take(path: Path) -> bool:
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        return True
    return False


def _skew(folder: Path) -> float:
    """By how much the storage's clock is ahead of this machine's, as far as the look itself took no longer."""
    before = time.time()
    theirs = storage_time(folder)
    after = time.time()
    return theirs - min(max(theirs, before), after)


def keeps(name: str, folder: Path) -> Finding:
    """Of storage that this machine alone has to do with."""
    try:
        with meeting(name, folder) as place:
            return visit(place, "own")
    except OSError as error:
        return unwritable(name, folder, error)
