"""The operations against vectors from DeepMind's released code, and their application to batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.config.schema import View
from harness.data import augment
from harness.data.draws import Draws, centre, crop_flip, draw, unchanged

Channels = tuple[float, float, float]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
GOLDEN = Path(__file__).parents[1] / "golden"
VECTORS = np.load(GOLDEN / "augmentation.npz")
CROPS = np.load(GOLDEN / "bicubic_crops.npz")
IMAGES = torch.from_numpy(VECTORS["images"]).permute(0, 3, 1, 2)


def check(found: Tensor, name: str) -> None:
    """Compare NCHW with the NHWC vector `name`."""
    expected = torch.from_numpy(VECTORS[name]).permute(0, 3, 1, 2)
    torch.testing.assert_close(found.to(expected), expected, atol=1e-5, rtol=0)


def whole(batch: int, height: int, width: int) -> Draws:
    """Draws that leave an image as it is, but for its size."""
    corner, heights, widths = (np.full(batch, number) for number in (0, height, width))
    return unchanged(corner, corner, heights, widths)


def middle(batch: int) -> Draws:
    """The evaluation view of noise."""
    return centre(np.full(batch, 24), np.full(batch, 30))


def views(pixels: Tensor, draws: Draws, size: int, mean: Channels = MEAN, std: Channels = STD) -> Tensor:
    """Crop and apply."""
    return augment.views(augment.crop(pixels, draws, size), draws, mean, std)


def random_draws(view: View, batch: int, height: int, width: int) -> Draws:
    """Draws of the first images of a dataset."""
    index = np.arange(batch)
    return draw(view, seed=0, epoch=index * 0, index=index, view_number=0, height=height, width=width)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_colour_operations_equal_the_released_code(name: str, dtype: torch.dtype) -> None:
    """Protects the meaning of each colour operation: torchvision's are something else."""
    operation: Callable[..., Tensor] = getattr(augment, name)
    found = operation(IMAGES.to(dtype), torch.from_numpy(VECTORS[f"param_{name}"]).to(dtype))
    assert found.dtype == dtype
    check(found, f"out_{name}")


def test_jitter_applies_the_operations_in_each_images_order() -> None:
    """Protects the drawn order and the clipping between operations."""
    draws = replace(
        whole(len(IMAGES), 64, 64),
        jitter=np.ones(len(IMAGES), dtype=bool),
        order=VECTORS["jitter_order"],
        **{name: VECTORS[f"param_{name}"] for name in ("brightness", "contrast", "saturation", "hue")},
    )
    before = IMAGES.clone()
    on = {name: torch.from_numpy(getattr(draws, name)) for name in augment.COLOURS}
    check(augment.colours(IMAGES, on), "out_jitter")
    assert torch.equal(IMAGES, before)


def test_grayscale_solarize_and_normalize_equal_the_released_code() -> None:
    """Protects the luma, the threshold and the constants."""
    check(augment.grayscale(IMAGES), "out_grayscale")
    check(augment.solarize(IMAGES), "out_solarize")
    check(augment.normalize(IMAGES, MEAN, STD), "out_normalize")


@pytest.mark.parametrize("taps", [7, 23])
def test_blur_equals_the_released_code(taps: int) -> None:
    """Protects the kernel and its zero padding, which darkens the borders."""
    check(augment.blur(IMAGES, torch.from_numpy(VECTORS["param_sigma"]), taps), f"out_blur_kernel{taps}")


def test_the_blur_has_23_taps_at_224_pixels() -> None:
    """Protects the kernel width of the paper, and that it shrinks with the image."""
    assert [augment.blur_taps(size) for size in (224, 96, 32, 16)] == [23, 9, 3, 1]


@pytest.mark.parametrize("size", [96, 32])
@pytest.mark.parametrize("number", range(4))
def test_the_crop_equals_tensorflows_bicubic(number: int, size: int) -> None:
    """Protects the resampling: enlarging and shrinking, to TensorFlow's own accuracy."""
    crop, expected = CROPS[f"crop{number}"], CROPS[f"resized{number}_{size}"]
    found = augment.crop_float(torch.from_numpy(crop)[None], whole(1, *crop.shape[:2]), size)
    np.testing.assert_allclose(found[0].permute(1, 2, 0).numpy(), expected, atol=3e-4)


