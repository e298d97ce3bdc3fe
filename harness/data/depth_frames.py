"""Frames and their depths: resized, the centre cut out, and to train on mirrored and recoloured at random."""

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
from harness.data.records import decode_depth
from harness.data.scenes import uniforms


@unique
class Slot(IntEnum):
    """Which random number each parameter reads. New parameters go at the end; none ever moves."""

    FLIP = 0
    GRAYSCALE = auto()
    BRIGHTNESS = auto()
    SATURATION = auto()
    HUE = auto()


@dataclass(frozen=True)
class Frame:
    """The centre of the frame of this `number`: pixels (H, W, 3) in uint8 and depths (H, W) in metres, 0 or not finite
    where none was measured. `colours` is what recoloured makes of it: nothing where there are none.
    """

    number: int
    pixels: Tensor
    depth: Tensor
    colours: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Frames:
    """A batch of them, on a device."""

    numbers: Tensor
    pixels: Tensor
    depths: Tensor
    colours: Tensor | None

    @classmethod
    def of(cls, frames: Sequence[Frame], device: torch.device) -> Frames:
        """These frames together; all of them have colours, or none."""
        numbers = torch.tensor([one.number for one in frames])
        pixels, depths = (torch.stack([getattr(one, name) for one in frames]) for name in ("pixels", "depth"))
        drawn = [one.colours for one in frames if one.colours is not None]
        colours = torch.tensor(drawn, dtype=torch.float64).to(device) if drawn else None
        return cls(numbers.to(device), pixels.to(device), depths.to(device), colours)

    def images(self, mean: tuple[float, float, float], std: tuple[float, float, float], dtype: torch.dtype) -> Tensor:
        """(B, 3, H, W), recoloured and normalised."""
        x = self.pixels.permute(0, 3, 1, 2).to(dtype).div_(255)
        return augment.normalize(x if self.colours is None else recoloured(x, self.colours), mean, std)


@dataclass(frozen=True)
class CentralFrame:
    """The frame resized to a height and a width, and the central `crop` of it."""

    frame: tuple[int, int]
    crop: tuple[int, int]

    def __call__(self, _place: int, number: int, pixels: Tensor, target: bytes) -> Frame:
        """As it is tested."""
        return Frame(number, *cut(pixels, decode_depth(target), self.frame, self.crop))


@dataclass(frozen=True)
class RandomFrame:
    """As CentralFrame, then mirrored with probability `flip`, and `colours` drawn: grey with probability `grayscale`,
    offsets of brightness and hue up to these, and a factor of the saturation in this range.
    """

    frame: tuple[int, int]
    crop: tuple[int, int]
    flip: float
    grayscale: float
    brightness: float
    saturation: tuple[float, float]
    hue: float
    seed: int

    def __call__(self, epoch: int, number: int, pixels: Tensor, target: bytes) -> Frame:
        """As it is drawn for a frame in an epoch."""
        u = uniforms(self.seed, epoch, number, len(Slot))
        image, depth = cut(pixels, decode_depth(target), self.frame, self.crop)
        if u[Slot.FLIP] < self.flip:
            image, depth = image.flip(1), depth.flip(1)
        low, high = self.saturation
        colours = (
            float(u[Slot.GRAYSCALE] < self.grayscale),
            self.brightness * (2 * u[Slot.BRIGHTNESS] - 1),
            low + (high - low) * u[Slot.SATURATION],
            self.hue * (2 * u[Slot.HUE] - 1),
        )
        return Frame(number, image, depth, colours)


def cut(
    pixels: Tensor, depth: NDArray[np.float32], frame: tuple[int, int], crop: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The central `crop` of an image and its depths that have been resized to `frame`.

    Pixels are bilinear, at half the size the means of 2 x 2. Depths are nearest: none is mixed with another, which may
    be one that is missing. Both are at half-pixel centres and without antialiasing.
    """
    planes = pixels.permute(2, 0, 1)[None].float()  # torch's way with uint8 rounds twice, and up
    image = F.interpolate(planes, frame, mode="bilinear")[0].round_().to(torch.uint8).permute(1, 2, 0)
    starts = [(whole - part) // 2 for whole, part in zip(frame, crop, strict=True)]
    y, x = (np.arange(start, start + part) for start, part in zip(starts, crop, strict=True))
    rows, columns = (
        (2 * each + 1) * old // (2 * new) for each, old, new in zip((y, x), depth.shape, frame, strict=True)
    )
    inside = image[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    return inside, torch.from_numpy(depth[rows[:, None], columns])


def recoloured(x: Tensor, colours: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] by (B, 4): whether it turns grey, the brightness that is added, the factor of the
    saturation and the turn of the hue. In the order of the paper's list: what is grey has no hue to turn.
    """
    grey, brightness, saturation, hue = colours.to(x.dtype).unbind(1)
    x = torch.where(grey.bool().view(-1, 1, 1, 1), augment.grayscale(x), x)
    return augment.hue(augment.saturation(augment.brightness(x, brightness), saturation), hue)
