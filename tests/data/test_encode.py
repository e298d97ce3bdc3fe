"""What is stored of an image: the owner's bytes where training can read them, an RGB JPEG where it cannot."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFilter

from harness.data.encode import DAMAGED, encode, fault
from harness.data.errors import DataError
from harness.data.stand_in import jpeg, picture

PIXELS = np.asarray(Image.fromarray(picture(2, 5)).filter(ImageFilter.GaussianBlur(1.5)))  # smooth as photographs are
HEIGHT, WIDTH = PIXELS.shape[:2]


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file of some kind."""
    out = io.BytesIO()
    image.save(out, format=kind, **options)  # type: ignore[arg-type]
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    """A stored image, decoded by PIL."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def apart(data: bytes, pixels: np.ndarray) -> float:
    """The mean difference between a stored image and pixels, in levels."""
    return float(np.abs(np.asarray(opened(data).convert("RGB")).astype(float) - pixels).mean())


@pytest.mark.parametrize("grey", [False, True])
def test_a_jpeg_keeps_its_bytes(grey: bool) -> None:
    """Protects the owner's images: no second generation of JPEG, whatever its colours, marks and extra bytes."""
    image = Image.fromarray(PIXELS).convert("L" if grey else "RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter, which nobody follows
    for data in (saved(image, "JPEG"), saved(image, "JPEG", progressive=True, exif=exif)):
        stored = encode(data, "original")
        assert (stored.data, stored.height, stored.width, stored.grey) == (data, HEIGHT, WIDTH, grey)
        assert not stored.converted


def test_a_camera_file_of_several_jpegs_is_a_jpeg() -> None:
    """Protects MPO files, which some sets hold under the name .jpg."""
    data = saved(Image.fromarray(PIXELS), "MPO", save_all=True, append_images=[Image.fromarray(PIXELS)])
    assert opened(data).format == "MPO"
    assert encode(data, "original").data == data


@pytest.mark.parametrize(
    ("kind", "mode", "named"),
    [
        ("PNG", "RGB", "PNG RGB"),
        ("PNG", "P", "PNG P"),
        ("PNG", "RGBA", "PNG RGBA"),
        ("GIF", "P", "GIF P"),
        ("BMP", "RGB", "BMP RGB"),
        ("JPEG", "CMYK", "JPEG CMYK"),
    ],
)
def test_other_kinds_become_jpegs(kind: str, mode: str, named: str) -> None:
    """Protects training from what it cannot decode, and the count of what was converted by its kind."""
    image = Image.fromarray(PIXELS).convert(mode)
    stored = encode(saved(image, kind), "original")
    assert stored.converted == named
    assert (opened(stored.data).format, opened(stored.data).size) == ("JPEG", (WIDTH, HEIGHT))
    assert apart(stored.data, np.asarray(image.convert("RGB"))) < 4
    assert opened(stored.data).layer[0][1:3] == (1, 1), "full chroma"  # type: ignore[attr-defined]


def test_sixteen_bits_become_eight() -> None:
    """Protects against PIL's own conversion, which cuts off all above 255."""
    deep = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    stored = encode(saved(deep, "PNG"), "original")
    assert stored.converted == "PNG I;16"
    assert apart(stored.data, PIXELS[..., :1]) < 2


def test_pixels_without_a_file_become_a_jpeg() -> None:
    """Protects sets that their owners distribute as arrays."""
    stored = encode(PIXELS, "original")
    assert stored.converted == "pixels"
    assert apart(stored.data, PIXELS) < 2


def test_raw_stores_hold_pixels() -> None:
    """Protects CIFAR's and the digits' pixels, from arrays and from files alike."""
    for image in (PIXELS, saved(Image.fromarray(PIXELS), "PNG")):
        stored = encode(image, "raw")
        assert (stored.data, stored.height, stored.width) == (PIXELS.tobytes(), HEIGHT, WIDTH)


def test_the_longer_side_is_limited() -> None:
    """Protects the smaller store: large images shrink in proportion, by a filter that averages, others keep bytes."""
    large = np.repeat(np.repeat(PIXELS, 8, axis=0), 8, axis=1)
    stored = encode(jpeg(large, quality=95), "longest-side-256")
    longest = max(HEIGHT, WIDTH)
    assert (stored.height, stored.width) == (round(HEIGHT * 256 / longest), round(WIDTH * 256 / longest))
    assert stored.converted == "longer side above 256 pixels"
    expected = np.asarray(Image.fromarray(large).resize((stored.width, stored.height), Image.Resampling.BICUBIC))
    assert apart(stored.data, expected) < 3
    assert encode(jpeg(PIXELS), "longest-side-256").data == jpeg(PIXELS)
    grey = encode(saved(Image.fromarray(large).convert("L"), "JPEG"), "longest-side-256")
    assert grey.grey
    assert opened(grey.data).mode == "L"


def damaged(data: bytes) -> bytes:
    """A JPEG whose compressed data are wrong in the middle, so that decoders guess and go on."""
    middle = len(data) // 2
    return data[:middle] + b"\xff\xd1" + data[middle + 40 :]


def test_damage_that_decoders_overlook_is_converted_and_counted() -> None:
    """Protects training, whose decoder is strict, from a JPEG that others decode with a warning."""
    pytest.importorskip("numba")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = encode(damaged(jpeg(PIXELS)), "original")
    assert stored.converted == DAMAGED
    assert fault(stored.data, HEIGHT, WIDTH) is None
    assert fault(damaged(jpeg(PIXELS)), HEIGHT, WIDTH) is not None


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "is empty"),
        (b"GIF? no", "no image that can be decoded"),
        (jpeg(PIXELS)[: len(jpeg(PIXELS)) // 2], "cannot be decoded"),
        (saved(Image.fromarray(PIXELS), "PNG")[:3000], "cannot be decoded"),
        (PIXELS[..., 0], "not uint8"),
        (PIXELS.astype(np.float32), "not uint8"),
    ],
)
def test_what_cannot_be_decoded_whole_is_an_error(image: bytes | np.ndarray, words: str) -> None:
    """Protects the store from truncated, empty and foreign files."""
    for store in ("original", "raw", "longest-side-256"):
        with pytest.raises(DataError, match=words):
            encode(image, store)


def test_faults_of_stored_images() -> None:
    """Protects `--check`: another size, another format and truncation are told apart from a good image."""
    good = jpeg(PIXELS)
    assert fault(good, HEIGHT, WIDTH) is None
    assert "pixels, not" in str(fault(good, HEIGHT + 1, WIDTH))
    assert "PNG" in str(fault(saved(Image.fromarray(PIXELS), "PNG"), HEIGHT, WIDTH))
    assert fault(good[:-500], HEIGHT, WIDTH)
    assert fault(b"nothing", HEIGHT, WIDTH)
