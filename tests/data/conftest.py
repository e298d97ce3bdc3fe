"""What the tests of the data room share: the digits, prepared once."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from harness.config.schema import View
from harness.data.prepare import Dataset, open_dataset, prepare


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where FFCV is not installed, skip what needs it."""
    if importlib.util.find_spec("ffcv") is None:
        for item in items:
            if item.get_closest_marker("ffcv"):
                item.add_marker(pytest.mark.skip(reason="FFCV is not installed"))


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the digits prepared in it."""
    directory = tmp_path_factory.mktemp("data")
    prepare("digits", directory, lambda _: None)
    return directory


@pytest.fixture(scope="session")
def dataset(directory: Path) -> Dataset:
    """The digits as a run opens them."""
    return open_dataset("digits", directory)


@pytest.fixture
def second_view() -> View:
    """T' of the paper's Table 6, in which every operation occurs."""
    return View(
        crop_area=(0.08, 1.0),
        flip=0.5,
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        grayscale=0.2,
        blur=0.1,
        blur_sigma=(0.1, 2.0),
        solarize=0.2,
    )


@pytest.fixture
def noise() -> np.ndarray:
    """A batch of images of noise, uint8 NHWC, not square."""
    return np.random.default_rng(0).integers(0, 256, (16, 24, 30, 3), dtype=np.uint8)
