"""scikit-learn's digits as a dataset."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from harness.config.datasets import DATASETS
from harness.data.digits import digits, divide, enlarge
from harness.data.manifest import split_id
from harness.data.source import Source


@pytest.fixture(scope="module")
def source() -> Source:
    """The digits."""
    return digits()


def test_the_splits_are_those_the_runs_keys_rest_on(source: Source) -> None:
    """Protects every recorded run on the digits: a changed split needs a changed split_id, and so new keys."""
    facts = DATASETS["digits"]
    assert split_id(source.splits) == facts.split_id
    for split, numbers in source.splits.items():
        assert len(numbers) == facts.images(split)
    assert len(source.classes) == facts.classes
    assert source.names[1796] == "digits/1796"


def test_the_splits_share_no_image(source: Source) -> None:
    """Protects the sealed test split."""
    joined = np.concatenate(list(source.splits.values()))
    assert sorted(joined) == list(range(1797))


def test_every_split_has_every_class(source: Source) -> None:
    """Protects accuracies from a missing class."""
    for numbers in source.splits.values():
        assert np.bincount(source.labels[numbers], minlength=10).min() >= 10


def test_the_bytes_never_change(source: Source) -> None:
    """Protects the dataset's version: other bytes are another version."""
    images = np.stack([source.image(number) for number in range(1797)])
    assert images.shape == (1797, 24, 24, 3)
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == "c92c2f52a77c1404"
    assert hashlib.sha256(source.labels.tobytes()).hexdigest()[:16] == "a3c91c262eddcf7b"


def test_enlargement_is_bilinear() -> None:
    """Protects the enlargement against torch's bilinear interpolation, to half a level of rounding."""
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(0).integers(0, 17, (5, 8, 8))
    exact = torch.from_numpy(images / 16 * 255)[:, None]
    expected = torch.nn.functional.interpolate(exact, scale_factor=3, mode="bilinear", align_corners=False)
    assert np.abs(enlarge(images) - expected[:, 0].numpy()).max() < 0.501


def test_the_division_is_in_ascending_numbers() -> None:
    """Protects the rule by which a file's contents follow from the split lists."""
    for numbers in divide(1797).values():
        assert (np.diff(numbers) > 0).all()
