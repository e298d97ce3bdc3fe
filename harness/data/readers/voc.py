"""PASCAL VOC (Everingham et al.): classes and boxes of 2007, and masks of 2012 with those that the SBD added.

The SBD (Hariharan et al., 2011) drew masks for 11355 images of VOC. With the official train split, and without the
official validation split, they are the 10582 images called train_aug.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from harness.config.bounded import read_bounded
from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.errors import DataError
from harness.data.readers import voc_scenes
from harness.data.readers.layout import Folder, Listing, joined
from harness.data.records import ABSENT, DIFFICULT, PRESENT, decode_mask, encode_boxes, encode_labels, encode_mask
from harness.data.source import Source
from harness.data.splits import hold_out_random

WHERE = (
    "the VOC page of Oxford (http://host.robots.ox.ac.uk/pascal/VOC/) and, for 2012's benchmark.tgz, the SBD page of "
    "Berkeley (https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/)"
)
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
VOC2007, VOC2012, SBD = "VOCdevkit/VOC2007", "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"
OWNERS = {"train": "train", "valid": "val", "test": "test"}  # names of the owner's splits
TESTS = "VOCtest_06-Nov-2007"
FLAGS = {"1": PRESENT, "0": DIFFICULT, "-1": ABSENT}
ANNOTATION_BYTES = 1_000_000  # an image's objects take a few thousand
Mask = NDArray[np.uint8]


def read_classes(source: Path, facts: Facts) -> Source:
    """VOC 2007, the owner's three splits: which classes an image shows."""
    folder, listing = _voc2007(source, facts)
    classes = CLASSES[: facts.classes]
    flags = np.concatenate([_flags(folder, split, classes) for split in OWNERS.values()])
    found = folder.source(listing, classes, listing.splits)
    return replace(found, target=lambda number: encode_labels(flags[number]))


def read_boxes(source: Path, facts: Facts) -> Source:
    """VOC 2007, the owner's three splits: where its objects are."""
    folder, listing = _voc2007(source, facts)
    classes = CLASSES[: facts.classes]
    found = folder.source(listing, classes, listing.splits)
    annotations = [f"Annotations/{Path(name).stem}.xml" for name in listing.names]
    target = partial(_boxes, folder.root, annotations, classes)
    return replace(found, target=target, target_file=annotations.__getitem__)


def read_masks(source: Path, facts: Facts) -> Source:
    """VOC 2012: train_aug, part of it held out at random, and the official validation split, which tests here.

    Official masks come first. The SBD's are its own files, or the PNG files that many have made of them.
    """
    folder = Folder(located(source, VOC2012, ("VOCtrainval_11-May-2012.tar",), WHERE), facts, WHERE)
    official, tests = (_images(folder, f"ImageSets/Segmentation/{split}.txt") for split in ("train", "val"))
    added, extra, drawn = _augmentation(source, folder)
    train_aug = sorted({*official, *added} - {*tests})
    listing = joined({"train": _rows(train_aug), "test": _rows(tests)})
    own = {*official, *tests}
    images = [Path(name).stem for name in listing.names]
    files = [("SegmentationClass/{}.png" if image in own else drawn).format(image) for image in images]

    def target(number: int) -> bytes:
        file = files[number]
        return encode_mask(_sbd_mask(extra, file) if file.endswith(".mat") else _png_mask(folder.root / file))

    train, valid = hold_out_random(listing.names, listing.splits["train"], facts.valid_images, "voc2012")
    classes = ("background", *CLASSES)[: facts.classes]
    found = folder.source(listing, classes, {"train": train, "valid": valid, "test": listing.splits["test"]})
    return replace(found, target=target, target_file=files.__getitem__)


def stand_in_classes(target: Path, facts: Facts) -> None:
    """A generated set in the layout of 2007, with classes and boxes."""
    voc_scenes.write_2007(target / VOC2007, facts, CLASSES, OWNERS)


stand_in_boxes = stand_in_classes


def stand_in_masks(target: Path, facts: Facts) -> None:
    """A generated set in the layouts of 2012 and of the SBD."""
    voc_scenes.write_2012(target / VOC2012, target / SBD, facts)


def _voc2007(source: Path, facts: Facts) -> tuple[Folder, Listing]:
    root = located(source, VOC2007, ("VOCtrainval_06-Nov-2007.tar",), WHERE)
    _join_tests(source, root)
    folder = Folder(root, facts, WHERE)
    parts = {split: _rows(_images(folder, f"ImageSets/Main/{name}.txt")) for split, name in OWNERS.items()}
    return folder, joined(parts)


