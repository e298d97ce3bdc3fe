"""What the tests of the evaluation room share: an evaluation of the digits, and a small set of images with flags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.config.expand import expand
from harness.config.schema import Linear
from harness.data.prepare import Dataset, open_dataset, prepare


@pytest.fixture
def spec() -> Linear:
    """The laptop's linear evaluation of Table 5b, cut to one epoch (8 updates)."""
    return replace(expand("5b", "laptop", seeds=1, cell="byol").members[0].evaluation, epochs=1)


@pytest.fixture(scope="session")
def voc(data: Path) -> Dataset:
    """VOC 2007's generated twin: several classes an image, some of them difficult."""
    prepare("voc2007-stand-in", data, lambda _: None)
    return open_dataset("voc2007-stand-in", data)


@pytest.fixture(scope="session")
def pets(data: Path) -> Dataset:
    """The generated twin of a dataset whose metric is the mean per class."""
    prepare("pets-stand-in", data, lambda _: None)
    return open_dataset("pets-stand-in", data)
