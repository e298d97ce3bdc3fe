"""The .beton reader: what it accepts, and the damage it finds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.data.beton import Beton
from harness.data.errors import DataError
from harness.data.prepare import SOURCES, Dataset

pytestmark = pytest.mark.ffcv


@pytest.fixture
def file(digits: Dataset, tmp_path: Path) -> Path:
    """A copy of the digits' test.beton to damage."""
    (tmp_path / "digits").mkdir()
    return shutil.copy(digits.beton("test"), tmp_path / "digits" / "test.beton")


def test_it_reads_what_ffcv_wrote(digits: Dataset) -> None:
    """Protects the reading of the format: pixels, labels and indices are the source's."""
    source = SOURCES["digits"]()
    beton, numbers = Beton(digits.beton("test")), source.splits["test"]
    order = np.array([499, 0, 7, 7])
    assert len(beton) == 500
    np.testing.assert_array_equal(beton.pixels(order), source.images[numbers[order]])
    np.testing.assert_array_equal(beton.labels, source.labels[numbers])
    np.testing.assert_array_equal(beton.indices, np.arange(500))


def overwrite(offset: int, content: bytes) -> Callable[[Path], None]:
    """A damage that writes `content` at `offset`."""

    def damage(path: Path) -> None:
        with path.open("r+b") as out:
            out.seek(offset)
            out.write(content)

    return damage


def truncate(size: int) -> Callable[[Path], None]:
    """A damage that keeps the first `size` bytes, or drops the last -`size`."""

    def damage(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[:size])

    return damage


FIRST = 24 + 3 * 1041  # the first sample in FFCV's format: mode, width (2 bytes), height (2), place of the pixels


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate(0), "cannot be read"),
        (truncate(10), "ends after 10 bytes"),
        (truncate(4000), "ends after 4000 bytes"),
        (truncate(1 << 21), "table of images is missing"),
        (truncate(-24), "table of images is missing"),
        (overwrite(0, b"\x09"), "header"),
        (overwrite(2, b"\x04"), "header"),
        (overwrite(24, b"\x05"), "fields"),
        (overwrite(25, b"x"), "fields"),
        (overwrite(FIRST, b"\x00"), "compressed"),
        (overwrite(FIRST + 1, b"\x63"), "differ in size"),
        (overwrite(FIRST + 5, b"\x01"), "disagrees"),
    ],
)
def test_damage_is_found(file: Path, damage: Callable[[Path], None], words: str) -> None:
    """Protects FFCV from broken files, which it reads as pixels from somewhere else, and names the remedy."""
    damage(file)
    with pytest.raises(DataError, match=words) as error:
        Beton(file)
    assert str(file) in str(error.value)
    assert "harness prepare digits" in str(error.value)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    """Protects the message when a path is wrong."""
    with pytest.raises(DataError, match="cannot be read"):
        Beton(tmp_path / "nothing.beton")
