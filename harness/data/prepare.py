"""Datasets on disk: written once by `harness prepare NAME`, opened by every run.

A prepared dataset is a folder with `train.beton` (the train and valid splits), `test.beton`, the owner's names, the
lists of numbers that make up its splits and subsets, and a manifest. It is written under another name, which it
exchanges for its own when it is whole; what a killed preparation left is removed by the next.
"""

from __future__ import annotations

import errno
import fcntl
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.config.datasets import Facts
from harness.data.beton import ENCODINGS, Beton
from harness.data.catalogue import CATALOGUE, entry_of, facts_of, generated
from harness.data.dataset import JOINED, Dataset, open_dataset
from harness.data.digits import digits
from harness.data.errors import DataError
from harness.data.intake import Intake, Progress, examine
from harness.data.manifest import BETONS, FORMAT, NAMES, Manifest, Numbers, file_facts, save_list, split_id
from harness.data.source import SPLITS, Source
from harness.data.splits import balanced_subset, listed
from harness.data.writer import write

__all__ = ["DataError", "Dataset", "Manifest", "add_list", "add_subsets", "open_dataset", "prepare"]

SUBSET_SALT = "imagenet-balanced"  # of every dataset's

Report = Callable[[str], None]


def quiet(_done: int, _total: int) -> None:
    """Nobody watches."""


def prepare(
    name: str,
    directory: Path,
    report: Report,
    *,
    source: Path | None = None,
    skip_broken: bool = False,
    progress: Progress = quiet,
) -> Manifest:
    """Write dataset `name` into `directory`/`name`, unless it is already there and whole.

    `source` has the owner's files; the digits and every stand-in are generated. Only one process at a time prepares
    a dataset; others wait and find it done.
    """
    facts_of(name)
    if source and generated(name):
        raise DataError(f"{name} is generated and takes no --source")
    found = _already(name, directory, report)
    if found:
        return found
    _check_source(name, source)
    with _alone(name, directory, report) as scratch:
        found = _already(name, directory, report)
        if found:
            return found
        return _prepare(name, scratch, report, source, skip_broken, progress)


def add_subsets(name: str, directory: Path, report: Report) -> None:
    """Draw the balanced lists of a dataset that was prepared before it had any."""
    known = open_dataset(name, directory).manifest.lists
    missing = [percent for percent in entry_of(name).subsets if f"balanced-{percent}" not in known]
    if not missing:
        return
    with _alone(name, directory, report), _writing(directory):
        dataset = open_dataset(name, directory)
        names = (dataset.folder / NAMES).read_text().splitlines()
        stored = Beton(dataset.beton("train"))
        labels = np.full(len(names), -1)
        labels[stored.indices] = stored.labels
        lists = {
            f"balanced-{percent}": balanced_subset(names, labels, dataset.numbers("train"), percent, SUBSET_SALT)
            for percent in missing
        }
        saved = {title: save_list(dataset.folder, title, numbers) for title, numbers in lists.items()}
        replace(dataset.manifest, lists={**dataset.manifest.lists, **saved}).save(dataset.folder)
    report(f"{name}: balanced lists of {', '.join(map(str, missing))} % are drawn")


def add_list(name: str, directory: Path, title: str, file: Path, report: Report) -> None:
    """Add a list of training images, by the owner's names in a text file, to a prepared dataset; it becomes a split."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", title) or title in (*SPLITS, *JOINED) or title.startswith("balanced-"):
        raise DataError(f"a list cannot be named {title!r}; take small letters, digits and dashes, as in simclr-1")
    with _alone(name, directory, report):
        dataset = open_dataset(name, directory)
        names = (dataset.folder / NAMES).read_text().splitlines()
        numbers = listed(file, names, dataset.numbers("train+valid"))
        if title in dataset.manifest.lists:
            if np.array_equal(dataset.numbers(title), numbers):
                report(f"{name}: the list {title} is already there")
                return
            raise DataError(f"{dataset.folder} has another list of the name {title}; give this one another name")
        with _writing(directory):
            lists = {**dataset.manifest.lists, title: save_list(dataset.folder, title, numbers)}
            replace(dataset.manifest, lists=lists).save(dataset.folder)
    report(f"{name}: {title} lists {len(numbers)} images")


@dataclass(frozen=True)
class Scratch:
    """Where a dataset is written before it has its name; `new` becomes `final`, which goes to `old` if there is one."""

    final: Path

    @property
    def new(self) -> Path:
        """The folder being written."""
        return self._named("partial")

    @property
    def old(self) -> Path:
        """The folder that is replaced."""
        return self._named("old.partial")

    @property
    def official(self) -> Path:
        """The owner's files of a stand-in."""
        return self._named("source.partial")

    def _named(self, suffix: str) -> Path:
        return self.final.parent / f".{self.final.name}.{suffix}"

    def clear(self) -> None:
        """Remove what there is of all of them."""
        for path in (self.new, self.old, self.official):
            if path.is_symlink():  # somebody had put the dataset elsewhere
                path.unlink()
            elif path.exists():
                shutil.rmtree(path)

    def finish(self) -> None:
        """The new folder gets its name."""
        if self.final.exists() or self.final.is_symlink():
            self.final.rename(self.old)
        self.new.rename(self.final)


def _already(name: str, directory: Path, report: Report) -> Manifest | None:
    try:
        found = open_dataset(name, directory).manifest
    except DataError:
        return None
    report(f"{name}: already prepared in {directory / name}; remove that folder to prepare it anew")
    return found


def _check_source(name: str, source: Path | None) -> None:
    """Say which files are wanted, and where they can be had."""
    if generated(name):
        return
    entry = entry_of(name)
    wanted = f"a folder that holds {entry.layout}; it can be had from {entry.where}"
    if source is None:
        raise DataError(f"{name} ({entry.title}) is made from its owner's files: give --source FOLDER, {wanted}")
    if not source.is_dir():
        raise DataError(f"there is no folder {source}; --source must be {wanted}")


