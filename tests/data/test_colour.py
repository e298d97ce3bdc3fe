"""The compiled operations against the released code's vectors, and against augment.py at float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.config.schema import View
from harness.data import augment
from harness.data.draws import ORDERS, Draws, draw

colour = pytest.importorskip("harness.data.colour", exc_type=ImportError)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VECTORS = np.load(Path(__file__).parents[1] / "golden" / "augmentation.npz")
NAMES = ("brightness", "contrast", "saturation", "hue")


def planes(image: np.ndarray) -> tuple[np.ndarray, ...]:
    """Flat planes of an image, height x width x 3."""
    return tuple(np.ascontiguousarray(image[..., c].reshape(-1), np.float32) for c in range(3))


def draws_of(view: View, batch: int) -> Draws:
    """Draws of the first images of a dataset."""
    index = np.arange(batch)
    return draw(view, seed=0, epoch=index * 0, index=index, view_number=1, height=8, width=8)


def truth(crops: np.ndarray, draws: Draws) -> np.ndarray:
    """The views at float64, operation by operation, in [0, 1] before normalisation."""
    x = torch.from_numpy(crops).permute(0, 3, 1, 2).double() / 255
    taps = augment.blur_taps(crops.shape[1])
    for i in range(len(x)):
        one = x[i : i + 1]
        for number in draws.order[i] if draws.jitter[i] else ():
            strength = torch.from_numpy(getattr(draws, NAMES[number])[i : i + 1])
            one = getattr(augment, NAMES[number])(one, strength)
        one = augment.grayscale(one) if draws.grayscale[i] else one
        one = augment.blur(one, torch.from_numpy(draws.sigma[i : i + 1]), taps) if draws.blur[i] and taps > 1 else one
        x[i] = (augment.solarize(one) if draws.solarize[i] else one)[0]
    return x.clamp(0, 1).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_jitter_operations_equal_the_released_code(name: str) -> None:
    """Protects the meaning of each operation."""
    for i, image in enumerate(VECTORS["images"]):
        found = planes(image)
        strengths = np.array([VECTORS[f"param_{each}"][i] for each in NAMES], np.float32)
        colour.jitter(NAMES.index(name), strengths, *found)
        expected = VECTORS[f"out_{name}"][i]
        np.testing.assert_allclose(np.stack(found, 1).reshape(expected.shape), expected, atol=1e-5)


def test_gray_equals_the_released_code() -> None:
    """Protects the luma."""
    for image, expected in zip(VECTORS["images"], VECTORS["out_grayscale"], strict=True):
        found = planes(image)
        colour.gray(*found)
        np.testing.assert_allclose(np.stack(found, 1).reshape(expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize("taps", [7, 23])
def test_blur_equals_the_released_code(second_view: View, taps: int) -> None:
    """Protects the kernel, its zero padding, and the taps that are left out as negligible."""
    size = VECTORS["images"].shape[1]
    sigma = VECTORS["param_sigma"].astype(np.float64)
    weights, radius = colour.kernels(replace(draws_of(second_view, len(sigma)), sigma=sigma, blur=sigma > 0), taps)
    work, (column, line) = colour.work(size), colour.lines(size, weights.shape[1])
    for i, image in enumerate(VECTORS["images"]):
        for c in range(3):
            work[c, : size * size] = image[..., c].reshape(-1)
            for y in range(size):
                colour.blur_row(work[c], y, size, weights[i], radius[i], column, line)
                expected = VECTORS[f"out_blur_kernel{taps}"][i, y, :, c]
                np.testing.assert_allclose(line[:size], expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 8, 20, 33, 96])
def test_views_equal_the_truth(second_view: View, size: int) -> None:
    """Protects every operation and all 24 orders together, at sizes that are no multiple of a vector."""
    view = replace(second_view, blur=0.5, solarize=0.5, grayscale=0.3, saturation=1.0, hue=0.5)
    draws = replace(draws_of(view, 48), order=np.tile(ORDERS, (2, 1)))
    crops = np.random.default_rng(size).integers(0, 256, (48, size, size, 3), dtype=np.uint8)
    crops[:4] //= 255  # black, white and pure colours nearly
    crops[4:8] = crops[4:8, :1, :1]
    found = colour.views(crops, draws, (0, 0, 0), (1, 1, 1))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, truth(crops, draws), atol=1e-5)
    mean, std = (np.array(each)[:, None, None] for each in (MEAN, STD))
    np.testing.assert_allclose(colour.views(crops, draws, MEAN, STD), (found - mean) / std, atol=1e-5)


def test_views_at_full_size_equal_the_truth(second_view: View) -> None:
    """Protects the 23 taps of 224 pixels, at any strength."""
    draws = replace(draws_of(replace(second_view, blur=1.0), 4), sigma=np.array([0.1, 0.7, 1.5, 2.0]))
    crops = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    np.testing.assert_allclose(colour.views(crops, draws, (0, 0, 0), (1, 1, 1)), truth(crops, draws), atol=1e-5)


def test_threads_and_the_batch_change_nothing(second_view: View, noise: np.ndarray) -> None:
    """Protects equal inputs whatever the number of cores, down to no image at all."""
    crops = np.ascontiguousarray(noise[:, :, :24])
    draws = draws_of(second_view, len(crops))
    before = crops.copy()
    expected = colour.views(crops, draws, MEAN, STD)
    for threads in (2, 3, 99):
        np.testing.assert_array_equal(colour.views(crops, draws, MEAN, STD, threads), expected)
    np.testing.assert_array_equal(crops, before)
    assert colour.views(crops[:0], draws_of(second_view, 0), MEAN, STD, 2).shape == (0, 3, 24, 24)


def test_one_view_of_several_needs_no_copy_by_the_caller(second_view: View, noise: np.ndarray) -> None:
    """Protects the form in which the loader hands crops over: image, view, row, column, channel."""
    both = np.stack([noise[:, :, :24], noise[:, :, 6:]], axis=1)
    draws = draws_of(second_view, len(both))
    for number in range(2):
        alone = np.ascontiguousarray(both[:, number])
        np.testing.assert_array_equal(
            colour.views(both[:, number], draws, MEAN, STD), colour.views(alone, draws, MEAN, STD)
        )
