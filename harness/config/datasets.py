"""The facts about each dataset that bear a run's identity or its length; how it is read is harness.data's.

Three kinds of names: a dataset of the paper's Table 10 (and a few more), `NAME-stand-in`, its generated twin in the
same layout on disk, and `NAME-500px`, the same images stored with their longer side limited to 500 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

STAND_IN = "-stand-in"
STAND_IN_CLASSES = 5
STAND_IN_PER_CLASS = {"train": 24, "valid": 6, "test": 10}
LONGEST_SIDES = (256, 400, 500)  # pixels

# What a sample carries beside its image: a class, one flag a class, boxes, a class for each pixel, or metres for each.
RecordType = Literal["class", "labels", "boxes", "mask", "depth"]
Metric = Literal["top1", "mean_per_class", "map11", "ap50", "miou", "depth"]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """version moves when images or labels would; split_id names the split rule or the hash of its index lists.

    store: `original` keeps each JPEG's own bytes, `raw` holds pixels of one size, `longest-side-N` limits the images.
    """

    version: int
    classes: int
    train_images: int
    valid_images: int
    test_images: int
    split_id: str
    store: str = "original"
    stand_in: bool = False
    record: RecordType = "class"
    metric: Metric = "top1"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def images(self, split: str) -> int:
        """How many images a split holds; `train+valid` is both together.

        A list ends in its percentage: `balanced-1` of the train split, `simclr-1` (or another) of both together.
        """
        name, _, percent = split.rpartition("-")
        if name == "balanced":
            return round(float(percent) / 100 * self.train_images)
        if name:  # cut off, as SimCLR's two lists are
            return int(float(percent) / 100 * self.images("train+valid"))
        return sum(int(getattr(self, f"{part}_images")) for part in split.split("+"))

    def identity(self) -> dict[str, Any]:
        """The facts that every spec on this dataset carries."""
        return {name: getattr(self, name) for name in ("version", "split_id", "store", "stand_in")}


def _facts(classes: int, train: int, valid: int, test: int, split_id: str, **rest: Any) -> Facts:
    return Facts(
        version=1,
        classes=classes,
        train_images=train,
        valid_images=valid,
        test_images=test,
        split_id=split_id,
        **rest,
    )


# The paper's Table 10. A split_id says where the valid split comes from: `official`, or N images of the owner's train
# split, `balanced` over the classes or `random`, drawn by the sha256 of their names.
_REAL = {
    "imagenet": _facts(1000, 1_271_158, 10_009, 50_000, "last-10009-of-md5-order"),
    "food101": _facts(101, 68_175, 7_575, 25_250, "balanced-75"),
    "cifar10": _facts(10, 45_000, 5_000, 10_000, "balanced-500", store="raw"),
    "cifar100": _facts(100, 44_933, 5_067, 10_000, "random-5067", store="raw"),
    "birdsnap": _facts(500, 42_405, 4_981, 2_443, "random-4981"),
    "sun397": _facts(397, 15_880, 3_970, 19_850, "partition-01-balanced-10"),
    "cars": _facts(196, 6_494, 1_650, 8_041, "random-1650"),
    "aircraft": _facts(100, 3_334, 3_333, 3_333, "official", metric="mean_per_class"),
    "voc2007": _facts(20, 2_501, 2_510, 4_952, "official", record="labels", metric="map11"),
    "voc2007-boxes": _facts(20, 2_501, 2_510, 4_952, "official", record="boxes", metric="ap50"),
    # train_aug: the official train split and the images that the SBD annotated. Class 0 is the background.
    "voc2012": _facts(21, 8_463, 2_119, 1_449, "random-2119", record="mask", metric="miou"),
    "dtd": _facts(47, 1_880, 1_880, 1_880, "partition-1"),
    "pets": _facts(37, 2_940, 740, 3_669, "balanced-20", metric="mean_per_class"),
    # The counts of Table 10 (9144 images in all) need the background as a 102nd category, though it prints 101.
    "caltech101": _facts(102, 2_550, 510, 6_084, "random-25-and-5-a-class", metric="mean_per_class"),
    "flowers": _facts(102, 1_020, 1_020, 6_149, "official", metric="mean_per_class"),
    "places365": _facts(365, 1_785_210, 18_250, 36_500, "balanced-50"),
    # Not in Table 10. Depth: the 47584 training frames and 654 test frames of the commonly distributed h5 archive.
    "nyu-depth": _facts(0, 46_584, 1_000, 654, "random-1000", record="depth", metric="depth"),
    # The same test frames in the owners' own file, whose train list has 795 frames.
    "nyu-depth-labelled": _facts(0, 700, 95, 654, "random-95", record="depth", metric="depth"),
    "imagenette": _facts(10, 8_469, 1_000, 3_925, "balanced-100"),
}


def _stand_in(real: Facts) -> Facts:
    """A few small images of a few classes, split by the same rule."""
    classes = min(real.classes, STAND_IN_CLASSES)
    train, valid, test = (max(classes, 1) * STAND_IN_PER_CLASS[split] for split in ("train", "valid", "test"))
    return replace(real, classes=classes, train_images=train, valid_images=valid, test_images=test, stand_in=True)


DATASETS = {
    # scikit-learn's handwritten digits: built in, so the whole pipeline runs with nothing downloaded.
    "digits": _facts(10, 1_097, 200, 500, "368a552e0016798d", store="raw", stand_in=True),
    **_REAL,
    **{name + STAND_IN: _stand_in(real) for name, real in _REAL.items()},
    **{
        f"{name}-{side}px": replace(real, store=f"longest-side-{side}")
        for name, real in _REAL.items()
        for side in LONGEST_SIDES
        if real.store == "original" and real.record in ("class", "labels")
    },
}
REAL = ("digits", *_REAL)
