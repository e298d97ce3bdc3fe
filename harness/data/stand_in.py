"""The pictures of the generated stand-ins: small, of many sizes, and learnable, but not from their mean colour alone.

A class is an orientation of stripes and a tendency of their hue. Everything else varies from picture to picture:
the ground's colour, where the stripes are, their phase, width and contrast, the light, and noise. Orientations lie
between horizontal and vertical, so a mirrored picture is still nearest to its own class.
"""

from __future__ import annotations

import colorsys
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.config.datasets import STAND_IN_CLASSES, Facts
from harness.data import philox
from harness.data.source import SPLITS

_KEY = (0x57A2D1, 0)  # distinguishes these draws from those of views


def samples(facts: Facts) -> Iterator[tuple[int, int, str]]:
    """Class, number within the class, and split of every picture of a stand-in."""
    classes = max(facts.classes, 1)
    for label in range(classes):
        number = 0
        for split in SPLITS:
            for _ in range(facts.images(split) // classes):
                yield label, number, split
                number += 1


def put(path: Path, content: bytes | str) -> None:
    """Write a file, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def picture(label: int, number: int, side: int = 72) -> NDArray[np.uint8]:
    """Picture `number` of class `label`: RGB, each side between 8/9 and 4/3 of `side` pixels."""
    u = _uniforms(label, number, block=0, count=16)
    height, width = (round(side * (8 + 4 * each) / 9) for each in u[:2])
    y, x = np.mgrid[:height, :width] / side
    tilt = np.pi / 2 * ((label % STAND_IN_CLASSES) / (STAND_IN_CLASSES - 1) + 0.1 * (u[2] - 0.5))
    across = x * np.cos(tilt) + y * np.sin(tilt)
    stripes = np.sin(2 * np.pi * ((5 + 3 * u[3]) * across + u[4]))
    far = ((x - width / side * u[5]) ** 2 + (y - height / side * u[6]) ** 2) / (0.35 + 0.3 * u[7]) ** 2
    cover = (0.25 + 0.75 * np.exp(-far)) * (0.5 + 0.5 * stripes) * (0.6 + 0.35 * u[8])
    ink = np.array(colorsys.hsv_to_rgb(label / STAND_IN_CLASSES + 0.45 * (u[9] - 0.5), 0.4 + 0.5 * u[10], 0.9))
    ground = np.array(colorsys.hsv_to_rgb(u[11], 0.6 * u[12], 0.2 + 0.5 * u[13]))
    light = 0.85 + 0.3 * (u[14] * x + (1 - u[14]) * y)[..., None]
    colour = light * (ground + cover[..., None] * (ink - ground))
    noise = _uniforms(label, number, block=1, count=height * width * 3).reshape(height, width, 3) - 0.5
    return np.rint(255 * np.clip(colour + (0.05 + 0.1 * u[15]) * noise, 0, 1)).astype(np.uint8)


def jpeg(pixels: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Pixels as the bytes of a JPEG file."""
    return _encoded(pixels, format="JPEG", quality=quality)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels, or a map of numbers, as the bytes of a PNG file."""
    return _encoded(pixels, format="PNG")


def _encoded(pixels: NDArray[np.uint8], **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, **options)  # type: ignore[arg-type]
    return out.getvalue()


def _uniforms(label: int, number: int, *, block: int, count: int) -> NDArray[np.float64]:
    """`count` numbers in [0, 1) that depend on the picture alone."""
    counter = (np.arange(-(-count // 4), dtype=np.uint64), np.uint64(block), np.uint64(number), np.uint64(label))
    return philox.uniforms(philox.bits(counter, _KEY).reshape(-1))[:count]
