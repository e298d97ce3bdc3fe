"""From an owner's image to the bytes that are stored: untouched where training can read them, converted where not.

What training cannot read becomes an RGB JPEG of quality 95 with full chroma, within a level or two of the pixels:
other formats, CMYK, pixels without a file, and JPEG files with damage that decoders overlook. Transparency is
dropped, as common loaders do; of an animation the first picture counts; a note of the camera's orientation does not.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from harness.data import source
from harness.data.errors import DataError

QUALITY = 95
# What is tried on a file, whatever its name says: pictures alone. PIL would also hand PostScript to Ghostscript.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
JPEGS = ("JPEG", "MPO")  # a camera's MPO is a JPEG file followed by others
DAMAGED = "JPEG with damaged data"
RESIZED = "longer side above {} pixels"
LIMITED = "longest-side-"  # how the name of a store that limits images begins


@dataclass(frozen=True)
class Encoded:
    """An image as it is stored; `converted` says what it was if those are not the owner's bytes."""

    data: bytes
    height: int
    width: int
    grey: bool = False
    converted: str = ""


def encode(image: source.Image, store: str) -> Encoded:
    """The stored form of an image. Raises DataError where it cannot be decoded whole."""
    if isinstance(image, bytes) and not image:
        raise DataError("the file is empty")
    if store == "raw":
        pixels = image if isinstance(image, np.ndarray) else np.asarray(_rgb(_decoded(_opened(image))))
        return Encoded(_checked(pixels).tobytes(), *pixels.shape[:2])
    longest = int(store.removeprefix(LIMITED)) if store.startswith(LIMITED) else None
    if isinstance(image, np.ndarray):
        return _encoded(Pictures.fromarray(_checked(image)), "pixels", longest)
    picture = _opened(image)
    kind = _unreadable(picture, image)
    if kind or (longest and max(picture.size) > longest):
        return _encoded(_decoded(picture), kind, longest)
    return Encoded(image, picture.height, picture.width, grey=picture.mode == "L")


def fault(data: bytes, height: int, width: int) -> str | None:
    """What is wrong with a stored JPEG file of this size, if anything."""
    try:
        picture = _opened(data)
        if (picture.height, picture.width) != (height, width):
            return f"it has {picture.height} x {picture.width} pixels, not {height} x {width}"
        kind = _unreadable(picture, data)
    except DataError as error:
        return str(error)
    return f"it is a {kind}" if kind else None


def _opened(data: bytes) -> Pictures.Image:
    try:
        return Pictures.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # every format has errors of its own
        raise DataError(f"it is no image that can be decoded ({_first_line(error)})") from error


def _decoded(picture: Pictures.Image) -> Pictures.Image:
    try:
        picture.load()
    except Exception as error:  # every format has errors of its own
        raise DataError(f"it cannot be decoded ({_first_line(error)})") from error
    return picture


def _unreadable(picture: Pictures.Image, data: bytes) -> str:
    """Why training could not read an image as it is; nothing if it can."""
    if picture.format not in JPEGS or picture.mode not in ("RGB", "L"):
        return f"{'JPEG' if picture.format in JPEGS else picture.format} {picture.mode}"
    try:
        from harness.data import turbojpeg  # noqa: PLC0415 - compiles; and absent on some machines

        turbojpeg.read(data)
    except ImportError:  # training there decodes as leniently as this
        _decoded(picture)
    except DataError:
        return DAMAGED
    return ""


def _encoded(picture: Pictures.Image, kind: str, longest: int | None) -> Encoded:
    """A JPEG of the picture, no larger than `longest`; resized by PIL's bicubic filter with antialiasing."""
    picture = picture if picture.mode == "L" else _rgb(picture)
    if longest and max(picture.size) > longest:
        width, height = (max(1, round(side * longest / max(picture.size))) for side in picture.size)
        picture = picture.resize((width, height), Pictures.Resampling.BICUBIC)
        kind = kind or RESIZED.format(longest)
    out = io.BytesIO()
    picture.save(out, format="JPEG", quality=QUALITY, subsampling=0)
    return Encoded(out.getvalue(), picture.height, picture.width, picture.mode == "L", kind)


def _rgb(picture: Pictures.Image) -> Pictures.Image:
    if picture.mode.startswith("I"):  # 16 bits: PIL itself would cut off all above 255
        return Pictures.fromarray((np.asarray(picture).clip(0, 65_535) // 257).astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


def _checked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3 or not pixels.size:
        raise DataError(f"its pixels are {pixels.dtype} {pixels.shape}, not uint8 (height, width, 3)")
    return np.ascontiguousarray(pixels)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
