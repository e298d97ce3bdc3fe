"""An owner's dataset on its way into files: every image is read, checked and converted if need be, by all cores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.config.datasets import Facts
from harness.data.encode import Encoded, encode
from harness.data.errors import DataError
from harness.data.manifest import Numbers
from harness.data.source import SPLITS, Source
from harness.data.threads import in_order
from harness.data.writer import Sample

Progress = Callable[[int, int], None]  # images done, of how many

SMALL = 224  # pixels a side: what training at full size crops from
UNLISTED = ("nyu-depth", "nyu-depth-labelled", "imagenette")  # not in the paper's table of datasets
PROBES, RUN = 10, 20  # the size is estimated from so many places, at each from so many images in a row


@dataclass
class Tally:
    """What happened to the images."""

    converted: Counter[str] = field(default_factory=Counter)
    grey: int = 0
    small: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)

    def as_facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {"converted": dict(self.converted), "grey": self.grey, "small": self.small, "skipped": self.skipped}


class Intake:
    """Reads a source for its files. Raises DataError where an image is broken, unless those are to be left out."""

    def __init__(self, name: str, source: Source, facts: Facts, skip_broken: bool, progress: Progress) -> None:
        self.source, self.facts, self.skip_broken, self._progress = source, facts, skip_broken, progress
        self.tally = Tally()
        self._name = name
        self._split = np.full(len(source.names), "", dtype="U5")
        for split in SPLITS:
            self._split[source.splits[split]] = split
        self._done, self._total = 0, int((self._split != "").sum())
        self._shape: tuple[int, int] | None = None

    def samples(self, numbers: Numbers) -> Iterator[Sample]:
        """The samples with these numbers, in their order; without the broken ones if those are left out."""
        for sample, encoded, reason in in_order(self._attempt, numbers.tolist()):
            self._done += 1
            self._progress(self._done, self._total)
            if encoded:
                self._count(encoded, sample.index)
                yield sample
            else:
                name, split = self.source.names[sample.index], str(self._split[sample.index])
                self.tally.skipped.append({"name": name, "split": split, "reason": reason})

    def split(self, split: str) -> Numbers:
        """The numbers of a split's images, without those left out so far."""
        numbers = self.source.splits[split]
        names = {one["name"] for one in self.tally.skipped}
        return np.array([n for n in numbers.tolist() if self.source.names[n] not in names], dtype=np.int64)

    def estimated_bytes(self, numbers: Numbers) -> int:
        """About how large the samples with these numbers will be, judged by some of them."""
        starts = np.linspace(0, max(len(numbers) - RUN, 0), PROBES).astype(int)
        probes = np.unique((starts[:, None] + np.arange(RUN)).clip(max=len(numbers) - 1))
        sizes = [
            len(sample.image) + len(sample.target) for sample, *_ in in_order(self._attempt, numbers[probes].tolist())
        ]
        return round(float(np.mean(sizes)) * len(numbers))

    def _attempt(self, number: int) -> tuple[Sample, Encoded | None, str]:
        """A sample; or one without an image and the reason, if broken ones are left out."""
        label = int(self.source.labels[number])
        try:
            encoded, target = self._read(number)
        except (DataError, OSError) as error:
            if not self.skip_broken:
                named = f"{self._name}: image {self.source.names[number]} (number {number}): {error}"
                raise DataError(f"{named}; fetch it again, or leave such images out with --skip-broken") from error
            return Sample(b"", b"", label, number, 0, 0), None, str(error)
        return Sample(encoded.data, target, label, number, encoded.height, encoded.width), encoded, ""

    def _read(self, number: int) -> tuple[Encoded, bytes]:
        encoded, target = encode(self.source.image(number), self.facts.store), self.source.target(number)
        if self.facts.record != "class":
            from harness.data import records  # noqa: PLC0415 - for few datasets

            try:
                records.check(self.facts.record, target, self.facts.classes, encoded.height, encoded.width)
            except DataError as error:
                named = f"{self.source.target_file(number)}: " if self.source.target_file else ""
                raise DataError(f"{named}{error}") from error
        return encoded, target

    def _count(self, encoded: Encoded, number: int) -> None:
        shape = encoded.height, encoded.width
        self._shape = self._shape or shape
        if self.facts.store == "raw" and shape != self._shape:
            raise DataError(
                f"{self._name}: image {self.source.names[number]} has {shape[0]} x {shape[1]} pixels, others have "
                f"{self._shape[0]} x {self._shape[1]}; raw images must have one size"
            )
        self.tally.converted.update([encoded.converted] if encoded.converted else [])
        self.tally.grey += encoded.grey
        self.tally.small += min(shape) < SMALL


def examine(name: str, source: Source, facts: Facts) -> None:
    """Compare a source with the facts before any image is read; DataError where it is another dataset, or broken."""
    labels, names, classes = source.labels, source.names, len(source.classes)
    joined = np.concatenate([source.splits[split] for split in SPLITS])
    if classes != facts.classes:
        raise DataError(f"{name}: there are {classes} classes, not {facts.classes}{_as_published(name, facts)}")
    for split in SPLITS:
        numbers = source.splits[split]
        if len(numbers) != facts.images(split):
            wanted = f"{facts.images(split)}{_as_published(name, facts)}"
            raise DataError(f"{name}: the {split} split has {len(numbers)} images, not {wanted}; is a file missing?")
        if (np.diff(numbers) <= 0).any():
            raise DataError(f"{name}: the numbers of the {split} split do not ascend")
    if len(np.unique(joined)) != len(joined) or joined.min() < 0 or joined.max() >= len(names):
        raise DataError(f"{name}: the splits overlap, or name images that are not there")
    if len(labels) != len(names) or len(set(names)) != len(names) or any("\n" in one for one in names):
        raise DataError(f"{name}: there are {len(labels)} labels and {len(set(names))} names for {len(names)} images")
    strange = joined[(labels[joined] < 0) | (labels[joined] >= classes)] if facts.record == "class" else joined[:0]
    if strange.size:
        first = int(strange[0])
        raise DataError(f"{name}: image {names[first]} has the label {labels[first]}; labels are 0 to {classes - 1}")
    absent = missing_classes(labels[source.splits["train"]], classes) if facts.record == "class" else []
    if absent:
        raise DataError(f"{name}: class {source.classes[absent[0]]!r} has no training image")


def missing_classes(labels: Numbers, classes: int) -> list[int]:
    """The classes that no label names."""
    return np.flatnonzero(np.bincount(labels, minlength=classes) == 0).tolist()


def _as_published(name: str, facts: Facts) -> str:
    return "" if facts.stand_in or name in UNLISTED else " (the paper's Table 10)"
