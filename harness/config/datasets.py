"""The facts about each dataset that bear a run's identity or its length; how it is read is harness.data's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """version moves when the stored bytes would; split_id names the split rule or the hash of its index lists."""

    version: int
    classes: int
    train_images: int
    valid_images: int
    test_images: int
    split_id: str
    store: str
    stand_in: bool
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def images(self, split: str) -> int:
        """How many images a split holds; `train+valid` is both together."""
        return sum(int(getattr(self, f"{part}_images")) for part in split.split("+"))

    def identity(self) -> dict[str, Any]:
        """The facts that every spec on this dataset carries."""
        return {name: getattr(self, name) for name in ("version", "split_id", "store", "stand_in")}


DATASETS = {
    "imagenet": Facts(
        version=1,
        classes=1000,
        train_images=1_271_158,
        valid_images=10_009,
        test_images=50_000,
        split_id="last-10009-of-md5-order",
        store="original",
        stand_in=False,
    ),
    # scikit-learn's handwritten digits: built in, so the whole pipeline runs with nothing downloaded.
    "digits": Facts(
        version=1,
        classes=10,
        train_images=1_097,
        valid_images=200,
        test_images=500,
        split_id="368a552e0016798d",
        store="raw",
        stand_in=True,
    ),
}
