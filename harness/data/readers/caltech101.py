"""Caltech-101 (Fei-Fei et al., 2004): 9144 images of 101 kinds of objects and of the background, a class as well.

The owners give no splits. The paper's protocol draws 25 training and 5 validation images of every class; all others
are for testing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.readers.layout import Folder, Listing, home
from harness.data.source import Source
from harness.data.splits import hold_out_balanced
from harness.data.stand_in import jpeg, picture, put, samples

WHERE = "CaltechDATA (https://data.caltech.edu/records/mzrjq-6wc02: caltech-101.zip)"
CLASSES = ("BACKGROUND_Google", "Faces_easy", "accordion", "airplanes", "yin_yang")  # of the stand-in


def read(source: Path, facts: Facts) -> Source:
    """All images, the same number of every class drawn for training and validation by the hash of their names."""
    folder = Folder(_root(source), facts, WHERE)
    classes = folder.class_folders()
    names = [f"{name}/{file.name}" for name in classes for file in sorted((folder.root / name).glob("image_*.jpg"))]
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name.split("/")[0]] for name in names], dtype=np.int64)
    train_each, valid_each = (facts.images(split) // facts.classes for split in ("train", "valid"))
    everything = np.arange(len(names))
    test, drawn = hold_out_balanced(names, labels, everything, train_each + valid_each, "caltech101")
    train, valid = hold_out_balanced(names, labels, drawn, valid_each, "caltech101")
    listing = Listing(names, labels, {"all": everything})
    return folder.source(listing, classes, {"train": train, "valid": valid, "test": test})


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout."""
    for label, number, _ in samples(facts):
        put(target / f"101_ObjectCategories/{CLASSES[label]}/image_{number + 1:04d}.jpg", jpeg(picture(label, number)))


def _root(source: Path) -> Path:
    """The folder of images. The archive that is offered today has the older one inside."""
    outer = home(home(source, "caltech101"), "caltech-101")
    if (outer / "caltech-101.zip").is_file() and not (outer / "101_ObjectCategories").is_dir():
        outer = located(outer, "caltech-101", ("caltech-101.zip",), WHERE)
    return located(outer, "101_ObjectCategories", ("101_ObjectCategories.tar.gz",), WHERE)
