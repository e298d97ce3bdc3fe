"""The random parameters of views, drawn apart from their application.

Every number is a function of (seed, epoch, image index, view number), so one GPU, eight GPUs, a resumed run
and every back end see the same views. A parameter has its own fixed slot of random words: changing one
probability or range moves no other draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, auto, unique
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from harness.config.schema import View
from harness.data import philox

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

_VIEW = 2  # second word of the Philox key: keeps these numbers apart from the shuffle's
ASPECT = (3 / 4, 4 / 3)  # the paper's range of width / height
CENTRE = (7, 8)  # 224 of 256: the part of the shorter side that evaluation looks at
OPERATIONS = 14  # of RandAugment
LEVELS = 30  # of its magnitude
ORDERS = np.array(list(permutations(range(4))), dtype=np.int64)


@unique
class Slot(IntEnum):
    """Which random word each parameter reads. New parameters go at the end; none ever moves."""

    AREA = 0
    ASPECT = auto()
    TOP = auto()
    LEFT = auto()
    FLIP = auto()
    JITTER = auto()
    BRIGHTNESS = auto()
    CONTRAST = auto()
    SATURATION = auto()
    HUE = auto()
    ORDER = auto()
    GRAYSCALE = auto()
    BLUR = auto()
    SIGMA = auto()
    SOLARIZE = auto()
    OPERATION = auto()
    OPERATION_SIGN = auto()
    SECOND_OPERATION = auto()
    SECOND_OPERATION_SIGN = auto()


FIRST_AND_SECOND = [Slot.OPERATION, Slot.SECOND_OPERATION]
THEIR_SIGNS = [Slot.OPERATION_SIGN, Slot.SECOND_OPERATION_SIGN]


@dataclass(frozen=True)
class Draws:
    """What happens to each image of a batch, one array a parameter.

    Crop boxes are in source pixels. `brightness` and `hue` are offsets, `contrast` and `saturation` factors;
    they apply where `jitter` holds, in the sequence `order` (0 brightness, 1 contrast, 2 saturation, 3 hue).
    `sigma` applies where `blur` holds. `operations` (B, n) are RandAugment's by their numbers, on the crops before all
    else, each at its level of 30, with a sign.
    """

    top: Integers
    left: Integers
    height: Integers
    width: Integers
    flip: Booleans
    jitter: Booleans
    brightness: Floats
    contrast: Floats
    saturation: Floats
    hue: Floats
    order: Integers
    grayscale: Booleans
    blur: Booleans
    sigma: Floats
    solarize: Booleans
    operations: Integers
    levels: Integers


def draw(
    view: View,
    *,
    seed: int,
    epoch: np.ndarray,
    index: np.ndarray,
    view_number: int,
    height: np.ndarray | int,
    width: np.ndarray | int,
) -> Draws:
    """The views of a batch: image `index[i]` in epoch `epoch[i]`, whose source is `height` x `width` pixels."""
    u = _words(seed, epoch, index, view_number)

    def between(slot: Slot, low: float, high: float) -> Floats:
        return low + (high - low) * u[:, slot]

    top, left, crop_height, crop_width = _boxes(view.crop_area, u, height, width)
    return Draws(
        top=top,
        left=left,
        height=crop_height,
        width=crop_width,
        flip=u[:, Slot.FLIP] < view.flip,
        jitter=u[:, Slot.JITTER] < view.jitter,
        brightness=between(Slot.BRIGHTNESS, -view.brightness, view.brightness),
        contrast=between(Slot.CONTRAST, 1 - view.contrast, 1 + view.contrast),
        saturation=between(Slot.SATURATION, 1 - view.saturation, 1 + view.saturation),
        hue=between(Slot.HUE, -view.hue, view.hue),
        order=ORDERS[(u[:, Slot.ORDER] * len(ORDERS)).astype(np.int64)],
        grayscale=u[:, Slot.GRAYSCALE] < view.grayscale,
        blur=u[:, Slot.BLUR] < view.blur,
        sigma=between(Slot.SIGMA, *view.blur_sigma),
        solarize=u[:, Slot.SOLARIZE] < view.solarize,
        operations=(u[:, FIRST_AND_SECOND[: view.operations]] * OPERATIONS).astype(np.int64),
        levels=np.where(u[:, THEIR_SIGNS[: view.operations]] < 0.5, view.magnitude, -view.magnitude),
    )


def crop_flip(crop_area: tuple[float, float], flip: float) -> View:
    """The views on which linear evaluation trains: random crop and flip, no other operation."""
    return View(
        crop_area=crop_area,
        flip=flip,
        jitter=0.0,
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
        hue=0.0,
        grayscale=0.0,
        blur=0.0,
        blur_sigma=(1.0, 1.0),
        solarize=0.0,
    )


def centre(height: np.ndarray, width: np.ndarray) -> Draws:
    """The views on which everything is evaluated: the central square of 224/256 of the shorter side, nothing else.

    Side truncated and offset rounded up, as the released code does; resized once, to the final size.
    """
    return _middle(np.minimum(height, width) * CENTRE[0] // CENTRE[1], height, width)


def centre_whole(height: np.ndarray, width: np.ndarray) -> Draws:
    """The views of which features are kept: the central square of the whole shorter side, nothing else.

    Resized once, to the final size: the shorter side resized, and the centre of the longer one.
    """
    return _middle(np.minimum(height, width), height, width)


def _middle(side: Integers, height: np.ndarray, width: np.ndarray) -> Draws:
    return unchanged((height - side + 1) // 2, (width - side + 1) // 2, side, side)


def unchanged(top: Integers, left: Integers, height: Integers, width: Integers) -> Draws:
    """These boxes, and no other operation."""
    batch = len(top)
    zeros, ones, never = np.zeros(batch), np.ones(batch), np.zeros(batch, dtype=bool)
    return Draws(
        top=top,
        left=left,
        height=height,
        width=width,
        flip=never,
        jitter=never,
        brightness=zeros,
        contrast=ones,
        saturation=ones,
        hue=zeros,
        order=np.tile(ORDERS[0], (batch, 1)),
        grayscale=never,
        blur=never,
        sigma=ones,
        solarize=never,
        operations=np.zeros((batch, 0), dtype=np.int64),
        levels=np.zeros((batch, 0), dtype=np.int64),
    )


def _words(seed: int, epoch: np.ndarray, index: np.ndarray, view_number: int) -> Floats:
    """Uniform numbers, one row an image and one column a slot."""
    blocks = -(-len(Slot) // 4)
    counter = (
        np.arange(blocks, dtype=np.uint64)[None, :],
        np.uint64(view_number),
        np.asarray(index).astype(np.uint64)[:, None],
        np.asarray(epoch).astype(np.uint64)[:, None],
    )
    words = philox.bits(counter, (seed, _VIEW))
    return philox.uniforms(words.reshape(len(words), 4 * blocks))


def _boxes(
    crop_area: tuple[float, float], u: Floats, height: np.ndarray | int, width: np.ndarray | int
) -> tuple[Integers, Integers, Integers, Integers]:
    """Crop boxes: area uniform, aspect log-uniform, sides rounded and then clamped to the image, no retries."""
    height, width = np.asarray(height), np.asarray(width)
    low, high = crop_area
    area = (low + (high - low) * u[:, Slot.AREA]) * (height * width)
    shortest, longest = np.log(ASPECT)
    aspect = np.exp(shortest + (longest - shortest) * u[:, Slot.ASPECT])
    crop_width = np.clip(np.rint(np.sqrt(area * aspect)), 1, width).astype(np.int64)
    crop_height = np.clip(np.rint(np.sqrt(area / aspect)), 1, height).astype(np.int64)
    top = np.floor(u[:, Slot.TOP] * (height - crop_height + 1)).astype(np.int64)
    left = np.floor(u[:, Slot.LEFT] * (width - crop_width + 1)).astype(np.int64)
    return top, left, crop_height, crop_width
