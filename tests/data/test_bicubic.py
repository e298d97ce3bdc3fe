"""The compiled crop against TensorFlow's resize and against the crop in torch."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.data import augment
from harness.data.draws import crop_flip, draw

bicubic = pytest.importorskip("harness.data.bicubic", exc_type=ImportError)

CROPS = np.load(Path(__file__).parents[1] / "golden" / "bicubic_crops.npz")
Box = tuple[int, int, int, int, bool]


def in_torch(pixels: np.ndarray, box: Box, size: int) -> np.ndarray:
    """The same crop by augment.py, in [0, 1]."""
    one, shape = np.zeros(1, np.int64), {"height": pixels.shape[0], "width": pixels.shape[1]}
    drawn = draw(crop_flip((1.0, 1.0), 0.0), seed=0, epoch=one, index=one, view_number=0, **shape)
    names = ("top", "left", "height", "width", "flip")
    drawn = replace(drawn, **{name: np.array([value]) for name, value in zip(names, box, strict=True)})
    return augment.crop_float(torch.from_numpy(pixels)[None], drawn, size)[0].permute(1, 2, 0).numpy()


def padded(pixels: np.ndarray) -> np.ndarray:
    """Four bytes a pixel, the last of them noise."""
    noise = np.random.default_rng(1).integers(0, 256, (*pixels.shape[:2], 1), dtype=np.uint8)
    return np.concatenate([pixels, noise], axis=2)


@st.composite
def crops(draw: st.DrawFn) -> tuple[np.ndarray, Box, int]:
    """An image of noise, a box in it and a size: down to single pixels."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    box = (top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)), draw(st.booleans()))
    seed = draw(st.integers(0, 99))
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return pixels, box, draw(st.integers(1, 50))


@pytest.mark.parametrize("size", [96, 32])
@pytest.mark.parametrize("number", range(4))
def test_the_crop_equals_tensorflows_bicubic(number: int, size: int) -> None:
    """Protects the resampling: enlarging and shrinking, to TensorFlow's own accuracy."""
    pixels = CROPS[f"crop{number}"]
    for image in (pixels, padded(pixels)):
        found = bicubic.crop_float(image, 0, 0, *pixels.shape[:2], False, size)
        np.testing.assert_allclose(found, CROPS[f"resized{number}_{size}"], atol=3e-4)


@settings(max_examples=150, deadline=None)
@given(crops())
def test_any_crop_equals_the_crop_in_torch(case: tuple[np.ndarray, Box, int]) -> None:
    """Protects edges, flips, tiny images and sizes that are no multiple of a vector."""
    pixels, box, size = case
    expected = in_torch(pixels, box, size)
    for image in (pixels, padded(pixels)):
        np.testing.assert_allclose(bicubic.crop_float(image, *box, size), expected, atol=2e-5)
        out = np.empty((size, size, 3), np.uint8)
        bicubic.crop(image, *box, out)
        assert np.abs(out - 255 * expected).max() <= 0.51


def test_nothing_is_written_or_read_outside() -> None:
    """Protects neighbours in memory: the last pixel of a crop, and the last of an image that ends its file."""
    memory = np.full(2 * 37 * 37 * 3, 77, np.uint8)
    out = memory[1000 : 1000 + 37 * 37 * 3].reshape(37, 37, 3)
    source = np.full(20 * 30 * 3 + 64, 255, np.uint8)
    source[: 20 * 30 * 3] = 10
    bicubic.crop(source[: 20 * 30 * 3].reshape(20, 30, 3), 3, 5, 17, 25, True, out)
    assert (out == 10).all()
    assert (memory[:1000] == 77).all()
    assert (memory[1000 + out.size :] == 77).all()


def test_pixels_may_be_a_read_only_map_of_a_file(tmp_path: Path, noise: np.ndarray) -> None:
    """Protects raw stores, whose images are cut from the mapped file itself."""
    file = tmp_path / "pixels"
    noise[:2].tofile(file)
    mapped = np.memmap(file, np.uint8, mode="r")[24 * 30 * 3 :].reshape(24, 30, 3)
    np.testing.assert_array_equal(
        bicubic.crop_float(mapped, 2, 3, 20, 20, True, 16), bicubic.crop_float(noise[1], 2, 3, 20, 20, True, 16)
    )


@pytest.mark.parametrize(
    "box", [(-1, 0, 5, 5), (0, -1, 5, 5), (0, 0, 25, 5), (20, 0, 5, 5), (0, 26, 5, 5), (0, 0, 0, 5)]
)
def test_a_box_outside_the_image_is_refused(noise: np.ndarray, box: tuple[int, int, int, int]) -> None:
    """Protects from reading memory that is not the image's."""
    with pytest.raises(ValueError, match="a crop's box"):
        bicubic.crop_float(noise[0], *box, False, 16)


def test_a_batch_is_cropped_image_by_image(noise: np.ndarray) -> None:
    """Protects the form in which images of one size are cropped."""
    boxes = np.array([(i % 4, i % 5, 20 - i, 7 + i, i % 2) for i in range(len(noise))])
    out = np.empty((len(noise), 16, 16, 3), np.uint8)
    bicubic.crop_all(noise, boxes, out)
    for image, (*box, flip), found in zip(noise, boxes.tolist(), out, strict=True):
        assert np.abs(found - 255 * in_torch(image, (*box, bool(flip)), 16)).max() <= 0.51


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_one_decode_serves_every_view(mode: str) -> None:
    """Protects the path of a JPEG store: the views are crops of the decoded pixels, a broken file is told."""
    turbojpeg = pytest.importorskip("harness.data.turbojpeg", exc_type=ImportError)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG")
    data = np.frombuffer(file.getvalue(), np.uint8)
    boxes = np.array([(0, 0, 50, 70, 0), (10, 20, 30, 25, 1), (49, 69, 1, 1, 0)])
    out, scratch = np.empty((3, 32, 32, 3), np.uint8), np.empty(4 * 50 * 70 + 999, np.uint8)
    handle = turbojpeg.make_handle()
    assert bicubic.decode_and_crop(data, 50, 70, boxes, out, scratch, handle) == 0
    decoded = turbojpeg.read(file.getvalue())
    for found, (*box, flip) in zip(out, boxes.tolist(), strict=True):
        assert np.abs(found - 255 * in_torch(decoded, (*box, bool(flip)), 32)).max() <= 0.51
    assert bicubic.decode_and_crop(data[:-99], 50, 70, boxes, out, scratch, handle) == turbojpeg.BROKEN
    turbojpeg.free_handle(handle)
