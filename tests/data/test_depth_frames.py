"""Frames for depth estimation: their geometry by hand, what is drawn for them, and their colours by other libraries."""

from __future__ import annotations

import colorsys
from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.depth_frames import CentralFrame, Frame, Frames, RandomFrame, Slot, cut, recoloured
from harness.data.records import encode_depth

CPU = torch.device("cpu")
PAPER = RandomFrame(
    frame=(240, 320),
    crop=(228, 304),
    flip=0.5,
    grayscale=0.3,
    brightness=0.1255,
    saturation=(0.5, 1.5),
    hue=0.2,
    seed=3,
)


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and depths, of which no two are alike."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return pixels, 1 + np.arange(height * width, dtype=np.float32).reshape(height, width)


def test_the_papers_frame_is_the_middle_of_means_of_four() -> None:
    """Protects the geometry: of 640 x 480 halved, the middle 304 x 228 stay; a depth is one of its four."""
    pixels, depth = scene(480, 640)
    frame = CentralFrame((240, 320), (228, 304))(0, 7, torch.from_numpy(pixels), encode_depth(depth))
    assert frame.number == 7
    assert frame.colours is None
    means = pixels.reshape(240, 2, 320, 2, 3).mean((1, 3))[6:234, 8:312]
    assert tuple(frame.pixels.shape) == (228, 304, 3)
    assert np.abs(frame.pixels.numpy() - means).max() <= 0.5
    four = depth.reshape(240, 2, 320, 2).transpose(0, 2, 1, 3).reshape(240, 320, 4)[6:234, 8:312]
    assert (four == frame.depth.numpy()[..., None]).any(-1).all()


