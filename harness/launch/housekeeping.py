"""Taking runs out of the tables, and what nobody needs off the disk."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.config.durable import left_behind
from harness.config.errors import ConfigError
from harness.tracking.lease import is_free
from harness.tracking.record import Record, RecordError, Runs

NETWORK = "network.safetensors"  # of a fine-tuning: encoder and classifier
FEATURES = "features"  # of an encoder: those of the images that it was evaluated on


def retire(runs: Runs, key: str, reason: str) -> list[Record]:
    """Mark the run of `key`, and what was made of it, as retired; returns the records as they are now."""
    if runs.read(key) is None:
        raise ConfigError(f"there is no run {key} in {runs.path}")
    records = [record for one in runs.keys() if (record := _readable(runs, one)) is not None]  # noqa: SIM118  # Runs is no mapping
    chosen = [record for record in records if record.key == key or key in _made_of(record)]
    for record in chosen:
        if not is_free(runs.folder(record.key)):
            raise ConfigError(f"{record.key} is running; stop its sweep first")
    retired = [replace(record, state="retired", error=reason) for record in chosen]
    for record in retired:
        runs.write(record)
    return retired


@dataclass(frozen=True)
class Rubbish:
    """A folder or a file that can go."""

    path: Path
    why: str
    bytes: int

    def remove(self) -> None:
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink()


def rubbish(runs: Runs, ray: Path, needed: Collection[str], awaited: Collection[str] = ()) -> Iterator[Rubbish]:
    """Runs no table asks for, what retired runs and killed processes left, checkpoints of finished runs (their encoder
    stays), Ray's files, and fine-tuned networks and features of images but those of runs that another waits for, whose
    keys are `awaited`.

    A run somebody works on is let be, and so is one whose record cannot be read: a person must look at it. Imported
    encoders stay too: nothing here could make them again.
    """
    folders = sorted(path for path in runs.path.iterdir() if path.is_dir()) if runs.path.is_dir() else []
    for folder in folders:
        if not is_free(folder):
            continue
        record = _readable(runs, folder.name)
        imported = record is not None and record.kind == "imported" and record.state != "retired"
        if folder.name not in needed and not imported:
            yield _found(folder, "no table needs it")
        else:
            yield from _within(folder, record, folder.name in awaited)
    if all(is_free(folder) for folder in folders):  # no sweep goes on
        for left in sorted(ray.glob("*")):
            yield _found(left, "left by a sweep that was killed")


def _within(folder: Path, record: Record | None, awaited: bool) -> Iterator[Rubbish]:
    """What can go of a run that stays."""
    for aside in sorted(folder.glob("retired-*")):
        yield _found(aside, "retired")
    for left in sorted(left_behind(folder)):
        yield _found(left, "half-written by a process that was killed")
    if record is not None and record.state == "done" and (folder / "checkpoints").is_dir():
        yield _found(folder / "checkpoints", "the run is done")
    for name, why in ((NETWORK, "the choice is made"), (FEATURES, "no evaluation on them is left")):
        if (folder / name).exists() and not awaited:
            yield _found(folder / name, why)


def _made_of(record: Record) -> set[object]:
    """The keys of what was evaluated, or chosen from."""
    return {record.spec.get("subject"), *record.spec.get("candidates", ())}


def _readable(runs: Runs, key: str) -> Record | None:
    try:
        return runs.read(key)
    except RecordError:
        return None


def _found(path: Path, why: str) -> Rubbish:
    return Rubbish(path, why, sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file()))