def _join_tests(source: Path, root: Path) -> None:
    """Unpack the archive of the test split into the folder of the others. Its list goes last: once there, all is."""
    last = Path("ImageSets/Main/test.txt")
    if (root / last).is_file():
        return
    unpacked = located(source, TESTS, (f"{TESTS}.tar",), WHERE)
    inner = unpacked / VOC2007
    files = [path.relative_to(inner) for path in inner.rglob("*") if path.is_file()]
    try:
        for file in sorted(files, key=lambda file: file == last):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (inner / file).replace(root / file)
        shutil.rmtree(unpacked)
    except OSError as error:
        raise DataError(f"{inner} cannot be moved into {root} ({error}); move it there yourself") from error


def _images(folder: Folder, file: str) -> list[str]:
    return [line for _, line in folder.lines(file)]


def _rows(images: Sequence[str]) -> list[tuple[str, int]]:
    return [(f"JPEGImages/{image}.jpg", -1) for image in images]


def _flags(folder: Folder, split: str, classes: Sequence[str]) -> NDArray[np.int8]:
    """What the owner's lists, one a class, say of each image of a split."""
    images = _images(folder, f"ImageSets/Main/{split}.txt")
    columns = []
    for name in classes:
        file = f"ImageSets/Main/{name}_{split}.txt"
        flags = {}
        for place, line in folder.lines(file):
            image, _, flag = line.partition(" ")
            if flag.strip() not in FLAGS:
                raise folder.wrong(f"{folder.root / file}, line {place}: {line!r} is not an image and 1, 0 or -1")
            flags[image] = FLAGS[flag.strip()]
        absent = [image for image in images if image not in flags]
        if absent:
            raise folder.wrong(f"{folder.root / file} lacks {len(absent)} images of the split, as {absent[0]}")
        columns.append([flags[image] for image in images])
    return np.array(columns, dtype=np.int8).T


def _boxes(root: Path, files: Sequence[str], classes: Sequence[str], number: int) -> bytes:
    path = root / files[number]
    try:
        parser = ElementTree.XMLParser(target=_Plain())  # noqa: S314  # which takes no entities
        parser.feed(read_bounded(path, ANNOTATION_BYTES))
        boxes = [_box(each, classes) for each in parser.close().findall("object")]
        return encode_boxes(np.array(boxes, dtype=np.int32))
    except (OSError, ElementTree.ParseError, ValueError, OverflowError) as error:
        raise DataError(f"{path} cannot be read ({error})") from error


class _Plain(ElementTree.TreeBuilder):
    """Builds a tree of what needs no document type: only one could declare entities, which grow without end."""

    def doctype(self, name: str, _public: str | None, _system: str | None) -> None:
        """Refuse it where it begins, before an entity is declared."""
        raise ValueError(f"it declares a document type {name!r}, which no annotation needs")


def _box(each: ElementTree.Element, classes: Sequence[str]) -> list[int]:
    """The owner counts pixels from 1, and the right and bottom ones belong to the box."""
    name = each.findtext("name", "")
    if name not in classes:
        raise ValueError(f"{name!r} is none of the {len(classes)} classes")
    left, top, right, bottom = (
        round(float(each.findtext(f"bndbox/{side}", ""))) for side in ("xmin", "ymin", "xmax", "ymax")
    )
    return [left - 1, top - 1, right, bottom, classes.index(name), int(each.findtext("difficult", "0"))]


def _augmentation(source: Path, folder: Folder) -> tuple[list[str], Folder, str]:
    """The images that have masks beside the official ones, and where the mask of an image is."""
    if (folder.root / "SegmentationClassAug").is_dir():
        return _images(folder, "ImageSets/Segmentation/trainaug.txt"), folder, "SegmentationClassAug/{}.png"
    sbd = Folder(located(source, SBD, ("benchmark.tgz",), WHERE), folder.facts, WHERE)
    return [*_images(sbd, "train.txt"), *_images(sbd, "val.txt")], sbd, "cls/{}.mat"


def _png_mask(path: Path) -> Mask:
    try:
        return decode_mask(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _sbd_mask(sbd: Folder, file: str) -> Mask:
    found = sbd.matlab(file, "GTcls")[0]
    if "Segmentation" not in (found.dtype.names or ()):
        raise DataError(f"{sbd.root / file} has no Segmentation")
    mask = np.asarray(found["Segmentation"])
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise DataError(f"Segmentation in {sbd.root / file} is {mask.dtype} {mask.shape}, not uint8 (., .)")
    return mask
