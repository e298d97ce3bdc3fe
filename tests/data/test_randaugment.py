"""RandAugment: each operation against torchvision's own, and views that hold it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import RandAugment

from harness.config.datasets import IMAGENET_MEAN, IMAGENET_STD
from harness.data import augment
from harness.data.draws import OPERATIONS, crop_flip, draw
from harness.data.randaugment import randaugment

NAMES = tuple(RandAugment._AUGMENTATION_SPACE)
VIEW = replace(crop_flip((0.08, 1.0), 0.5), operations=2, magnitude=9)


def pictures(count: int, side: int = 33) -> Tensor:
    """Smooth ones with noise, of little contrast, so that every operation has something to do."""
    generator = torch.Generator().manual_seed(5)
    coarse = 60 + 120 * torch.rand(count, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic")
    noise = 20 * torch.rand(count, 3, side, side, generator=generator)
    return (smooth + noise).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def theirs(image: Tensor, number: int, magnitude: int, sign: int) -> Tensor:
    """One operation on one image (H, W, 3) by torchvision's class."""
    made = RandAugment()
    magnitudes, signed = made._AUGMENTATION_SPACE[NAMES[number]]
    levels = magnitudes(31, *image.shape[:2])
    value = 0.0 if levels is None else float(levels[magnitude]) * (sign if signed else 1)
    out = made._apply_image_or_video_transform(
        image.permute(2, 0, 1), NAMES[number], value, made.interpolation, made._fill
    )
    return out.permute(1, 2, 0)


@pytest.mark.parametrize("number", range(OPERATIONS), ids=NAMES)
@pytest.mark.parametrize("magnitude", [0, 9, 17, 30])
def test_each_operation_is_torchvisions(number: int, magnitude: int) -> None:
    """Protects its meaning: bit for bit, for either sign, whatever other images of the batch go through."""
    crops = pictures(6)
    index = np.arange(len(crops))
    draws = draw(VIEW, seed=0, epoch=index * 0, index=index, view_number=0, height=33, width=33)
    operations, signs = draws.operations[:, :1].copy(), np.array([1, -1, 1, -1, 1, -1])
    operations[:4] = number
    draws = replace(draws, operations=operations, levels=(signs * magnitude)[:, None])
    found = randaugment(crops, draws)
    for image, given, own, sign in zip(found, crops, operations[:, 0].tolist(), signs.tolist(), strict=True):
        assert torch.equal(image, theirs(given, own, magnitude, sign))


def test_two_operations_follow_each_other() -> None:
    """Protects the order of the draws, and the crops that are handed in."""
    crops = pictures(40)
    before, index = crops.clone(), np.arange(40)
    draws = draw(VIEW, seed=1, epoch=index * 0, index=index, view_number=0, height=33, width=33)
    found = randaugment(crops, draws)
    assert torch.equal(crops, before)
    for row in range(40):
        image = crops[row]
        for number, level in zip(draws.operations[row].tolist(), draws.levels[row].tolist(), strict=True):
            image = theirs(image, number, 9, 1 if level > 0 else -1)
        assert torch.equal(found[row], image)


def test_a_view_begins_with_it() -> None:
    """Protects both back ends: their views are those of the operated crops, and without operations those of before."""
    crops, index = pictures(16), np.arange(16)
    draws = draw(VIEW, seed=2, epoch=index * 0, index=index, view_number=0, height=33, width=33)
    plain = replace(draws, operations=draws.operations[:, :0], levels=draws.levels[:, :0])
    for views in (augment.views, augment.by_torch):
        expected = views(randaugment(crops, draws), plain, IMAGENET_MEAN, IMAGENET_STD)
        assert torch.equal(views(crops, draws, IMAGENET_MEAN, IMAGENET_STD), expected)
        assert not torch.equal(views(crops, plain, IMAGENET_MEAN, IMAGENET_STD), expected)
