"""`harness prepare NAME --check`: everything that a prepared dataset says of itself, held against its files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.config.datasets import Facts
from harness.data.beton import ENCODINGS, Beton
from harness.data.catalogue import facts_of
from harness.data.encode import fault
from harness.data.errors import DataError
from harness.data.intake import Progress
from harness.data.manifest import BETONS, NAMES, Manifest, Numbers, file_facts, list_file, load, load_list
from harness.data.source import SPLITS
from harness.data.threads import in_order


def check(name: str, directory: Path, progress: Progress) -> list[str]:
    """What is wrong with the prepared dataset `name`, a sentence each; nothing if all is well."""
    facts, folder = facts_of(name), directory / name
    try:
        manifest = load(folder, name, facts)
    except DataError as error:
        return [str(error)]
    return list(Check(folder, manifest, facts, progress).findings())


class Check:
    """One look at a folder, from its files' hashes to every image."""

    def __init__(self, folder: Path, manifest: Manifest, facts: Facts, progress: Progress) -> None:
        self.folder, self.manifest, self.facts, self._progress = folder, manifest, facts, progress
        self._done, self._total = 0, sum(manifest.counts.values())
        self._lists: dict[str, Numbers] = {}

    def findings(self) -> Iterator[str]:
        """All that is wrong; each file is looked at, whatever is wrong with another."""
        for file in self.manifest.files:
            yield from self._file(file)
        for title in self.manifest.lists:
            yield from self._list(title)
        if all(split in self._lists for split in SPLITS):
            yield from self._division()
        for file in dict.fromkeys(BETONS.values()):
            try:
                yield from self._beton(file, Beton(self.folder / file))
            except DataError as error:
                yield str(error)

    def _file(self, file: str) -> Iterator[str]:
        stated = self.manifest.files[file]
        try:
            found = file_facts(self.folder / file)
        except OSError as error:
            yield f"{self.folder / file} cannot be read ({error.strerror})"
            return
        if found["bytes"] != stated["bytes"]:
            yield f"{self.folder / file} has {found['bytes']} bytes, not {stated['bytes']}"
        elif found["sha256"] != stated["sha256"]:
            yield f"{self.folder / file} is not what was written: its sha256 is {found['sha256']}"

    def _list(self, title: str) -> Iterator[str]:
        path = list_file(self.folder, title)
        try:
            numbers = load_list(self.folder, self.manifest, title)
        except DataError as error:
            yield str(error)
            return
        self._lists[title] = numbers
        if (np.diff(numbers) <= 0).any():
            yield f"{path} does not ascend"
        if len(numbers) != self.manifest.counts.get(title, len(numbers)):
            yield f"{path} lists {len(numbers)} images, not {self.manifest.counts[title]}"

    def _division(self) -> Iterator[str]:
        """No image is in two splits, and subsets are of training images."""
        joined = np.concatenate([self._lists[split] for split in SPLITS])
        if len(np.unique(joined)) != len(joined):
            yield f"{self.folder / 'lists'}: an image is in more than one split"
        training = np.concatenate([self._lists["train"], self._lists["valid"]])
        for title, numbers in self._lists.items():
            if title not in SPLITS and not np.isin(numbers, training).all():
                yield f"{list_file(self.folder, title)} lists images that are not for training"

    def _beton(self, file: str, beton: Beton) -> Iterator[str]:
        splits = [split for split in SPLITS if BETONS[split] == file]
        if beton.encoding != self.manifest.encoding or (beton.encoding == ENCODINGS[1] and not beton.uniform):
            yield f"{beton.path} does not hold {self.manifest.encoding} images as the manifest says"
        if all(split in self._lists for split in splits):
            wanted = np.sort(np.concatenate([self._lists[split] for split in splits]))
            if not np.array_equal(beton.indices, wanted):
                yield f"{beton.path} does not hold the images of its lists in their order"
        for split in splits:
            yield from self._classes(split, beton)
        names = self._names()
        for position, wrong in in_order(lambda position: (position, self._image(beton, position)), range(len(beton))):
            self._done += 1
            self._progress(self._done, max(self._total, self._done))
            if wrong:
                number = int(beton.indices[position])
                yield f"{beton.path}: image {number} ({names.get(number, 'without a name')}): {wrong}"

    def _classes(self, split: str, beton: Beton) -> Iterator[str]:
        """How many images each class has, where samples have one."""
        stated = self.manifest.class_counts.get(split)
        if stated is None or split not in self._lists:
            return
        labels = beton.labels[np.isin(beton.indices, self._lists[split])]
        strange = labels[(labels < 0) | (labels >= self.facts.classes)]
        if strange.size:
            yield f"{beton.path}: a {split} image has the label {strange[0]}; labels are 0 to {self.facts.classes - 1}"
            return
        found = np.bincount(labels, minlength=self.facts.classes).tolist()
        for label, (held, wanted) in enumerate(zip(found, stated, strict=True)):
            if held != wanted:
                yield f"{beton.path}: the {split} split has {held} images of class {label}, not {wanted}"

    def _names(self) -> dict[int, str]:
        try:
            return dict(enumerate((self.folder / NAMES).read_text().splitlines()))
        except (OSError, UnicodeDecodeError):  # reported as a file already
            return {}

    def _image(self, beton: Beton, position: int) -> str | None:
        height, width = int(beton.heights[position]), int(beton.widths[position])
        wrong = fault(beton.image(position).tobytes(), height, width) if beton.encoding == ENCODINGS[0] else None
        if wrong or self.facts.record == "class":
            return wrong
        from harness.data import records  # noqa: PLC0415 - for few datasets

        try:
            records.check(self.facts.record, beton.target(position), self.facts.classes, height, width)
        except DataError as error:
            return str(error)
        return None
