"""Datasets on disk: written once by `harness prepare NAME`, opened by every run.

A prepared dataset is a folder with `train.beton` (the train and valid splits), `test.beton` and
`manifest.json`. Files are written under temporary names, and the manifest gets its name last: a folder with a
manifest is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.datasets import DATASETS, Facts
from harness.data.beton import Beton
from harness.data.digits import digits
from harness.data.errors import DataError
from harness.data.source import SPLITS, Source, split_id
from harness.data.writer import write

__all__ = ["SOURCES", "DataError", "Dataset", "Manifest", "open_dataset", "prepare"]

SOURCES: dict[str, Callable[[], Source]] = {"digits": digits}
PARTS = {"train": ("train",), "valid": ("valid",), "train+valid": ("train", "valid"), "test": ("test",)}
BETONS = {"train": "train.beton", "valid": "train.beton", "test": "test.beton"}
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a prepared folder holds. `splits` has the source's own numbers, ascending; `bytes` the size of each file.

    A .beton holds the images of its splits in ascending number, so these lists also say where each image lies.
    """

    dataset: str
    version: int
    classes: int
    height: int
    width: int
    counts: dict[str, int]
    split_id: str
    splits: dict[str, list[int]]
    bytes: dict[str, int]


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset, checked on opening."""

    folder: Path
    manifest: Manifest
    facts: Facts

    @property
    def classes(self) -> int:
        """How many classes the labels count."""
        return self.manifest.classes

    @property
    def height(self) -> int:
        """Height of the stored images, in pixels."""
        return self.manifest.height

    @property
    def width(self) -> int:
        """Width of the stored images, in pixels."""
        return self.manifest.width

    @property
    def mean(self) -> tuple[float, float, float]:
        """The mean colour that normalisation subtracts."""
        return self.facts.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """The deviation of each channel, by which normalisation divides."""
        return self.facts.std

    def beton(self, split: str) -> Path:
        """The file that holds a split; `train+valid` is one file."""
        return self.folder / BETONS[PARTS[split][0]]

    def indices(self, split: str) -> NDArray[np.int64]:
        """Where the images of a split lie in its file, ascending. `split` is train, valid, train+valid or test."""
        parts = PARTS[split]
        stored = _stored(self.manifest.splits, BETONS[parts[0]])
        wanted = np.sort(np.concatenate([self.manifest.splits[part] for part in parts]))
        return np.searchsorted(stored, wanted).astype(np.int64)


def prepare(name: str, directory: Path, report: Callable[[str], None]) -> Manifest:
    """Write dataset `name` into `directory`/`name`, unless it is already there and whole."""
    facts = _facts(name)
    if name not in SOURCES:
        raise DataError(f"{name} cannot be prepared yet; datasets that can be: {', '.join(SOURCES)}")
    try:
        manifest = open_dataset(name, directory).manifest
    except DataError:
        report(f"{name}: reading the images")
        return _write(name, facts, SOURCES[name](), directory / name, report)
    report(f"{name}: already prepared in {directory / name}")
    return manifest


def open_dataset(name: str, directory: Path) -> Dataset:
    """The prepared dataset `name`, or a DataError that says what is wrong with it and how to prepare it."""
    facts, folder = _facts(name), directory / name
    manifest = _read(folder / MANIFEST, name)
    wrong = _mismatch(manifest, name, facts) or _damage(manifest, folder)
    if wrong:
        raise DataError(f"{folder}: {wrong}; run `harness prepare {name}`")
    return Dataset(folder, manifest, facts)


def _facts(name: str) -> Facts:
    if name not in DATASETS:
        raise DataError(f"there is no dataset {name!r}; known are {', '.join(DATASETS)}")
    return DATASETS[name]


def _write(name: str, facts: Facts, source: Source, folder: Path, report: Callable[[str], None]) -> Manifest:
    """Write both files and then the manifest; whatever goes wrong, no unfinished file carries a final name."""
    splits = {split: source.splits[split].tolist() for split in SPLITS}
    folder.mkdir(parents=True, exist_ok=True)
    suffix = f".{os.getpid()}.partial"
    partial = {file: folder / (file + suffix) for file in (*dict.fromkeys(BETONS.values()), MANIFEST)}
    try:
        for file in dict.fromkeys(BETONS.values()):
            numbers = _stored(splits, file)
            report(f"{name}: writing {len(numbers)} images to {folder / file}")
            write(partial[file], source.images[numbers], source.labels[numbers])
        manifest = Manifest(
            dataset=name,
            version=facts.version,
            classes=source.classes,
            height=source.images.shape[1],
            width=source.images.shape[2],
            counts={split: len(numbers) for split, numbers in splits.items()},
            split_id=split_id(source.splits),
            splits=splits,
            bytes={file: partial[file].stat().st_size for file in dict.fromkeys(BETONS.values())},
        )
        wrong = _mismatch(manifest, name, facts)
        if wrong:
            raise DataError(f"{name}: {wrong}; correct harness/config/datasets.py or the source")
        with partial[MANIFEST].open("w") as out:
            json.dump(asdict(manifest), out)
            out.flush()
            os.fsync(out.fileno())
        (folder / MANIFEST).unlink(missing_ok=True)  # an older one does not describe the files that come now
        for file, path in partial.items():
            path.replace(folder / file)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
    report(f"{name}: ready in {folder}")
    return manifest


def _stored(splits: dict[str, list[int]], file: str) -> NDArray[np.int64]:
    """The source's numbers of the images in a file, in the order they lie there."""
    parts = [np.asarray(splits[split], dtype=np.int64) for split in SPLITS if BETONS[split] == file]
    return np.sort(np.concatenate(parts))


def _read(path: Path, name: str) -> Manifest:
    remedy = f"run `harness prepare {name}`"
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return Manifest(**{field.name: content[field.name] for field in fields(Manifest)})
    except FileNotFoundError as error:
        raise DataError(f"{name} has not been prepared: there is no {path}; {remedy}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error}); {remedy}") from error


def _mismatch(manifest: Manifest, name: str, facts: Facts) -> str | None:
    """How a manifest differs from the facts on which the keys of runs rest."""
    splits = {split: np.asarray(numbers) for split, numbers in manifest.splits.items()}
    pairs = [
        ("dataset", manifest.dataset, name),
        ("version", manifest.version, facts.version),
        ("classes", manifest.classes, facts.classes),
        ("split_id", manifest.split_id, facts.split_id),
        ("hash of the split lists", split_id(splits), manifest.split_id),
        *((f"{split} images", len(splits[split]), facts.images(split)) for split in SPLITS),
    ]
    return next((f"{what} is {found}, not {wanted}" for what, found, wanted in pairs if found != wanted), None)


def _damage(manifest: Manifest, folder: Path) -> str | None:
    """What is wrong with the files of a folder, if anything: size first, then structure."""
    for file, size in manifest.bytes.items():
        found = (folder / file).stat().st_size if (folder / file).exists() else None
        if found != size:
            return f"{file} is missing" if found is None else f"{file} has {found} bytes, not {size}"
        held, wanted = len(Beton(folder / file)), len(_stored(manifest.splits, file))
        if held != wanted:
            return f"{file} holds {held} images, not {wanted}"
    return None
