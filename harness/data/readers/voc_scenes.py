"""The pictures of VOC's stand-ins: one to three textured ellipses on a dark ground, with their boxes and masks."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.config.datasets import Facts
from harness.data.records import ABSENT, DIFFICULT, PRESENT, VOID
from harness.data.stand_in import jpeg, picture, put, samples


class Scene(NamedTuple):
    """A picture; left, top, right, bottom, class and difficulty of its objects; each pixel's class + 1, or 0."""

    pixels: NDArray[np.uint8]
    boxes: list[tuple[int, int, int, int, int, int]]
    mask: NDArray[np.uint8]


def scene(label: int, number: int, classes: int) -> Scene:
    """The first object is of class `label`, a third one is difficult; later ones lie over earlier ones."""
    pixels = picture(number, number) // 4
    full_height, full_width, _ = pixels.shape
    mask = np.zeros((full_height, full_width), dtype=np.uint8)
    boxes = []
    for place in range(1 + number % 3):
        u = np.frombuffer(hashlib.sha256(f"{label}/{number}/{place}".encode()).digest(), dtype=">u4") / 2**32
        kind = label if place == 0 else int(u[0] * classes)
        height, width = int(full_height * (0.25 + 0.35 * u[1])), int(full_width * (0.25 + 0.35 * u[2]))
        top, left = int((full_height - height) * u[3]), int((full_width - width) * u[4])
        y, x = np.mgrid[:height, :width]
        inside = ((2 * y + 1) / height - 1) ** 2 + ((2 * x + 1) / width - 1) ** 2 <= 1
        window = (slice(top, top + height), slice(left, left + width))
        pixels[window][inside] = picture(kind, 3 * number + place)[:height, :width][inside]
        mask[window][inside] = kind + 1
        boxes.append((left, top, left + width, top + height, kind, int(place == 2)))
    return Scene(pixels, boxes, mask)


def write_2007(root: Path, facts: Facts, classes: Sequence[str], owners: Mapping[str, str]) -> None:
    """Scenes in the layout of VOC 2007; `owners` has its names of the splits."""
    lists: dict[str, str] = {}
    for count, (label, number, split) in enumerate(samples(facts), start=1):
        image, found = f"{count:06d}", scene(label, number, facts.classes)
        put(root / f"JPEGImages/{image}.jpg", jpeg(found.pixels))
        put(root / f"Annotations/{image}.xml", _annotation(found, classes))
        lists[owners[split]] = lists.get(owners[split], "") + f"{image}\n"
        for kind in range(facts.classes):
            difficult = [box[5] for box in found.boxes if box[4] == kind]
            flag = (DIFFICULT if all(difficult) else PRESENT) if difficult else ABSENT
            name = f"{classes[kind]}_{owners[split]}"
            lists[name] = lists.get(name, "") + f"{image} {flag:2d}\n"
    for name, lines in lists.items():
        put(root / f"ImageSets/Main/{name}.txt", lines)


def write_2012(root: Path, sbd: Path, facts: Facts) -> None:
    """Scenes in the layouts of VOC 2012 and of the SBD, which share some images, as the real ones do."""
    from scipy.io import savemat  # noqa: PLC0415 - slow to import, and generating alone needs it

    lists: dict[Path, str] = {}
    (sbd / "cls").mkdir(parents=True)
    kinds = facts.classes - 1  # class 0 is the background
    for count, (label, number, split) in enumerate(samples(facts), start=1):
        image, found = f"2008_{count:06d}", scene(label % kinds, number, kinds)
        content = jpeg(found.pixels)
        put(root / f"JPEGImages/{image}.jpg", content)
        official, shared = split == "test" or count % 2 == 0, count % 10 == 0
        listed = []
        if official:
            put(root / f"SegmentationClass/{image}.png", _coloured(_bordered(found.mask)))
            listed.append(root / f"ImageSets/Segmentation/{'val' if split == 'test' else 'train'}.txt")
        if shared or not official:
            put(sbd / f"img/{image}.jpg", content)
            savemat(sbd / f"cls/{image}.mat", {"GTcls": {"Segmentation": found.mask}})
            listed.append(sbd / ("val.txt" if count % 3 == 0 else "train.txt"))
        for path in listed:
            lists[path] = lists.get(path, "") + f"{image}\n"
    for path, lines in lists.items():
        put(path, lines)


def _annotation(found: Scene, classes: Sequence[str]) -> str:
    """The file of an image's objects, whose pixels count from 1."""
    height, width = found.mask.shape
    lines = [f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
    for left, top, right, bottom, kind, difficult in found.boxes:
        corners = f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
        marks = f"<name>{classes[kind]}</name><difficult>{difficult}</difficult>"
        lines.append(f"<object>{marks}<bndbox>{corners}</bndbox></object>")
    return "\n".join(["<annotation>", *lines, "</annotation>"]) + "\n"


def _bordered(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask with the border of every object void, as in VOC's own."""
    border = np.zeros(mask.shape, dtype=bool)
    border[1:] |= mask[1:] != mask[:-1]
    border[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    return np.where(border, VOID, mask).astype(np.uint8)


def _coloured(mask: NDArray[np.uint8]) -> bytes:
    """A PNG whose colours are a palette, as VOC's own."""
    image, out = Image.fromarray(mask), io.BytesIO()
    image.putpalette(hashlib.shake_256(b"palette").digest(3 * 256))
    image.save(out, format="PNG")
    return out.getvalue()
