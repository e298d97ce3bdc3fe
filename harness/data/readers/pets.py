"""Oxford-IIIT Pets (Parkhi et al., 2012): 37 breeds of cats and dogs.

Some of the owners' .jpg files are PNG or GIF inside; they are read as they are.
"""

from __future__ import annotations

from pathlib import Path

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.readers.layout import Folder, home, joined
from harness.data.source import Source
from harness.data.splits import hold_out_balanced
from harness.data.stand_in import jpeg, picture, png, put, samples

WHERE = "the Pets page of Oxford (https://www.robots.ox.ac.uk/~vgg/data/pets/)"
BREEDS = ("Abyssinian", "american_bulldog", "Egyptian_Mau", "Russian_Blue", "yorkshire_terrier")  # of the stand-in
CATS = ("Abyssinian", "Egyptian_Mau", "Russian_Blue")


def read(source: Path, facts: Facts) -> Source:
    """The owners' train and validation images, part of them held out evenly over the classes, and their test images."""
    root = home(source, "oxford-iiit-pet")
    for part in ("images", "annotations"):
        located(root, part, (f"{part}.tar.gz",), WHERE)
    folder = Folder(root, facts, WHERE)
    numbers = [str(number) for number in range(1, facts.classes + 1)]
    listing = joined(
        {
            "train": folder.listed("annotations/trainval.txt", numbers, _image),
            "test": folder.listed("annotations/test.txt", numbers, _image),
        }
    )
    breeds = {label: _breed(name) for name, label in zip(listing.names, listing.labels.tolist(), strict=True)}
    per_class = facts.valid_images // facts.classes
    train, valid = hold_out_balanced(listing.names, listing.labels, listing.splits["train"], per_class, "pets")
    splits = {"train": train, "valid": valid, "test": listing.splits["test"]}
    return folder.source(listing, tuple(breeds[label] for label in sorted(breeds)), splits)


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout; the first image of each class is a PNG named .jpg."""
    root = target / "oxford-iiit-pet"
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for label, number, split in samples(facts):
        image, pixels = f"{BREEDS[label]}_{number + 1}", picture(label, number)
        put(root / f"images/{image}.jpg", jpeg(pixels) if number else png(pixels))
        species = 1 if BREEDS[label] in CATS else 2
        lists["test" if split == "test" else "trainval"].append(f"{image} {label + 1} {species} 1")
    for part, images in lists.items():
        put(root / f"annotations/{part}.txt", "\n".join(images) + "\n")


def _image(line: str) -> tuple[str, str]:
    image, label, _, _ = line.split()
    return f"images/{image}.jpg", label


def _breed(name: str) -> str:
    """`images/american_bulldog_10.jpg` is an american_bulldog."""
    return name.removeprefix("images/").rsplit("_", 1)[0]
