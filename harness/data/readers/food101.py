"""Food-101 (Bossard et al., 2014): 750 training and 250 test photographs of each of 101 dishes."""

from __future__ import annotations

import json
from pathlib import Path

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.readers.layout import Folder, joined
from harness.data.source import Source
from harness.data.splits import hold_out_balanced
from harness.data.stand_in import jpeg, picture, put, samples

WHERE = "the Food-101 page of ETH Zurich (https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/)"
CLASSES = ("apple_pie", "baby_back_ribs", "baklava", "beef_carpaccio", "beef_tartare")  # of the stand-in


def read(source: Path, facts: Facts) -> Source:
    """The owner's train split, part of it held out evenly over the classes, and the owner's test split."""
    folder = Folder(located(source, "food-101", ("food-101.tar.gz",), WHERE), facts, WHERE)
    classes = folder.class_folders("images")
    listing = joined({split: folder.listed(f"meta/{split}.txt", classes, _image) for split in ("train", "test")})
    per_class = facts.valid_images // facts.classes
    train, valid = hold_out_balanced(listing.names, listing.labels, listing.splits["train"], per_class, "food101")
    return folder.source(listing, classes, {"train": train, "valid": valid, "test": listing.splits["test"]})


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout."""
    root = target / "food-101"
    images: dict[str, dict[str, list[str]]] = {split: {name: [] for name in CLASSES} for split in ("train", "test")}
    for label, number, split in samples(facts):
        image = f"{CLASSES[label]}/{1000 * number + 39}"
        put(root / f"images/{image}.jpg", jpeg(picture(label, number)))
        images["test" if split == "test" else "train"][CLASSES[label]].append(image)
    put(root / "meta/classes.txt", "\n".join(CLASSES) + "\n")
    for split, by_class in images.items():
        put(root / f"meta/{split}.json", json.dumps(by_class))
        put(root / f"meta/{split}.txt", "".join(f"{image}\n" for each in by_class.values() for image in each))


def _image(line: str) -> tuple[str, str]:
    label, image = line.split("/")
    return f"images/{label}/{image}.jpg", label