def test_a_crop_sees_nothing_outside_its_box(noise: np.ndarray, second_view: View) -> None:
    """Protects the rule that taps outside the crop are dropped: a box in an image is as if cut out beforehand."""
    d = random_draws(second_view, len(noise), 24, 30)
    found = augment.crop_float(torch.from_numpy(noise), replace(d, flip=np.zeros_like(d.flip)), 16)
    for i, image in enumerate(noise):
        cut = image[d.top[i] : d.top[i] + d.height[i], d.left[i] : d.left[i] + d.width[i]]
        alone = augment.crop_float(torch.from_numpy(cut)[None], whole(1, *cut.shape[:2]), 16)
        torch.testing.assert_close(found[i], alone[0], atol=1e-5, rtol=0)


def test_a_flip_mirrors_the_crop(noise: np.ndarray) -> None:
    """Protects the flip, which is folded into the resampling weights."""
    d = whole(len(noise), 24, 30)
    flipped = replace(d, flip=np.arange(len(noise)) % 2 == 0)
    plain, mirrored = (augment.crop(torch.from_numpy(noise), each, 16) for each in (d, flipped))
    assert torch.equal(mirrored[0::2], plain[0::2].flip(2))
    assert torch.equal(mirrored[1::2], plain[1::2])


def test_a_crop_at_its_own_size_is_the_image(noise: np.ndarray) -> None:
    """Protects half-pixel centres: without a change of size every pixel is sampled at itself."""
    square = torch.from_numpy(noise[:, :, :24])
    found = augment.crop(square, whole(len(noise), 24, 24), 24)
    assert found.dtype == torch.uint8
    assert torch.equal(found, square)


def test_views_follow_the_order_of_the_paper(noise: np.ndarray, second_view: View) -> None:
    """Protects the sequence: one image at a time by the single operations gives what the batch gives."""
    view = replace(second_view, blur=0.5, solarize=0.5, grayscale=0.5)
    d = random_draws(view, len(noise), 24, 30)
    found = views(torch.from_numpy(noise), d, 40)
    x = augment.crop(torch.from_numpy(noise), d, 40).permute(0, 3, 1, 2).double() / 255
    for i in range(len(x)):
        one = x[i : i + 1]
        for number in d.order[i] if d.jitter[i] else ():
            name = ("brightness", "contrast", "saturation", "hue")[number]
            one = getattr(augment, name)(one, torch.from_numpy(getattr(d, name)[i : i + 1]))
        one = augment.grayscale(one) if d.grayscale[i] else one
        one = augment.blur(one, torch.from_numpy(d.sigma[i : i + 1]), 5) if d.blur[i] else one
        one = augment.solarize(one) if d.solarize[i] else one
        one = augment.normalize(one, MEAN, STD)
        # A value within rounding of one half may fall on either side of solarization's threshold.
        assert ((found[i : i + 1].double() - one).abs() > 1e-4).sum() <= 1


@pytest.mark.parametrize("batch", [1, 16])
def test_operations_may_hold_for_every_image(noise: np.ndarray, second_view: View, batch: int) -> None:
    """Protects batches in which an operation was drawn for all, a batch of one image among them."""
    view = replace(second_view, jitter=1.0, grayscale=1.0, blur=1.0, solarize=1.0)
    d = random_draws(view, batch, 24, 30)
    found = views(torch.from_numpy(noise[:batch]), d, 40, (0, 0, 0), (1, 1, 1))
    torch.testing.assert_close(found[:, 0], found[:, 2])
    assert found.min() >= 0
    assert found.max() <= 1


