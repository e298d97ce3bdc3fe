"""Places365-Standard (Zhou et al., 2017): 1803460 training photographs of 365 kinds of places.

The labels of the owner's test split are not public, so the owner's validation split tests here. Images come in full
size or as 256 x 256 pixels; the names, and so the splits, are the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.readers.layout import Folder, home, joined
from harness.data.source import Source
from harness.data.splits import hold_out_balanced
from harness.data.stand_in import jpeg, picture, put, samples

WHERE = "the Places2 page of MIT (http://places2.csail.mit.edu/download.html), Places365-Standard"
CATEGORIES = ("/a/airfield", "/a/airplane_cabin", "/b/bank_vault", "/f/field/wild", "/z/zen_garden")  # of the stand-in
LISTS = {"train": "places365_train_standard.txt", "test": "places365_val.txt"}
SIZES = {"large": "train_large_places365standard.tar", "256": "train_256_places365standard.tar"}


def read(source: Path, facts: Facts) -> Source:
    """The owner's train split, part of it held out evenly over the classes, and the owner's validation split."""
    root = home(source, "places365")
    train_images, test_images = _images(root)
    lists = Folder(_lists(root), facts, WHERE)
    classes = _categories(lists)
    numbers = [str(number) for number in range(facts.classes)]
    listing = joined({split: lists.listed(file, numbers, _image) for split, file in LISTS.items()})
    owners = listing.splits
    per_class = facts.valid_images // facts.classes
    train, valid = hold_out_balanced(listing.names, listing.labels, owners["train"], per_class, "places365")
    folders = [train_images] * len(owners["train"]) + [test_images] * len(owners["test"])
    paths = [f"{folder}/{name}" for folder, name in zip(folders, listing.names, strict=True)]
    splits = {"train": train, "valid": valid, "test": owners["test"]}
    found = Folder(root, facts, WHERE).source(listing._replace(names=paths), classes, splits)
    return replace(found, names=listing.names)


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout, in full size."""
    lines: dict[str, list[str]] = {split: [] for split in LISTS}
    for label, number, split in samples(facts):
        part = "test" if split == "test" else "train"
        if part == "test":
            folder, image = "val_large", f"Places365_val_{len(lines[part]) + 1:08d}.jpg"
        else:
            folder, image = "data_large_standard", f"{CATEGORIES[label]}/{number + 1:08d}.jpg"
        put(target / f"places365/{folder}/{image.lstrip('/')}", jpeg(picture(label, number)))
        lines[part].append(f"{image} {label}")
    for part, file in LISTS.items():
        put(target / "places365" / file, "\n".join(lines[part]) + "\n")
    categories = "".join(f"{name} {number}\n" for number, name in enumerate(CATEGORIES))
    put(target / "places365/categories_places365.txt", categories)


def _images(root: Path) -> tuple[str, str]:
    """The folders of the train and validation images, of the size that is there."""
    held = [
        size
        for size, archive in SIZES.items()
        if (root / archive).is_file() or any((root / name).is_dir() for name in _names(size))
    ]
    size = held[0] if held else "large"
    unpacked, renamed = _names(size)
    train = renamed if (root / renamed).is_dir() else unpacked
    located(root, train, (SIZES[size],), WHERE)
    located(root, f"val_{size}", (f"val_{size}.tar",), WHERE)
    return train, f"val_{size}"


def _names(size: str) -> tuple[str, str]:
    """The folder of training images as its archive names it, and as torchvision does."""
    return f"data_{size}", f"data_{size}_standard"


def _lists(root: Path) -> Path:
    """The folder of the lists: beside the images, or unpacked from their archive."""
    if (root / "categories_places365.txt").is_file():
        return root
    return located(root, "filelist_places365-standard", ("filelist_places365-standard.tar",), WHERE)


def _categories(lists: Folder) -> tuple[str, ...]:
    """The classes, which their list numbers from 0."""
    file = "categories_places365.txt"
    names = []
    for number, line in enumerate(lists.class_list(file)):
        name, *rest = line.split()
        if rest != [str(number)]:
            raise lists.wrong(f"{lists.root / file}: {line!r} is not class {number}")
        names.append(name)
    return tuple(names)


def _image(line: str) -> tuple[str, str]:
    image, label = line.split()
    return image.lstrip("/"), label
