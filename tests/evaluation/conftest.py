"""What the tests of the evaluation room share: the digits, an evaluation of them, and float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.config.expand import expand
from harness.config.schema import Linear
from harness.data.prepare import Dataset, open_dataset, prepare


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The digits as a run opens them, written once for all rooms of the session."""
    directory: Path = tmp_path_factory.getbasetemp() / "prepared"
    prepare("digits", directory, lambda _: None)
    return open_dataset("digits", directory)


@pytest.fixture
def float64() -> Iterator[None]:
    """Models made inside hold double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def spec() -> Linear:
    """The laptop's linear evaluation of Table 5b, cut to one epoch (8 updates)."""
    return replace(expand("5b", "laptop", seeds=1, cell="byol").members[0].evaluation, epochs=1)
