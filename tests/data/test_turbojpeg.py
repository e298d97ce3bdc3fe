"""Decoding against PIL, and what must not pass for an image."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.errors import DataError

turbojpeg = pytest.importorskip("harness.data.turbojpeg", exc_type=ImportError)


def photo(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Something smooth with noise on it."""
    y, x, c = np.mgrid[:height, :width, :channels]
    noise = np.random.default_rng(0).normal(0, 12, (height, width, channels))
    return np.clip(128 + 90 * np.sin(x / 9 + c) * np.cos(y / 13 - c) + noise, 0, 255).astype(np.uint8).squeeze()


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    """The file of an image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


WHOLE = jpeg(photo(61, 83))


@pytest.mark.parametrize("options", [{"quality": 95, "subsampling": 0}, {"subsampling": 2}, {"progressive": True}])
@pytest.mark.parametrize("shape", [(61, 83), (1, 1), (16, 200)])
def test_pixels_equal_pils(options: dict, shape: tuple[int, int]) -> None:
    """Protects the exact DCT and the smooth upsampling: a quicker one of either gives other pixels."""
    data = jpeg(photo(*shape, 3).reshape(*shape, 3), **options)
    np.testing.assert_array_equal(turbojpeg.read(data), np.asarray(Image.open(io.BytesIO(data))))


def test_a_grey_file_has_three_equal_channels() -> None:
    """Protects the grey images that ImageNet contains."""
    data = jpeg(photo(30, 40, 1))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(turbojpeg.read(data), expected)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.2, 0.5, 0.9, 0.99, 0.9999])
def test_a_truncated_file_is_refused(part: float) -> None:
    """Protects training from images whose lower part is missing."""
    with pytest.raises(DataError, match="no JPEG file"):
        turbojpeg.read(WHOLE[: int(part * len(WHOLE))])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        np.random.default_rng(0).bytes(5000),
        WHOLE[:200] + np.random.default_rng(0).bytes(len(WHOLE) - 200),
        WHOLE[:-400] + b"\xff\xc4" * 150 + WHOLE[-100:],
    ],
    ids=["empty", "short", "noise", "noise after a header", "damaged"],
)
def test_garbage_is_refused(data: bytes) -> None:
    """Protects against decoders that go on after an error with whatever is in memory."""
    with pytest.raises(DataError, match="no JPEG file"):
        turbojpeg.read(data)


def test_four_inks_are_refused() -> None:
    """Protects from CMYK files, which libjpeg-turbo does not turn into RGB."""
    file = io.BytesIO()
    Image.new("CMYK", (20, 20)).save(file, "JPEG")
    with pytest.raises(DataError, match="color conversion"):
        turbojpeg.read(file.getvalue())


def test_warnings_that_cost_no_pixel_pass() -> None:
    """Protects real photographs: many carry bytes too many, or a version that libjpeg does not know."""
    expected = turbojpeg.read(WHOLE)
    extraneous = WHOLE[:-2] + b"\x00\x12\x34\x56" + WHOLE[-2:]
    revision = bytearray(WHOLE)
    revision[WHOLE.index(b"JFIF\0") + 5] = 7
    for data in (extraneous, bytes(revision), WHOLE + b"appended"):
        np.testing.assert_array_equal(turbojpeg.read(data), expected)
    with pytest.raises(DataError):  # libjpeg tells the first warning only
        turbojpeg.read(bytes(revision[:-500]))


def test_a_file_of_another_size_is_refused() -> None:
    """Protects memory, and pixels: the library would scale an image down to fit."""
    handle, data, out = turbojpeg.make_handle(), np.frombuffer(WHOLE, np.uint8), np.empty(4 * 61 * 83, np.uint8)
    assert turbojpeg.size(handle, data) == (61, 83)
    assert turbojpeg.decode(handle, data, 61, 83, out) == 0
    for height, width in ((61, 82), (60, 83), (31, 42)):
        assert turbojpeg.decode(handle, data, height, width, out) == turbojpeg.OTHER_SIZE
        assert "size" in turbojpeg.complaint(handle, turbojpeg.OTHER_SIZE)
    with pytest.raises(ValueError, match="smaller"):
        turbojpeg.decode(handle, data, 61, 83, out[:-1])
    turbojpeg.free_handle(handle)


def test_a_handle_survives_a_broken_file() -> None:
    """Protects the images that follow a broken one."""
    handle, out = turbojpeg.make_handle(), np.empty(4 * 61 * 83, np.uint8)
    broken, whole = (np.frombuffer(data, np.uint8) for data in (WHOLE[: len(WHOLE) // 2], WHOLE))
    assert turbojpeg.decode(handle, broken, 61, 83, out) == turbojpeg.BROKEN
    assert turbojpeg.decode(handle, whole, 61, 83, out) == 0
    np.testing.assert_array_equal(out.reshape(61, 83, 4)[..., :3], turbojpeg.read(WHOLE))
    turbojpeg.free_handle(handle)


def test_compiled_code_serves_a_second_process(tmp_path: Path) -> None:
    """Protects numba's cache: the library lies at another address in every process."""
    image = tmp_path / "image.jpg"
    image.write_bytes(WHOLE)
    code = (
        "import pathlib, sys; from harness.data import turbojpeg as t;"
        "print(int(t.read(pathlib.Path(sys.argv[1]).read_bytes()).sum()), sum(t.decode.stats.cache_misses.values()))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    first, second = (
        subprocess.run([sys.executable, "-c", code, image], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    total = int(turbojpeg.read(WHOLE).sum())
    assert first.stdout.split() == [str(total), "1"]
    assert second.stdout.split() == [str(total), "0"]
