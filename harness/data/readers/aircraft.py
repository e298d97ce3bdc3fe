"""FGVC-Aircraft (Maji et al., 2013): 100 variants, with the owners' train, valid and test splits.

The banner of 20 pixels at the bottom of each photograph, which names its author, is left as it is.
"""

from __future__ import annotations

from pathlib import Path

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.readers.layout import Folder, joined
from harness.data.source import Source
from harness.data.stand_in import jpeg, picture, put, samples

WHERE = "the FGVC-Aircraft page of Oxford (https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/)"
CLASSES = ("707-320", "A300B4", "BAE 146-200", "F/A-18", "Yak-42")  # of the stand-in
OFFICIAL = {"train": "train", "valid": "val", "test": "test"}


def read(source: Path, facts: Facts) -> Source:
    """The owners' images and splits, labelled with the variants."""
    root = located(source, "fgvc-aircraft-2013b", ("fgvc-aircraft-2013b.tar.gz",), WHERE)
    folder = Folder(root / "data", facts, WHERE)
    classes = folder.class_list("variants.txt")
    listing = joined(
        {split: folder.listed(f"images_variant_{part}.txt", classes, _image) for split, part in OFFICIAL.items()}
    )
    return folder.source(listing, classes, listing.splits)


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout."""
    root = target / "fgvc-aircraft-2013b/data"
    lists: dict[str, list[str]] = {part: [] for part in OFFICIAL.values()}
    for label, number, split in samples(facts):
        image = f"{1000 * (label + 1) + number:07d}"
        put(root / f"images/{image}.jpg", jpeg(picture(label, number)))
        lists[OFFICIAL[split]].append(f"{image} {CLASSES[label]}")
    put(root / "variants.txt", "\n".join(CLASSES) + "\n")
    for part, images in lists.items():
        put(root / f"images_variant_{part}.txt", "\n".join(images) + "\n")


def _image(line: str) -> tuple[str, str]:
    image, label = line.split(" ", 1)
    return f"images/{image}.jpg", label