def test_autocast_does_not_reach_the_views(noise: np.ndarray, second_view: View) -> None:
    """Protects pixels from half precision when the training step around them uses it."""
    d = random_draws(second_view, len(noise), 24, 30)
    expected = views(torch.from_numpy(noise), d, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(views(torch.from_numpy(noise), d, 40), expected)


def test_views_do_not_depend_on_the_batch(noise: np.ndarray, second_view: View) -> None:
    """Protects equal inputs whatever the microbatch: uint8 crops may differ by a level where rounding is a tie."""
    index = np.arange(len(noise))

    def crops(part: np.ndarray) -> Tensor:
        d = draw(second_view, seed=0, epoch=part * 0, index=part, view_number=1, height=24, width=30)
        return augment.crop(torch.from_numpy(noise[part]), d, 16)

    split = torch.cat([crops(index[:5]), crops(index[5:6]), crops(index[6:])])
    assert (crops(index).int() - split.int()).abs().max() <= 1


def test_evaluation_only_resizes_and_normalizes(noise: np.ndarray) -> None:
    """Protects the deterministic path, and that pixels given are not written into."""
    pixels = torch.from_numpy(noise)
    before = pixels.clone()
    found = views(pixels, middle(len(noise)), 16)
    crops = augment.crop(pixels, middle(len(noise)), 16).permute(0, 3, 1, 2)
    expected = augment.normalize(crops.float() / 255, MEAN, STD)
    torch.testing.assert_close(found, expected)
    assert found.shape == (len(noise), 3, 16, 16)
    assert torch.equal(pixels, before)


def test_black_and_white_images_stay_finite(second_view: View) -> None:
    """Protects HSV where saturation and hue are undefined."""
    pixels = torch.zeros(64, 20, 20, 3, dtype=torch.uint8)
    pixels[32:] = 255
    found = views(pixels, random_draws(replace(second_view, jitter=1.0), 64, 20, 20), 16)
    assert torch.isfinite(found).all()


def test_a_turn_of_the_whole_circle_changes_nothing() -> None:
    """Protects hue's wrap-around in both directions."""
    for turn in (-1.0, 0.0, 1.0):
        found = augment.hue(IMAGES, torch.full((len(IMAGES),), turn))
        torch.testing.assert_close(found, IMAGES, atol=1e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_views_are_the_same_on_a_gpu(noise: np.ndarray, second_view: View) -> None:
    """Protects the appliers' agreement: crops to one level from pixels on either device, and views of equal crops."""
    d = random_draws(second_view, len(noise), 24, 30)
    pixels = torch.from_numpy(noise)
    crops = augment.crop(pixels, d, 40)
    assert (augment.crop(pixels.cuda(), d, 40).cpu().int() - crops.int()).abs().max() <= 1
    found, truth = augment.views(crops.cuda(), d, ZERO, ONE).cpu(), augment.by_torch(crops, d, ZERO, ONE, torch.float64)
    agree(found, truth)


def agree(found: Tensor, truth: Tensor) -> None:
    """To 2e-3 a pixel, but where a value lies within rounding of solarization's threshold and may fall either way."""
    apart = (found.double() - truth).abs() > 2e-3
    assert apart.sum() <= 1e-5 * truth.numel(), f"{int(apart.sum())} of {truth.numel()} pixels differ"


@pytest.mark.parametrize("size", [16, 40, 96])
def test_both_appliers_agree_with_float64(noise: np.ndarray, second_view: View, size: int) -> None:
    """Protects equal views with and without numba, from identical crops and draws, every operation often drawn."""
    many = np.concatenate([noise] * 4)
    d = random_draws(replace(second_view, grayscale=0.3, blur=0.5, solarize=0.3), len(many), 24, 30)
    crops = augment.crop(torch.from_numpy(many), d, size)
    truth = augment.by_torch(crops, d, ZERO, ONE, torch.float64)
    agree(augment.views(crops, d, ZERO, ONE), truth)
    agree(augment.by_torch(crops, d, ZERO, ONE), truth)


def test_threads_change_nothing(noise: np.ndarray, second_view: View) -> None:
    """Protects the shares into which a batch is cut."""
    d = random_draws(second_view, len(noise), 24, 30)
    crops = augment.crop(torch.from_numpy(noise), d, 40)
    assert torch.equal(augment.views(crops, d, MEAN, STD, threads=3), augment.views(crops, d, MEAN, STD))


def test_the_gpus_compiled_colours_are_the_plain_ones(noise: np.ndarray, second_view: View) -> None:
    """Protects the graph that torch.compile makes, here by its CPU compiler's front end: no branch breaks it."""
    d = random_draws(replace(second_view, grayscale=0.5), len(noise), 24, 30)
    on = {name: torch.from_numpy(getattr(d, name)) for name in augment.COLOURS}
    x = torch.rand(len(noise), 3, 16, 16)
    graph = torch.compile(augment.colours, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(graph(x, on), augment.colours(x, on))


def test_linear_training_views_are_crops_and_flips(noise: np.ndarray) -> None:
    """Protects linear evaluation from colour operations."""
    d = random_draws(crop_flip((0.08, 1.0), 0.5), len(noise), 24, 30)
    found = views(torch.from_numpy(noise), d, 16)
    crops = augment.crop(torch.from_numpy(noise), d, 16).permute(0, 3, 1, 2)
    expected = augment.normalize(crops.float() / 255, MEAN, STD)
    torch.testing.assert_close(found, expected)
