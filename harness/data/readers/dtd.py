"""Describable Textures (Cimpoi et al., 2014): 47 classes, by the first of the owners' ten partitions."""

from __future__ import annotations

from pathlib import Path

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.readers.layout import Folder, home, joined
from harness.data.source import Source
from harness.data.stand_in import jpeg, picture, put, samples

WHERE = "the DTD page of Oxford (https://www.robots.ox.ac.uk/~vgg/data/dtd/)"
CLASSES = ("banded", "blotchy", "braided", "bubbly", "zigzagged")  # of the stand-in
LISTS = {"train": "labels/train1.txt", "valid": "labels/val1.txt", "test": "labels/test1.txt"}


def read(source: Path, facts: Facts) -> Source:
    """The images and splits of partition 1."""
    root = home(located(source, "dtd", ("dtd-r1.0.1.tar.gz",), WHERE), "dtd")
    folder = Folder(root, facts, WHERE)
    classes = folder.class_folders("images")
    listing = joined({split: folder.listed(file, classes, _image) for split, file in LISTS.items()})
    return folder.source(listing, classes, listing.splits)


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout."""
    root = target / "dtd"
    lists: dict[str, list[str]] = {split: [] for split in LISTS}
    for label, number, split in samples(facts):
        image = f"{CLASSES[label]}/{CLASSES[label]}_{number:04d}.jpg"
        put(root / "images" / image, jpeg(picture(label, number)))
        lists[split].append(image)
    for split, file in LISTS.items():
        put(root / file, "\n".join(lists[split]) + "\n")


def _image(line: str) -> tuple[str, str]:
    label, _ = line.split("/")
    return f"images/{line}", label
