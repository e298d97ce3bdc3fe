"""Squares of images and masks: against pixels computed one by one, and the protocol's places, scales and padding."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from harness.config.datasets import IMAGENET_MEAN, IMAGENET_STD
from harness.data.mask_crops import CentralCrop, MaskCrop, MaskCrops, RandomCrop, cut, mirrored
from harness.data.records import VOID, encode_mask

CPU = torch.device("cpu")


def image(height: int, width: int, seed: int = 0) -> tuple[Tensor, NDArray[np.uint8]]:
    """Pixels and a mask of noise."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return torch.from_numpy(pixels), generator.integers(0, 21, (height, width), dtype=np.uint8)


def taps(at: int, old: int, new: int) -> tuple[tuple[int, int], float]:
    """The source pixels beside pixel `at` of an axis of `old` pixels scaled to `new`, and the second's weight."""
    centre = min(max((at + 0.5) * old / new - 0.5, 0.0), old - 1.0)
    first = min(math.floor(centre), old - 1)
    return (first, min(first + 1, old - 1)), centre - first


@settings(deadline=None, max_examples=60)
@given(
    sides=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    scaled=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    u=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    size=st.integers(1, 16),
)
def test_a_square_is_that_of_the_scaled_image(
    sides: tuple[int, int], scaled: tuple[int, int], u: tuple[float, float], size: int
) -> None:
    """Bilinear pixels by their definition to a level, the mask of the source pixel that holds each centre, void around
    both; and the two never part.
    """
    pixels, mask = image(*sides)
    corner = tuple(round(each * (long - size)) for each, long in zip(u, scaled, strict=True))
    crop = cut(7, pixels, mask, scaled, corner, size)
    top, bottom, left, right = crop.inside
    for row in range(size):
        for column in range(size):
            y, x = row + corner[0], column + corner[1]
            there = 0 <= y < scaled[0] and 0 <= x < scaled[1]
            assert there == (top <= row < bottom and left <= column < right)
            if not there:
                assert crop.mask[row, column] == VOID
                continue
            rows, down = taps(y, sides[0], scaled[0])
            columns, along = taps(x, sides[1], scaled[1])
            four = pixels.numpy().astype(float)[np.ix_(rows, columns)]
            expected = np.array([1 - down, down]) @ np.moveaxis(four, 2, 0) @ np.array([1 - along, along])
            # rounded twice, by columns and by rows
            assert np.abs(crop.pixels[row, column].numpy() - expected).max() <= 1.01
            holds = int((y + 0.5) * sides[0] / scaled[0]), int((x + 0.5) * sides[1] / scaled[1])
            assert crop.mask[row, column] == mask[holds]


def drawn(size: int, sides: tuple[int, int], **changes: object) -> list[MaskCrop]:
    """The crops of an image in 200 epochs."""
    make = RandomCrop(**{"size": size, "scales": (0.5, 2.0), "flip": 0.5, "seed": 1, **changes})  # type: ignore[arg-type]
    pixels, mask = image(*sides)
    return [make(epoch, 3, pixels, encode_mask(mask)) for epoch in range(200)]


def test_scales_fill_their_range_and_both_sides_share_one() -> None:
    """Protects the range of 0.5 to 2: of an image that always lies in the square, its extent there tells the scale."""
    heights, widths = [], []
    for crop in drawn(200, (40, 60)):
        top, bottom, left, right = crop.inside
        heights.append((bottom - top) / 40)
        widths.append((right - left) / 60)
        assert abs(heights[-1] - widths[-1]) <= 0.5 / 40 + 0.5 / 60
    assert (min(widths), max(widths)) == pytest.approx((0.5, 2.0), abs=0.03)
    assert np.histogram(widths, 3, (0.5, 2.0))[0] == pytest.approx([67, 67, 67], abs=25)


