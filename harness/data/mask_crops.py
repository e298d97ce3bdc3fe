"""Squares cut from images and their masks: scaled, placed and mirrored at random to train on, central to be scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto, unique

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from harness.data import augment
from harness.data.records import VOID, decode_mask
from harness.data.scenes import uniforms


@unique
class Slot(IntEnum):
    """Which random number each parameter reads. New parameters go at the end; none ever moves."""

    SCALE = 0
    TOP = auto()
    LEFT = auto()
    FLIP = auto()


@dataclass(frozen=True)
class MaskCrop:
    """A square of an image of this `number`: pixels (S, S, 3) and mask (S, S), both uint8. `inside` are the top,
    bottom, left and right ends of the image in it: outside, pixels mean nothing and the mask is VOID.
    """

    number: int
    pixels: Tensor
    mask: Tensor
    inside: tuple[int, int, int, int]


@dataclass(frozen=True)
class MaskCrops:
    """A batch of them, on a device."""

    numbers: Tensor
    pixels: Tensor
    masks: Tensor
    inside: Tensor

    @classmethod
    def of(cls, crops: Sequence[MaskCrop], device: torch.device) -> MaskCrops:
        """These crops together."""
        pixels, masks = (torch.stack([getattr(one, name) for one in crops]) for name in ("pixels", "mask"))
        numbers, inside = torch.tensor([one.number for one in crops]), torch.tensor([one.inside for one in crops])
        return cls(*(each.to(device) for each in (numbers, pixels, masks, inside)))

    def images(self, mean: tuple[float, float, float], std: tuple[float, float, float], dtype: torch.dtype) -> Tensor:
        """(B, 3, S, S), normalised; 0, the mean colour, where there is no image."""
        side = torch.arange(self.pixels.shape[1], device=self.pixels.device)
        top, bottom, left, right = self.inside[:, :, None].unbind(1)
        rows, columns = (side >= top) & (side < bottom), (side >= left) & (side < right)
        image = (rows[:, :, None] & columns[:, None])[:, None]
        return augment.normalize(self.pixels.permute(0, 3, 1, 2).to(dtype).div_(255), mean, std).where(image, 0.0)


@dataclass(frozen=True)
class RandomCrop:
    """The image scaled by a factor that is uniform in `scales`, a square of `size` cut from it, mirrored with `flip`.

    Its place is uniform among those where the square lies in the image or, on a side that is shorter than it, the image
    in the square.
    """

    size: int
    scales: tuple[float, float]
    flip: float
    seed: int

    def __call__(self, epoch: int, number: int, pixels: Tensor, target: bytes) -> MaskCrop:
        """As it is drawn for an image in an epoch."""
        u = uniforms(self.seed, epoch, number, len(Slot))
        low, high = self.scales
        scale = low + (high - low) * u[Slot.SCALE]
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        top, left = _start(height - self.size, u[Slot.TOP]), _start(width - self.size, u[Slot.LEFT])
        crop = cut(number, pixels, decode_mask(target), (height, width), (top, left), self.size)
        return mirrored(crop) if u[Slot.FLIP] < self.flip else crop


@dataclass(frozen=True)
class CentralCrop:
    """The central square of `size`, unscaled."""

    size: int

    def __call__(self, _place: int, number: int, pixels: Tensor, target: bytes) -> MaskCrop:
        """The image in the middle of the square where it is the smaller one."""
        height, width = pixels.shape[:2]
        corner = (height - self.size) // 2, (width - self.size) // 2
        return cut(number, pixels, decode_mask(target), (height, width), corner, self.size)


def cut(
    number: int,
    pixels: Tensor,
    mask: NDArray[np.uint8],
    scaled: tuple[int, int],
    corner: tuple[int, int],
    size: int,
) -> MaskCrop:
    """The square whose first pixel is at `corner`, negative or not, of the image `scaled` to a height and a width.

    Pixels are bilinear and masks nearest, both at half-pixel centres and without antialiasing.
    """
    if scaled != tuple(pixels.shape[:2]):
        pixels = F.interpolate(pixels.permute(2, 0, 1)[None], scaled, mode="bilinear")[0].permute(1, 2, 0)
    (top, bottom), (left, right) = (
        (max(0, -first), min(size, side - first)) for first, side in zip(corner, scaled, strict=True)
    )
    square, labels = torch.zeros(size, size, 3, dtype=torch.uint8), np.full((size, size), VOID, np.uint8)
    y, x = np.arange(top, bottom) + corner[0], np.arange(left, right) + corner[1]
    square[top:bottom, left:right] = pixels[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    rows, columns = (
        ((2 * each + 1) * old // (2 * new)) for each, old, new in zip((y, x), mask.shape, scaled, strict=True)
    )
    labels[top:bottom, left:right] = mask[rows[:, None], columns]
    return MaskCrop(number, square, torch.from_numpy(labels), (top, bottom, left, right))


def mirrored(crop: MaskCrop) -> MaskCrop:
    """Left and right exchanged."""
    top, bottom, left, right = crop.inside
    inside = top, bottom, len(crop.mask) - right, len(crop.mask) - left
    return MaskCrop(crop.number, crop.pixels.flip(1), crop.mask.flip(1), inside)


def _start(room: int, u: float) -> int:
    """One of the |room| + 1 places from 0 to `room`, which is negative where the square is the longer one."""
    place = int(u * (abs(room) + 1))
    return place if room >= 0 else -place
