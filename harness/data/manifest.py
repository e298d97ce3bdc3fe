"""What a prepared dataset's folder holds, written last: a folder with a manifest is complete."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.datasets import Facts
from harness.data.catalogue import remedy
from harness.data.errors import DataError
from harness.data.source import SPLITS

FORMAT = 2  # of the folder: another number is another version of the harness
FILE = "manifest.json"
NAMES = "names.txt"
BETONS = {"train": "train.beton", "valid": "train.beton", "test": "test.beton"}

Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """counts and class_counts are per split (the latter by class, where samples have one). `images` tells what was
    done to them: converted (kind: how many), grey, small, skipped (name, split, reason). `lists` has the length and
    hash of every list of numbers, `files` the bytes and hash of every file, `source` the name of the owner's folder.
    """

    dataset: str
    version: int
    format: int
    split_id: str
    record: str
    store: str
    encoding: str
    classes: list[str]
    counts: dict[str, int]
    class_counts: dict[str, list[int]]
    images: dict[str, Any]
    lists: dict[str, dict[str, Any]]
    files: dict[str, dict[str, Any]]
    source: str

    def save(self, folder: Path) -> None:
        """Write it into its folder, whole or not at all."""
        partial = folder / f"{FILE}.partial"
        with partial.open("w") as out:
            json.dump(asdict(self), out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(folder / FILE)

    def mismatch(self, name: str, facts: Facts) -> str | None:
        """How it differs from the facts on which the keys of runs rest. Skipped images may be absent, no others."""
        skipped = [one["split"] for one in self.images["skipped"]]
        pairs = [
            ("dataset", self.dataset, name),
            ("version", self.version, facts.version),
            ("split_id", self.split_id, facts.split_id),
            ("store", self.store, facts.store),
            ("record", self.record, facts.record),
            ("number of classes", len(self.classes), facts.classes),
            *(
                (f"number of {split} images", self.counts[split], facts.images(split) - skipped.count(split))
                for split in SPLITS
            ),
        ]
        return next((f"its {what} is {found}, not {wanted}" for what, found, wanted in pairs if found != wanted), None)


def load(folder: Path, name: str, facts: Facts) -> Manifest:
    """The manifest of a folder; DataError where there is none, or one of another dataset or version."""
    path = folder / FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        found = content.get("format", 1)  # the first had none
        if found == FORMAT:
            made = Manifest(**{field.name: content[field.name] for field in fields(Manifest)})
            wrong = made.mismatch(name, facts)
        else:
            wrong = f"it was prepared by another version of the harness (form {found}, not {FORMAT})"
    except FileNotFoundError as error:
        raise DataError(f"{name} has not been prepared: there is no {path}; {remedy(name)}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error}); {remedy(name)}") from error
    if wrong:
        raise DataError(f"{folder}: {wrong}; {remedy(name)}")
    return made


def save_list(folder: Path, name: str, numbers: Numbers) -> dict[str, Any]:
    """Write one list of numbers; what the manifest says of it."""
    path = list_file(folder, name)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as out:
        np.save(out, numbers.astype("<i8"))
    partial.replace(path)
    return {"images": len(numbers), "sha256": hash_of(numbers)}


def load_list(folder: Path, manifest: Manifest, name: str) -> Numbers:
    """A list of numbers as it was written; DataError where the file is missing or has changed."""
    path = list_file(folder, name)
    try:
        numbers = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); {remedy(manifest.dataset)}") from error
    if hash_of(numbers) != manifest.lists[name]["sha256"]:
        raise DataError(f"{path} is not the list that was written; {remedy(manifest.dataset)}")
    return numbers.astype(np.int64)


def list_file(folder: Path, name: str) -> Path:
    """Where a list lies."""
    return folder / "lists" / f"{name}.npy"


def hash_of(numbers: Numbers) -> str:
    """The sha256 of a list of numbers, whatever file it is in."""
    return hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()


def file_facts(path: Path) -> dict[str, Any]:
    """What the manifest says of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def split_id(splits: Mapping[str, Numbers]) -> str:
    """Names a division into splits by itself: 16 hexadecimal digits of the sha256 of its lists of numbers."""
    lists = {split: [int(number) for number in splits[split]] for split in SPLITS}
    return hashlib.sha256(json.dumps(lists, separators=(",", ":")).encode()).hexdigest()[:16]