@pytest.mark.parametrize(("size", "side"), [(10, 13), (13, 10), (10, 10)])
def test_a_square_lies_in_the_image_or_the_image_in_it_at_every_place(size: int, side: int) -> None:
    """Protects borders of images: all places occur, the outermost as often, and no pixel is void needlessly."""
    pixels = torch.arange(1, 1 + side, dtype=torch.uint8)[:, None, None].expand(side, side, 3)
    mask = np.zeros((side, side), np.uint8)
    make = RandomCrop(size=size, scales=(1.0, 1.0), flip=0.0, seed=0)
    starts = []
    for number in range(400):
        crop = make(0, number, pixels, encode_mask(mask))
        top, bottom, _, _ = crop.inside
        assert bottom - top == min(size, side)
        starts.append(int(crop.pixels[top, (crop.inside[2] + crop.inside[3]) // 2, 0]) - 1 - top)
    places, often = np.unique(starts, return_counts=True)
    assert places.tolist() == list(range(min(0, side - size), max(0, side - size) + 1))
    assert often == pytest.approx(np.full(len(places), 400 / len(places)), abs=35)


def test_a_mirrored_square_differs_in_nothing_else() -> None:
    """Protects mask and padding from being left behind: the same draws, every column exchanged."""
    for plain, flipped in zip(drawn(50, (40, 30), flip=0.0), drawn(50, (40, 30), flip=1.0), strict=True):
        assert torch.equal(flipped.pixels, plain.pixels.flip(1))
        assert torch.equal(flipped.mask, plain.mask.flip(1))
        assert flipped.inside == mirrored(plain).inside
        _, _, left, right = flipped.inside
        assert (flipped.mask[:, left:right] != VOID).any(0).all()
        assert (flipped.mask[:, :left] == VOID).all()
        assert (flipped.mask[:, right:] == VOID).all()
    half = drawn(50, (40, 30), flip=0.5)
    same = sum(
        torch.equal(one.mask, other.mask) for one, other in zip(half, drawn(50, (40, 30), flip=0.0), strict=True)
    )
    assert 70 <= same <= 130


def test_draws_are_of_seed_epoch_and_image() -> None:
    """Protects resumed runs, and seeds from being one."""
    pixels, mask = image(30, 30)

    def make(seed: int, epoch: int, number: int) -> MaskCrop:
        return RandomCrop(20, (0.5, 2.0), 0.5, seed)(epoch, number, pixels, encode_mask(mask))

    assert torch.equal(make(0, 1, 2).pixels, make(0, 1, 2).pixels)
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not torch.equal(make(0, 1, 2).pixels, make(*other).pixels)


def test_the_centre_of_a_voc_image_is_all_of_it() -> None:
    """Protects the test: VOC's images have at most 500 pixels a side, so that a square of 513 leaves out none."""
    pixels, mask = image(375, 500)
    crop = CentralCrop(513)(0, 1, pixels, encode_mask(mask))
    top, bottom, left, right = crop.inside
    assert (top, bottom, left, right) == (69, 444, 7, 507)
    assert torch.equal(crop.pixels[top:bottom, left:right], pixels)
    assert np.array_equal(crop.mask[top:bottom, left:right].numpy(), mask)
    assert int((crop.mask != VOID).sum()) == mask.size


def test_the_centre_of_a_larger_image() -> None:
    """Protects from a corner: what is cut off is the same on both sides, to a pixel."""
    pixels, mask = image(9, 12)
    crop = CentralCrop(5)(0, 1, pixels, encode_mask(mask))
    assert torch.equal(crop.pixels, pixels[2:7, 3:8])
    assert np.array_equal(crop.mask.numpy(), mask[2:7, 3:8])
    assert crop.inside == (0, 5, 0, 5)


def test_what_is_outside_is_the_mean_colour_to_the_network() -> None:
    """Protects the padding: exactly 0 there, and the normalised pixels of the right image inside."""
    crops = [CentralCrop(16)(0, number, *_encoded(*sides)) for number, sides in enumerate([(8, 12), (20, 9)])]
    batch = MaskCrops.of(crops, CPU)
    assert batch.numbers.tolist() == [0, 1]
    images = batch.images(IMAGENET_MEAN, IMAGENET_STD, torch.float64)
    assert (images.shape, images.dtype) == ((2, 3, 16, 16), torch.float64)
    for one, crop in zip(images, crops, strict=True):
        top, bottom, left, right = crop.inside
        outside = torch.ones(16, 16, dtype=torch.bool)
        outside[top:bottom, left:right] = False
        assert (one[:, outside] == 0).all()
        mean, std = (torch.tensor(each, dtype=torch.float64) for each in (IMAGENET_MEAN, IMAGENET_STD))
        expected = (crop.pixels[top:bottom, left:right].double() / 255 - mean) / std
        torch.testing.assert_close(one[:, top:bottom, left:right].permute(1, 2, 0), expected)


def _encoded(height: int, width: int) -> tuple[Tensor, bytes]:
    pixels, mask = image(height, width)
    return pixels, encode_mask(mask)
