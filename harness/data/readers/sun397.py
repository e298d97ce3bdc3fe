"""SUN397 (Xiao et al., 2010): 397 scenes, by the first of the owners' ten partitions.

It has 50 training and 50 test images of each scene. The archive holds more (108754 in all); the others are in no split.
"""

from __future__ import annotations

from pathlib import Path

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.readers.layout import Folder, joined
from harness.data.source import Source
from harness.data.splits import hold_out_balanced
from harness.data.stand_in import jpeg, picture, put, samples

WHERE = "the SUN397 page of Princeton (https://vision.princeton.edu/projects/2010/SUN/: SUN397.tar.gz, Partitions.zip)"
CLASSES = (  # of the stand-in
    "/a/abbey",
    "/a/airplane_cabin",
    "/a/apartment_building/outdoor",
    "/b/badminton_court/indoor",
    "/y/youth_hostel",
)


def read(source: Path, facts: Facts) -> Source:
    """The training images of partition 1, part of them held out evenly over the classes, and its test images."""
    folder = Folder(located(source, "SUN397", ("SUN397.tar.gz",), WHERE), facts, WHERE)
    classes = folder.class_list("ClassName.txt")
    lists = folder
    if not (folder.root / "Training_01.txt").is_file():  # some unpack the partitions among the images
        lists = Folder(located(source, "Partitions", ("Partitions.zip",), WHERE), facts, WHERE)
    listing = joined(
        {
            "train": lists.listed("Training_01.txt", classes, _image),
            "test": lists.listed("Testing_01.txt", classes, _image),
        }
    )
    per_class = facts.valid_images // facts.classes
    train, valid = hold_out_balanced(listing.names, listing.labels, listing.splits["train"], per_class, "sun397")
    return folder.source(listing, classes, {"train": train, "valid": valid, "test": listing.splits["test"]})


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout, with one image a class that is in no list."""
    root = target / "SUN397"
    lists: dict[str, list[str]] = {"Training_01.txt": [], "Testing_01.txt": []}
    for label, number, split in samples(facts):
        image = f"{CLASSES[label]}/sun_{number:04d}{label}.jpg"
        put(root / image[1:], jpeg(picture(label, number)))
        lists["Testing_01.txt" if split == "test" else "Training_01.txt"].append(image)
    for label, name in enumerate(CLASSES):
        put(root / f"{name[1:]}/sun_unlisted.jpg", jpeg(picture(label, 1000)))
    put(root / "ClassName.txt", "\n".join(CLASSES) + "\n")
    for file, images in lists.items():
        put(target / "Partitions" / file, "\n".join(images) + "\n")


def _image(line: str) -> tuple[str, str]:
    label, _ = line.rsplit("/", 1)
    return line[1:], label