@settings(max_examples=40, deadline=None)
@given(old=st.tuples(*[st.integers(1, 40)] * 2), new=st.tuples(*[st.integers(1, 40)] * 2), data=st.data())
def test_depths_are_nearest(old: tuple[int, int], new: tuple[int, int], data: st.DataObject) -> None:
    """Protects missing depths: each is that of the pixel in which its centre lies, and none is mixed."""
    height, width = (data.draw(st.integers(1, side)) for side in new)
    pixels, depth = scene(*old)
    depth[::2, ::3], depth[1::3] = 0, np.nan
    image, found = cut(torch.from_numpy(pixels), depth, new, (height, width))
    assert tuple(found.shape) == (height, width) == tuple(image.shape[:2])
    for y, x in np.ndindex(height, width):
        centre = (Fraction(2 * (y + (new[0] - height) // 2) + 1, 2), Fraction(2 * (x + (new[1] - width) // 2) + 1, 2))
        row, column = (floor(at * before / after) for at, before, after in zip(centre, old, new, strict=True))
        np.testing.assert_equal(found[y, x].item(), depth[row, column].item())


def test_a_mirrored_frame_keeps_its_depths() -> None:
    """Protects targets: pixels and depths are mirrored together, left and right, and nothing else of them changes."""
    depth = np.tile(np.arange(1, 41, dtype=np.float32), (30, 1))
    pixels = torch.from_numpy(np.repeat(depth[..., None].astype(np.uint8), 3, axis=2))
    seen = set()
    for epoch in range(8):
        frame = RandomFrame((30, 40), (20, 30), 0.5, 0.0, 0.0, (1.0, 1.0), 0.0, seed=1)(
            epoch, 5, pixels, encode_depth(depth)
        )
        assert torch.equal(frame.pixels[..., 0].float(), frame.depth)
        seen.add(tuple(frame.depth[0].tolist()))
        assert torch.equal(frame.depth, frame.depth[:1].expand(20, 30))
    straight = tuple(float(value) for value in range(6, 36))
    assert seen == {straight, straight[::-1]}


def drawn(frame: RandomFrame, epochs: range, numbers: range) -> np.ndarray:
    """Whether it was mirrored and the colours, of each image in each epoch."""
    pixels, depth = torch.zeros(4, 8, 3, dtype=torch.uint8), np.tile(np.arange(1, 9, dtype=np.float32), (4, 1))
    rows = []
    for epoch in epochs:
        for number in numbers:
            made = frame(epoch, number, pixels, encode_depth(depth))
            assert made.colours is not None
            rows.append((float(made.depth[0, 0] > made.depth[0, -1]), *made.colours))
    return np.array(rows)


SMALL = RandomFrame((4, 8), (4, 8), 0.5, 0.3, 0.1255, (0.5, 1.5), 0.2, seed=3)


def test_what_is_drawn() -> None:
    """Protects the augmentation: the paper's probabilities, ranges to their ends, no draw tied to another."""
    found = drawn(SMALL, range(2), range(600))
    assert found[:, 0].mean() == pytest.approx(0.5, abs=0.06)
    assert found[:, 1].mean() == pytest.approx(0.3, abs=0.06)
    for values, (low, high) in zip(found.T[2:], ((-0.1255, 0.1255), (0.5, 1.5), (-0.2, 0.2)), strict=True):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high >= values.max() > high - 0.01 * (high - low)
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
    tied = np.corrcoef(found.T) - np.eye(5)
    assert np.abs(tied).max() < 0.1


def test_draws_are_the_images_own() -> None:
    """Protects resumed runs and ranks: an image's own in an epoch, new in the next, apart from other settings."""
    found = drawn(SMALL, range(2), range(20))
    assert np.array_equal(found, drawn(SMALL, range(2), range(20)))
    assert len(np.unique(found[:, 2])) == 40
    other = drawn(RandomFrame((4, 8), (4, 8), 0.5, 0.9, 0.1255, (0.2, 3.0), 0.2, seed=3), range(2), range(20))
    assert np.array_equal(found[:, [0, 2, 4]], other[:, [0, 2, 4]])
    assert [slot.name for slot in Slot] == ["FLIP", "GRAYSCALE", "BRIGHTNESS", "SATURATION", "HUE"]


def by_hand(rgb: np.ndarray, grey: bool, brightness: float, factor: float, turn: float) -> list[float]:
    """One pixel's colour by Python's own HSV."""
    if grey:
        rgb = np.full(3, rgb @ (0.2989, 0.587, 0.114))
    rgb = np.clip(rgb + brightness, 0, 1)
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    return list(colorsys.hsv_to_rgb((hue + turn) % 1, min(1.0, saturation * factor), value))


def test_colours_are_those_of_hsv() -> None:
    """Protects each operation and their order: Python's colorsys, pixel by pixel, whose grey has no hue."""
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(6, 3, 4, 5))
    colours = np.stack(
        [np.arange(6) % 2, rng.uniform(-0.3, 0.3, 6), rng.uniform(0, 3, 6), rng.uniform(-0.5, 0.5, 6)], 1
    )
    found = recoloured(torch.from_numpy(x), torch.from_numpy(colours)).numpy()
    for image, made, (grey, brightness, factor, turn) in zip(x, found, colours, strict=True):
        for y, column in np.ndindex(4, 5):
            wanted = by_hand(image[:, y, column], bool(grey), brightness, factor, turn)
            np.testing.assert_allclose(made[:, y, column], wanted, rtol=0, atol=1e-12)


def test_a_batch_is_normalised_last() -> None:
    """Protects what the network sees: each frame's own colours, then the mean and deviation of each channel."""
    pixels = torch.tensor([[[255, 102, 51]]], dtype=torch.uint8)
    depth = torch.ones(1, 1)
    mean, std = (0.5, 0.25, 0.1), (0.2, 0.5, 0.1)
    plain = Frames.of([Frame(4, pixels, depth), Frame(9, pixels, depth)], CPU)
    assert plain.numbers.tolist() == [4, 9]
    wanted = [(1.0 - 0.5) / 0.2, (0.4 - 0.25) / 0.5, (0.2 - 0.1) / 0.1]
    assert plain.images(mean, std, torch.float64)[1, :, 0, 0].tolist() == pytest.approx(wanted)
    bright = [Frame(one, pixels, depth, (0.0, 0.1 * one, 1.0, 0.0)) for one in (0, 1)]
    made = Frames.of(bright, CPU).images(mean, std, torch.float64)[..., 0, 0]
    assert made[0].tolist() == pytest.approx(wanted)
    assert made[1].tolist() == pytest.approx([wanted[0], wanted[1] + 0.1 / 0.5, wanted[2] + 0.1 / 0.1])
