"""The .beton reader: what it accepts, and the damage it finds."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.data.beton import FIELD, HEADER, SAMPLE, SAMPLES_AT, Beton
from harness.data.errors import DataError
from harness.data.prepare import Dataset
from harness.data.writer import Sample, write

Damage = Callable[[Path], None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Five raw images of 2 x 3 pixels, two with targets, in the folder of a dataset."""
    path = tmp_path / "digits" / "test.beton"
    path.parent.mkdir()
    images = np.arange(5 * 18, dtype=np.uint8).reshape(5, 18)
    made = [Sample(image.tobytes(), b"ab" * (n % 2), n, 10 + n, 2, 3) for n, image in enumerate(images)]
    write(path, "rgb", made, 5)
    return path


def test_it_reads_the_digits(digits: Dataset) -> None:
    """Protects what training sees of the built-in set: numbers, labels, sizes and bytes that fit together."""
    beton = Beton(digits.beton("test"))
    assert (len(beton), beton.encoding, beton.uniform, beton.targets) == (500, "rgb", True, False)
    np.testing.assert_array_equal(beton.indices, digits.numbers("test"))
    assert set(beton.heights) == set(beton.widths) == {24}
    assert beton.pixels(np.array([499, 0, 0])).shape == (3, 24, 24, 3)


def overwrite(offset: int, *words: int) -> Damage:
    """A damage that writes whole numbers of eight bytes at `offset`."""

    def damage(path: Path) -> None:
        with path.open("r+b") as out:
            out.seek(offset)
            out.write(struct.pack(f"<{len(words)}Q", *words))

    return damage


def byte(offset: int, value: int) -> Damage:
    """A damage that changes one byte."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[offset] = value
        path.write_bytes(content)

    return damage


def truncate(size: int) -> Damage:
    """A damage that keeps the first `size` bytes, or drops the last -`size`."""

    def damage(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:size])

    return damage


LAST = SAMPLES_AT + 4 * SAMPLE.itemsize  # the last sample: place and size of image and target, then the numbers
DATA = SAMPLES_AT + 5 * SAMPLE.itemsize


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate(0), "cannot be read"),
        (truncate(10), "ends after 10 bytes"),
        (truncate(4000), "ends after 4000 bytes"),
        (truncate(SAMPLES_AT + 70), "ends after"),
        (truncate(-24), "table of places is missing or incomplete"),
        (truncate(-1), "table of places is missing or incomplete"),
        (overwrite(16, 1 << 40), "table of places is missing or incomplete"),
        (byte(0, 9), "another version of the harness.*format is number 9"),
        (byte(2, 3), "another version of the harness.*fields are rgb, target, label"),
        (byte(2, 0), "another version of the harness.*fields are none"),
        (byte(HEADER.itemsize, 5), "another version of the harness"),
        (byte(HEADER.itemsize + 1, ord("x")), "another version of the harness"),
        (overwrite(8, 0), "holds no sample"),
        (overwrite(LAST, 3), "disagrees"),
        (overwrite(LAST + 8, 17), "disagrees"),
        (overwrite(LAST + 48, 0), "height 0"),
        (overwrite(LAST + 56, 70_000), "width 70000"),
        (overwrite(LAST + 48, 3), "bytes of its height and width"),
    ],
)
def test_damage_is_found(file: Path, damage: Damage, words: str) -> None:
    """Protects FFCV from broken files, which it reads as bytes from somewhere else, and names the remedy."""
    Beton(file)
    damage(file)
    with pytest.raises(DataError, match=words) as error:
        Beton(file)
    assert str(file) in str(error.value)
    assert "harness prepare digits" in str(error.value)


@pytest.mark.parametrize("start", [DATA - 1, DATA + 1, 0])
def test_images_that_overlap_are_found(file: Path, start: int) -> None:
    """Protects against places that the table repeats but that cannot be right."""
    content = file.read_bytes()
    table = int(np.frombuffer(content[: HEADER.itemsize], HEADER)["table"][0])
    overwrite(LAST, start)(file)
    overwrite(table + 4 * 24 + 8, start)(file)
    with pytest.raises(DataError, match="overlap or lie outside"):
        Beton(file)


def test_the_older_layout_says_that_it_is_older(tmp_path: Path) -> None:
    """Protects the upgrade: a file of raw images as they were first written is named as such, not as damage."""
    header = np.array([(2, 3, 1 << 21, 1, 0)], HEADER)
    fields = np.zeros(3, FIELD)
    fields["name"], fields["type"] = [b"image", b"label", b"index"], [2, 1, 1]
    (tmp_path / "a.beton").write_bytes(header.tobytes() + fields.tobytes() + bytes(500))
    with pytest.raises(DataError, match=r"another version of the harness.*fields are image, label, index"):
        Beton(tmp_path / "a.beton")


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    """Protects the message when a path is wrong."""
    with pytest.raises(DataError, match="cannot be read"):
        Beton(tmp_path / "nothing.beton")


def test_pixels_are_for_raw_images_of_one_size(tmp_path: Path) -> None:
    """Protects callers who would take a JPEG's bytes, or images of several sizes, for an array."""
    write(tmp_path / "a.beton", "rgb", [Sample(bytes(3), b"", 0, 0, 1, 1), Sample(bytes(6), b"", 0, 1, 1, 2)], 2)
    write(tmp_path / "b.beton", "jpeg", [Sample(bytes(3), b"", 0, 0, 1, 1)], 1)
    for file in ("a.beton", "b.beton"):
        with pytest.raises(DataError, match="raw images of one size"):
            Beton(tmp_path / file).pixels(np.array([0]))
