"""What the tests of the data room share: views and noise."""

from __future__ import annotations

import numpy as np
import pytest

from harness.config.schema import View


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
