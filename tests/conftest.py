"""What the tests of several rooms share: the digits, prepared once, and float64."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness.data.prepare import Dataset, open_dataset, prepare


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where FFCV is not installed, skip what needs it."""
    if importlib.util.find_spec("ffcv") is None:
        for item in items:
            if item.get_closest_marker("ffcv"):
                item.add_marker(pytest.mark.skip(reason="FFCV is not installed"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the digits in it."""
    directory = tmp_path_factory.mktemp("data")
    prepare("digits", directory, lambda _: None)
    return directory


@pytest.fixture(scope="session")
def digits(data: Path) -> Dataset:
    """The digits as a run opens them."""
    return open_dataset("digits", data)


@pytest.fixture
def float64() -> Iterator[None]:
    """Models made inside hold double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
