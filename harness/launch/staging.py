"""Data on the node's own disk: copied there when the first run on the node reads it, and read there by all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from harness.data.dataset import Dataset, open_dataset
from harness.data.errors import DataError
from harness.data.manifest import Manifest
from harness.data.prepare import readable_size
from harness.launch.observer import Observer
from harness.launch.place import Place

CHUNK_BYTES = 1 << 24  # copied between two looks at whether an end is asked for
WAIT_SECONDS = 0.5  # between two looks at whether another process has made the copy


class NoCopyError(Exception):
    """Why a file has to be read where it is."""


def dataset_of(name: str, place: Place, observer: Observer) -> Dataset:
    """A prepared dataset, whose files are read from place.scratch if there is one."""
    dataset = open_dataset(name, Path(place.data))
    if not place.scratch:
        return dataset
    return replace(dataset, nearest=Copies(dataset.manifest, Path(place.scratch), observer).nearest)


class Copies:
    """Of a dataset's files, each in a folder named by the hash of its content: another version is another file, and
    what has its name and its size is what is wanted.

    A file of which no copy can be made is read where it is, and the record says why: the numbers are the same, and a
    run that has waited for its GPU should be slow rather than fail.
    """

    def __init__(self, manifest: Manifest, scratch: Path, observer: Observer) -> None:
        self._manifest, self._scratch, self._observer = manifest, scratch, observer
        self._decided: dict[Path, Path] = {}

    def nearest(self, file: Path) -> Path:
        """Where to read a file of the dataset's folder: the same throughout a run."""
        if file not in self._decided:
            try:
                self._decided[file] = self._copy_of(file)
            except (NoCopyError, OSError) as error:
                on = f"HARNESS_SCRATCH={self._scratch} on {socket.gethostname()}"
                self._observer.note(f"{file} is read where it is, not from {on}: {error}")
                self._decided[file] = file
        return self._decided[file]

    def _copy_of(self, file: Path) -> Path:
        """The copy, made now where there is none; the file itself where an end is asked for meanwhile."""
        if not self._scratch.is_dir():
            raise NoCopyError("there is no such folder")
        stated = self._manifest.files[file.name]
        copy = self._scratch / self._manifest.dataset / stated["sha256"][:16] / file.name
        if _whole(copy, stated):
            return copy
        copy.parent.mkdir(parents=True, exist_ok=True)
        with (copy.parent / ".lock").open("w") as lock:
            if not self._alone(lock):
                return file
            return copy if _whole(copy, stated) or self._made(file, copy, stated) else file

    def _alone(self, lock: IO[str]) -> bool:
        """Wait for whoever makes the copy just now; False where an end is asked for first."""
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._observer.stopping():
                    return False
                time.sleep(WAIT_SECONDS)
            else:
                return True

    def _made(self, file: Path, copy: Path, stated: dict[str, Any]) -> bool:
        """Make the copy, whole or not at all; False where an end is asked for first."""
        partial = copy.with_name(f".{copy.name}.partial")
        partial.unlink(missing_ok=True)  # of a process that was killed
        _check_space(stated["bytes"], copy.parent)
        digest = hashlib.sha256()
        try:
            with file.open("rb") as source, partial.open("wb") as target:
                while chunk := source.read(CHUNK_BYTES):
                    if self._observer.stopping():
                        return False
                    digest.update(chunk)
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            if digest.hexdigest() != stated["sha256"]:
                remedy = f"look at it with `harness prepare {self._manifest.dataset} --check`"
                raise DataError(f"{file} is not what was written: its sha256 is {digest.hexdigest()}; {remedy}")
            partial.replace(copy)
        finally:
            partial.unlink(missing_ok=True)
        return True


def _whole(copy: Path, stated: dict[str, Any]) -> bool:
    return copy.exists() and copy.stat().st_size == stated["bytes"]


def _check_space(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NoCopyError(f"it takes {readable_size(needed)}, and {readable_size(free)} are free there")