@contextmanager
def _alone(name: str, directory: Path, report: Report) -> Iterator[Scratch]:
    """Keep other processes from preparing the same dataset; whatever is left of an earlier one belongs to nobody."""
    scratch = Scratch(directory / name)
    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / f".{name}.lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"{name}: waiting for another process that prepares it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            scratch.clear()
            yield scratch
        finally:
            scratch.clear()


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Make a clear sentence of what the file system refuses."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space" if full else "make it writable"
        reason = "no space is left" if full else f"cannot be written ({error.strerror or error})"
        raise DataError(f"{directory}: {reason}; {remedy}, or name another folder with HARNESS_DATA") from error


def _prepare(
    name: str, scratch: Scratch, report: Report, folder: Path | None, skip_broken: bool, progress: Progress
) -> Manifest:
    facts, directory = facts_of(name), scratch.final.parent
    report(f"{name}: reading the lists of images")
    source = _source(name, facts, scratch, folder)
    examine(name, source, facts)
    intake = Intake(name, source, facts, skip_broken, progress)
    _check_space(name, intake, directory, report)
    with _writing(directory):
        scratch.new.mkdir()
        manifest = _write(name, intake, scratch.new, folder.resolve().name if folder else "generated")
        wrong = manifest.mismatch(name, facts)
        if wrong:
            raise DataError(f"{name}: {wrong}")
        manifest.save(scratch.new)
        scratch.finish()
    _say(name, manifest, scratch.final, report)
    return manifest


def _source(name: str, facts: Facts, scratch: Scratch, folder: Path | None) -> Source:
    """The dataset as its owner has it. A stand-in is written in the owner's layout and read like the real one."""
    entry = entry_of(name)
    if folder:
        return entry.read(folder, facts)
    if entry is CATALOGUE["digits"]:
        made = digits()
        if split_id(made.splits) != facts.split_id:
            raise DataError(f"{name}: its splits are {split_id(made.splits)}, not {facts.split_id}")
        return made
    with _writing(scratch.official.parent):
        scratch.official.mkdir()
        entry.stand_in(scratch.official, facts)
    return entry.read(scratch.official, facts)


def _stored(source: Source, file: str) -> Numbers:
    """The numbers of the images of a file, in the order in which they are read fastest."""
    return _ordered(source, np.concatenate([source.splits[split] for split in SPLITS if BETONS[split] == file]))


def _ordered(source: Source, numbers: Numbers) -> Numbers:
    if source.quickest is None:
        return np.sort(numbers)
    return source.quickest[np.isin(source.quickest, numbers)]


def _check_space(name: str, intake: Intake, directory: Path, report: Report) -> None:
    numbers = _ordered(intake.source, np.concatenate([intake.source.splits[split] for split in SPLITS]))
    needed, free = intake.estimated_bytes(numbers), shutil.disk_usage(directory).free
    report(
        f"{name}: {len(numbers)} images, about {readable_size(needed)}; {readable_size(free)} are free in {directory}"
    )
    if needed > free:
        raise DataError(
            f"{name} needs about {readable_size(needed)}, and {directory} has {readable_size(free)}; "
            "free some space, or name another folder with HARNESS_DATA"
        )


def _write(name: str, intake: Intake, folder: Path, origin: str) -> Manifest:
    """Write all files but the manifest."""
    source, facts = intake.source, intake.facts
    encoding = ENCODINGS[facts.store == "raw"]
    for file in dict.fromkeys(BETONS.values()):
        numbers = _stored(source, file)
        write(folder / file, encoding, intake.samples(numbers), len(numbers))
    (folder / NAMES).write_text("".join(f"{one}\n" for one in source.names))
    lists = {split: intake.split(split) for split in SPLITS}
    for percent in entry_of(name).subsets:
        subset = balanced_subset(source.names, source.labels, lists["train"], percent, SUBSET_SALT)
        lists[f"balanced-{percent}"] = subset
    by_class = facts.record == "class"
    return Manifest(
        dataset=name,
        version=facts.version,
        format=FORMAT,
        split_id=facts.split_id,
        record=facts.record,
        store=facts.store,
        encoding=encoding,
        classes=list(source.classes),
        counts={split: len(lists[split]) for split in SPLITS},
        class_counts={split: _by_class(source, lists[split]) for split in SPLITS if by_class},
        images=intake.tally.as_facts(),
        lists={title: save_list(folder, title, numbers) for title, numbers in lists.items()},
        files={file: file_facts(folder / file) for file in (*dict.fromkeys(BETONS.values()), NAMES)},
        source=origin,
    )


def _by_class(source: Source, numbers: Numbers) -> list[int]:
    return np.bincount(source.labels[numbers], minlength=len(source.classes)).tolist()


def _say(name: str, manifest: Manifest, folder: Path, report: Report) -> None:
    images, size = manifest.images, sum(file["bytes"] for file in manifest.files.values())
    counts = ", ".join(f"{split} {manifest.counts[split]}" for split in SPLITS)
    for kind, count in images["converted"].items():
        report(f"{name}: {count} converted to JPEG: {kind}")
    for one in images["skipped"]:
        report(f"{name}: left out of {one['split']}: {one['name']}: {one['reason']}")
    if images["grey"]:
        report(f"{name}: {images['grey']} grey images")
    if images["small"] and manifest.encoding != "rgb":
        report(f"{name}: {images['small']} images with a side below 224 pixels, which crops of that size enlarge")
    report(f"{name}: ready in {folder} ({counts}; {readable_size(size)})")


def readable_size(count: float) -> str:
    """Of so many bytes."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
