"""RandAugment (Cubuk et al. 2020): operations drawn from fourteen, one after the other, on uint8 crops.

By torchvision's functions and at its magnitudes; what an operation moves into the image is black.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from harness.data.draws import LEVELS, Draws

Operation = Callable[[Tensor, int], Tensor]  # images (B, 3, H, W), and the level of the change, with a sign
SHEAR, SHIFT, TURN, CHANGE = (
    0.3,
    150 / 331,
    30.0,
    0.9,
)  # the most: a tangent, share of a side, degrees, off a factor of 1
POSTERIZED = 4  # the most bits that are lost


def randaugment(crops: Tensor, draws: Draws) -> Tensor:
    """Crops (B, H, W, 3) after their drawn operations. Those that share one, and its level, go through it together."""
    images = crops.permute(0, 3, 1, 2).clone()
    for operations, levels in zip(draws.operations.T, draws.levels.T, strict=True):
        for number, level in sorted(set(zip(operations.tolist(), levels.tolist(), strict=True))):
            rows = np.flatnonzero((operations == number) & (levels == level))
            images[rows] = OPERATIONS[number](images[rows], level)
    return images.permute(0, 2, 3, 1).contiguous()


def _of(most: float, level: int) -> float:
    """Level / 30 of `most`, in torchvision's single precision."""
    return math.copysign(float(torch.linspace(0, most, LEVELS + 1)[abs(level)]), level)


def _shear(images: Tensor, x: float = 0.0, y: float = 0.0) -> Tensor:
    """By the angles of these tangents; the upper left corner stays where it is."""
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    sheared: Tensor = F.affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=degrees, center=[0.0, 0.0])
    return sheared


def _shift(images: Tensor, x: float = 0.0, y: float = 0.0) -> Tensor:
    """By whole pixels."""
    shifted: Tensor = F.affine(images, angle=0.0, translate=[int(x), int(y)], scale=1.0, shear=[0.0, 0.0])
    return shifted


# In torchvision's order: a new one would go at the end.
OPERATIONS: tuple[Operation, ...] = (
    lambda images, _: images,
    lambda images, level: _shear(images, x=_of(SHEAR, level)),
    lambda images, level: _shear(images, y=_of(SHEAR, level)),
    lambda images, level: _shift(images, x=_of(SHIFT * images.shape[3], level)),
    lambda images, level: _shift(images, y=_of(SHIFT * images.shape[2], level)),
    lambda images, level: F.rotate(images, _of(TURN, level)),
    lambda images, level: F.adjust_brightness(images, 1 + _of(CHANGE, level)),
    lambda images, level: F.adjust_saturation(images, 1 + _of(CHANGE, level)),
    lambda images, level: F.adjust_contrast(images, 1 + _of(CHANGE, level)),
    lambda images, level: F.adjust_sharpness(images, 1 + _of(CHANGE, level)),
    lambda images, level: F.posterize(images, 8 - round(POSTERIZED * abs(level) / LEVELS)),
    lambda images, level: F.solarize(images, 255 * (1 - abs(level) / LEVELS)),
    lambda images, _: F.autocontrast(images),
    lambda images, _: F.equalize(images),
)
