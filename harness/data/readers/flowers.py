"""Oxford 102 Flowers (Nilsback and Zisserman, 2008), with the owners' train, valid and test splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.readers.layout import Folder, home, joined
from harness.data.source import Source
from harness.data.stand_in import jpeg, picture, put, samples

WHERE = "the 102 Flowers page of Oxford (https://www.robots.ox.ac.uk/~vgg/data/flowers/102/)"
OFFICIAL = {"train": "trnid", "valid": "valid", "test": "tstid"}


def read(source: Path, facts: Facts) -> Source:
    """The owners' images and splits. Their classes have numbers and no names."""
    root = home(source, "flowers-102")
    located(root, "jpg", ("102flowers.tgz",), WHERE)
    folder = Folder(root, facts, WHERE)
    labels = folder.class_numbers("imagelabels.mat", folder.matlab("imagelabels.mat", "labels"), first=1)
    parts = {split: folder.matlab("setid.mat", variable).astype(np.int64) for split, variable in OFFICIAL.items()}
    for part in parts.values():
        strange = [number for number in part if not 1 <= number <= len(labels)]
        if strange:
            raise folder.wrong(
                f"{root / 'setid.mat'} names image {strange[0]}; there are labels for {len(labels)} images"
            )
    listing = joined(
        {split: [(f"jpg/image_{n:05d}.jpg", int(labels[n - 1])) for n in part] for split, part in parts.items()}
    )
    return folder.source(listing, tuple(str(number) for number in range(1, facts.classes + 1)), listing.splits)


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout. Labels start with the last class, so that their order is not the images'."""
    from scipy.io import savemat  # noqa: PLC0415 - slow to import, and preparing alone needs it

    root = target / "flowers-102"
    labels: list[int] = []
    parts: dict[str, list[int]] = {variable: [] for variable in OFFICIAL.values()}
    for label, number, split in sorted(samples(facts), key=lambda sample: (-sample[0], sample[1])):
        labels.append(label + 1)
        parts[OFFICIAL[split]].append(len(labels))
        put(root / f"jpg/image_{len(labels):05d}.jpg", jpeg(picture(label, number)))
    savemat(root / "imagelabels.mat", {"labels": np.array(labels, dtype=np.uint8)})
    savemat(root / "setid.mat", {name: np.array(numbers, dtype=np.uint16) for name, numbers in parts.items()})
