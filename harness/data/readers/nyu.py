"""NYU Depth v2 (Silberman et al., 2012), as the h5 files that most work on depth trains on: 47584 frames and 654.

Each file holds one frame: `rgb`, 3 x height x width, and `depth`, height x width in metres.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.errors import DataError
from harness.data.readers.hdf5 import array_of, check_size
from harness.data.readers.layout import Folder, joined
from harness.data.records import encode_depth
from harness.data.source import Source
from harness.data.splits import hold_out_random
from harness.data.stand_in import picture, samples

WHERE = "the h5 archive nyudepthv2.tar.gz of MIT's FastDepth (http://datasets.lids.mit.edu/nyudepthv2/)"


def read(source: Path, facts: Facts) -> Source:
    """The frames of the training scenes, some of them held out at random, and the official test frames."""
    folder = Folder(located(source, "nyudepthv2", ("nyudepthv2.tar.gz",), WHERE), facts, WHERE)
    listing = joined({"train": _frames(folder, "train"), "test": _frames(folder, "val")})
    train, valid = hold_out_random(listing.names, listing.splits["train"], facts.valid_images, "nyu-depth")
    found = folder.source(listing, (), {"train": train, "valid": valid, "test": listing.splits["test"]})
    return replace(found, image=partial(_image, folder, listing.names), target=partial(_target, folder, listing.names))


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout. What is bright is near, so depth can be learned from a picture."""
    import h5py  # noqa: PLC0415 - slow to import, and preparing alone needs it

    scenes = ("basement_0001a", "office_0003")
    for label, number, split in samples(facts):
        pixels = picture(label, number)
        depth = (1 + 8 * (1 - pixels.mean(axis=2) / 255)).astype(np.float32)
        scene = "val/official" if split == "test" else f"train/{scenes[number % len(scenes)]}"
        path = target / f"nyudepthv2/{scene}/{number + 1:05d}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["rgb"] = pixels.transpose(2, 0, 1)
            file["depth"] = depth


def _frames(folder: Folder, part: str) -> list[tuple[str, int]]:
    """The frames of a part's scenes. They have no class."""
    root = folder.root / part
    if not root.is_dir():
        raise folder.wrong(f"the folder {root} is missing")
    scenes = sorted(scene.name for scene in os.scandir(root) if scene.is_dir())
    return [
        (f"{part}/{scene}/{file}", -1)
        for scene in scenes
        for file in sorted(os.listdir(root / scene))
        if file.endswith(".h5")
    ]


def _image(folder: Folder, names: Sequence[str], number: int) -> NDArray[np.uint8]:
    rgb = _values(folder, names[number], "rgb")
    if rgb.ndim != 3 or rgb.shape[0] != 3 or rgb.dtype != np.uint8:
        raise DataError(f"rgb in {folder.root / names[number]} is {rgb.dtype} {rgb.shape}, not uint8 (3, ., .)")
    return np.ascontiguousarray(rgb.transpose(1, 2, 0))


def _target(folder: Folder, names: Sequence[str], number: int) -> bytes:
    depth = _values(folder, names[number], "depth")
    if depth.ndim != 2 or depth.dtype.kind != "f":  # whole numbers would be millimetres
        raise DataError(f"depth in {folder.root / names[number]} is {depth.dtype} {depth.shape}, not float (., .)")
    return encode_depth(depth.astype(np.float32))


def _values(folder: Folder, name: str, field: str) -> NDArray[Any]:
    import h5py  # noqa: PLC0415 - slow to import, and preparing alone needs it

    try:
        with h5py.File(folder.root / name) as file:
            found = array_of(file, field)
            check_size(found)
            return np.asarray(found)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{field} in {folder.root / name} cannot be read ({error})") from error
