"""Generated pictures: the same everywhere, of many sizes, and worth learning from."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from harness.config.datasets import DATASETS, STAND_IN_CLASSES, STAND_IN_PER_CLASS
from harness.data.stand_in import jpeg, picture, png, samples

TRAIN, TEST = 40, 20  # pictures a class


@pytest.fixture(scope="module")
def pictures() -> list[list[np.ndarray]]:
    """Some of every class."""
    return [[picture(label, number) for number in range(TRAIN + TEST)] for label in range(STAND_IN_CLASSES)]


def test_pictures_differ_and_come_again(pictures: list[list[np.ndarray]]) -> None:
    """Protects stand-ins from depending on the order in which pictures are made, and from holding one twice."""
    flat = [each.tobytes() for row in pictures for each in row]
    assert len(set(flat)) == len(flat)
    assert picture(3, 7).tobytes() == pictures[3][7].tobytes()


def test_sizes_vary(pictures: list[list[np.ndarray]]) -> None:
    """Protects the tests of preparing and of crops, which need pictures that are not all one square."""
    sides = np.array([each.shape for row in pictures for each in row])
    assert sides[:, :2].min() >= 64
    assert sides[:, :2].max() <= 96
    assert len({tuple(each) for each in sides}) > len(sides) / 2
    assert min(picture(0, 0, 36).shape[:2]) >= 32


def test_classes_are_learnt_from_texture_more_than_from_colour(pictures: list[list[np.ndarray]]) -> None:
    """Protects the pipeline's tests: features of texture tell the classes apart, the mean colour much less well."""
    small = [np.asarray(Image.fromarray(each).resize((64, 64))) for row in pictures for each in row]
    batch = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2) / 255 - 0.5
    filters = torch.randn(32, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    maps = torch.nn.functional.conv2d(batch, filters, stride=2).relu().flatten(2)
    texture = _accuracy(torch.cat([maps.mean(2), maps.std(2)], 1).numpy())
    colour = _accuracy(batch.mean((2, 3)).numpy())
    assert texture > 0.6
    assert colour < texture - 0.15


def test_files_hold_the_pixels(pictures: list[list[np.ndarray]]) -> None:
    """Protects masks, which must come back exactly, and JPEGs from being something else."""
    pixels = pictures[0][0]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(pixels[..., 0])))), pixels[..., 0])
    opened = Image.open(io.BytesIO(jpeg(pixels)))
    assert opened.format == "JPEG"
    assert np.abs(np.asarray(opened).astype(int) - pixels).mean() < 16
    assert len(jpeg(pixels, quality=50)) < len(jpeg(pixels))


def test_every_class_has_the_same_share_of_every_split() -> None:
    """Protects the counts that the facts promise; numbers are used once in a class."""
    for name in ("pets-stand-in", "nyu-depth-stand-in"):
        facts = DATASETS[name]
        rows = list(samples(facts))
        assert len({row[:2] for row in rows}) == len(rows)
        counts = Counter((label, split) for label, _, split in rows)
        expected = {(k, split): n for k in range(max(facts.classes, 1)) for split, n in STAND_IN_PER_CLASS.items()}
        assert counts == expected


def _accuracy(features: np.ndarray) -> float:
    features = (features - features.mean(0)) / features.std(0)
    labels = np.repeat(np.arange(STAND_IN_CLASSES), TRAIN + TEST)
    train = np.tile(np.arange(TRAIN + TEST) < TRAIN, STAND_IN_CLASSES)
    return float(
        LogisticRegression(max_iter=500).fit(features[train], labels[train]).score(features[~train], labels[~train])
    )
