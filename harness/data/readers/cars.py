"""Stanford Cars (Krause et al., 2013): 196 models, 8144 training and 8041 test photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.readers.layout import Folder, home, joined
from harness.data.source import Source
from harness.data.splits import hold_out_random
from harness.data.stand_in import jpeg, picture, put, samples

WHERE = (
    "a copy of the Stanford Cars (the owner's page, http://ai.stanford.edu/~jkrause/cars/car_dataset.html, no longer "
    "offers the files: car_devkit.tgz, cars_train.tgz, cars_test.tgz, cars_test_annos_withlabels.mat)"
)
CLASSES = (  # of the stand-in
    "AM General Hummer SUV 2000",
    "Acura RL Sedan 2012",
    "Audi TT RS Coupe 2012",
    "Ram C/V Cargo Van Minivan 2012",
    "smart fortwo Convertible 2012",
)
TRAINING, TESTING = "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"


def read(source: Path, facts: Facts) -> Source:
    """The owner's train split, part of it held out at random, and the owner's test split."""
    root = home(source, "stanford_cars")
    for part, archive in (
        ("devkit", "car_devkit.tgz"),
        ("cars_train", "cars_train.tgz"),
        ("cars_test", "cars_test.tgz"),
    ):
        located(root, part, (archive,), WHERE)
    folder = Folder(root, facts, WHERE)
    classes = tuple(str(name) for name in folder.matlab("devkit/cars_meta.mat", "class_names"))
    listing = joined({"train": _images(folder, TRAINING, "cars_train"), "test": _images(folder, TESTING, "cars_test")})
    train, valid = hold_out_random(listing.names, listing.splits["train"], facts.valid_images, "cars")
    return folder.source(listing, classes, {"train": train, "valid": valid, "test": listing.splits["test"]})


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout. Numbers run through the classes, as the owner's do."""
    from scipy.io import savemat  # noqa: PLC0415 - slow to import, and preparing alone needs it

    root = target / "stanford_cars"
    rows: dict[str, list[tuple[object, ...]]] = {"cars_train": [], "cars_test": []}
    for label, number, split in sorted(samples(facts), key=lambda sample: sample[1]):
        part = "cars_test" if split == "test" else "cars_train"
        pixels, name = picture(label, number), f"{len(rows[part]) + 1:05d}.jpg"
        put(root / part / name, jpeg(pixels))
        rows[part].append((1, 1, pixels.shape[1], pixels.shape[0], label + 1, name))
    (root / "devkit").mkdir(parents=True, exist_ok=True)
    fields = [(name, object) for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
    for file, part in ((TRAINING, "cars_train"), (TESTING, "cars_test")):
        savemat(root / file, {"annotations": np.array(rows[part], dtype=fields)[None]})
    savemat(root / "devkit/cars_meta.mat", {"class_names": np.array([CLASSES], dtype=object)})


def _images(folder: Folder, file: str, part: str) -> list[tuple[str, int]]:
    annotations = folder.matlab(file, "annotations")
    if "class" not in (annotations.dtype.names or ()):
        raise folder.wrong(f"{folder.root / file} holds no classes")  # the devkit's own list of test images
    labels = folder.class_numbers(file, (int(row["class"]) for row in annotations), first=1)
    names = [f"{part}/{row['fname']}" for row in annotations]
    return list(zip(names, labels.tolist(), strict=True))
