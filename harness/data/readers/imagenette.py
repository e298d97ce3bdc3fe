"""Imagenette (version 2): ten easy classes of ImageNet, 9469 training and 3925 validation images; the latter test here.

The sets with a shorter side of 320 or 160 pixels have the same names, so the same splits.
"""

from __future__ import annotations

from pathlib import Path

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.readers.imagenet import WNIDS, class_tree
from harness.data.readers.layout import Folder, joined
from harness.data.source import Source
from harness.data.splits import hold_out_balanced
from harness.data.stand_in import jpeg, picture, put, samples

WHERE = "fast.ai's Imagenette page (https://github.com/fastai/imagenette)"
FOLDERS = ("imagenette2", "imagenette2-320", "imagenette2-160")


def read(source: Path, facts: Facts) -> Source:
    """The owner's train split, part of it held out evenly over the classes, and the owner's validation split."""
    held = [name for name in FOLDERS if (source / name).is_dir() or (source / f"{name}.tgz").is_file()]
    name = held[0] if held else (source.name if source.name in FOLDERS else FOLDERS[0])
    folder = Folder(located(source, name, (f"{name}.tgz",), WHERE), facts, WHERE)
    classes = folder.class_folders("train")
    listing = joined(
        {split: class_tree(folder, part, classes) for split, part in (("train", "train"), ("test", "val"))}
    )
    per_class = facts.valid_images // facts.classes
    train, valid = hold_out_balanced(listing.names, listing.labels, listing.splits["train"], per_class, "imagenette")
    return folder.source(listing, classes, {"train": train, "valid": valid, "test": listing.splits["test"]})


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout. As the owner's, it names its images as ImageNet's train split does."""
    for label, number, split in samples(facts):
        part = "val" if split == "test" else "train"
        put(target / f"imagenette2/{part}/{WNIDS[label]}/{WNIDS[label]}_{number}.JPEG", jpeg(picture(label, number)))
