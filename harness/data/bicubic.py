"""The crop of `augment.crop` as compiled code: one image, one core.

Four output rows are made together. First the source rows around each are blended into rows of floats that lie
interleaved, pixel by pixel: one pixel of all four is one vector. Blending four columns of these is then one vector
operation a tap for all four output rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import lanes
from harness.data.augment import KEYS_A
from harness.data.kernel import kernel

try:
    from harness.data import turbojpeg
except ImportError:  # raw pixels can be cropped without it; `decode_and_crop` needs it
    turbojpeg = None  # type: ignore[assignment]

ROWS = 4  # output rows made together
GROUP = 4  # source pixels blended together
_BEFORE, _AFTER = 2, 2  # columns outside the crop that taps reach, with weight zero

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]


@kernel
def crop(pixels: _Bytes, top: int, left: int, height: int, width: int, flip: bool, out: NDArray[Any]) -> None:
    """The box of an image of 3 or 4 bytes a pixel, resized to fill `out`: uint8, or float32 in [0, 1] unrounded."""
    if top < 0 or left < 0 or height < 1 or width < 1:
        raise ValueError("a crop's box is empty or starts outside its image")
    if top + height > pixels.shape[0] or left + width > pixels.shape[1]:
        raise ValueError("a crop's box reaches beyond its image")
    if out.shape[0] != out.shape[1] or out.shape[2] != 3 or not 3 <= pixels.shape[2] <= 4:
        raise ValueError("a crop is square and has 3 channels, made from pixels of 3 or 4 bytes")
    if pixels.shape[1] < GROUP:
        _crop(_widened(pixels), top, left, height, width, bool(flip), out)
    else:
        _crop(pixels, top, left, height, width, bool(flip), out)


def crop_float(pixels: _Bytes, top: int, left: int, height: int, width: int, flip: bool, size: int) -> _Floats:
    """The crop in [0, 1] before rounding, `size` pixels square."""
    out = np.empty((size, size, 3), np.float32)
    crop(pixels, top, left, height, width, flip, out)
    return out


@kernel
def crop_all(pixels: _Bytes, boxes: _Integers, out: _Bytes) -> None:
    """One box (top, left, height, width, flip) from each of a batch of images."""
    for i in range(len(pixels)):
        box = boxes[i]
        crop(pixels[i], box[0], box[1], box[2], box[3], box[4], out[i])


@kernel
def decode_and_crop(
    data: _Bytes, height: int, width: int, boxes: _Integers, out: _Bytes, scratch: _Bytes, handle: int
) -> int:
    """Decode a JPEG file once and cut its boxes (top, left, height, width, flip) from it; the status of `decode`.

    `scratch` holds the decoded image: at least 4 bytes a pixel.
    """
    status = turbojpeg.decode(handle, data, height, width, scratch)
    if status == 0:
        pixels = scratch[: height * width * 4].reshape(height, width, 4)
        for i in range(len(boxes)):
            box = boxes[i]
            crop(pixels, box[0], box[1], box[2], box[3], box[4], out[i])
    return status


@kernel
def _crop(pixels: _Bytes, top: int, left: int, height: int, width: int, flip: bool, out: NDArray[Any]) -> None:
    size = len(out)
    row_taps, row_weights = _taps(height, size, False)
    taps, weights = _taps(width, size, flip)
    begin = min(left, pixels.shape[1] - GROUP)  # whole groups are read, from inside the image
    end = max(left + width, begin + GROUP)
    taps += _BEFORE + left - begin
    blended = _aligned((_BEFORE + end - begin + _AFTER) * lanes.LANES)
    for first in range(0, size, ROWS):
        for r in range(ROWS):
            row = min(first + r, size - 1)  # the last one may be made more than once
            places = _row_places(pixels, top, height, row_taps[row])
            _blend_rows(pixels, places, row_weights[row], begin, end, blended, r)
        _blend_columns(blended, taps, weights, first, out)


@kernel
def _row_places(pixels: _Bytes, top: int, height: int, tap: int) -> tuple[int, int, int, int]:
    """Where the four rows from `tap` on begin; those outside the crop, which have no weight, are its border."""
    pitch, last = pixels.shape[1] * pixels.shape[2], height - 1
    return (
        (top + min(max(tap, 0), last)) * pitch,
        (top + min(max(tap + 1, 0), last)) * pitch,
        (top + min(max(tap + 2, 0), last)) * pitch,
        (top + min(max(tap + 3, 0), last)) * pitch,
    )


@kernel
def _blend_rows(
    pixels: _Bytes, places: tuple[int, int, int, int], weights: _Floats, begin: int, end: int, out: _Floats, row: int
) -> None:
    """Columns begin .. end of four source rows, blended into row `row` of the interleaved four."""
    a, b, c, d = places
    w0, w1 = lanes.splat(weights[0]), lanes.splat(weights[1])
    w2, w3 = lanes.splat(weights[2]), lanes.splat(weights[3])
    for start in range(begin, end, GROUP):
        x = min(start, end - GROUP)
        at = x * pixels.shape[2]
        total = lanes.multiply(_load(pixels, a + at), w0)
        total = lanes.multiply_add(_load(pixels, b + at), w1, total)
        total = lanes.multiply_add(_load(pixels, c + at), w2, total)
        total = lanes.multiply_add(_load(pixels, d + at), w3, total)
        lanes.scatter(out, (_BEFORE + x - begin) * lanes.LANES + 4 * row, total)


@kernel
def _load(pixels: _Bytes, start: int) -> Any:
    """A group of pixels as floats, one lane in four unused."""
    if pixels.shape[2] == 3:
        return lanes.load_rgb(pixels, start)
    return lanes.load_rgbx(pixels, start)


@kernel
def _blend_columns(blended: _Floats, taps: _Integers, weights: _Floats, first: int, out: NDArray[Any]) -> None:
    """Four rows of the crop, from `first` on, of the interleaved rows."""
    size = len(out)
    pitch = 3 * size
    a, b = first * pitch, min(first + 1, size - 1) * pitch
    c, d = min(first + 2, size - 1) * pitch, min(first + 3, size - 1) * pitch
    for j in range(size):
        start = taps[j] * lanes.LANES
        total = lanes.multiply(lanes.load(blended, start), lanes.splat(weights[j, 0]))
        total = lanes.multiply_add(lanes.load(blended, start + lanes.LANES), lanes.splat(weights[j, 1]), total)
        total = lanes.multiply_add(lanes.load(blended, start + 2 * lanes.LANES), lanes.splat(weights[j, 2]), total)
        total = lanes.multiply_add(lanes.load(blended, start + 3 * lanes.LANES), lanes.splat(weights[j, 3]), total)
        at = 3 * j
        if j < size - 1:
            lanes.store_rgbx(out, (a + at, b + at, c + at, d + at), total)
        else:
            lanes.store_rgb(out, (a + at, b + at, c + at, d + at), total)


@kernel
def _taps(length: int, size: int, flip: bool) -> tuple[_Integers, _Floats]:
    """The first of the four pixels around each output, and their weights: those outside `length` get none."""
    first = np.empty(size, np.int64)
    weights = np.empty((size, 4), np.float32)
    for i in range(size):
        centre = (i + 0.5) * (length / size) - 0.5
        start = int(np.floor(centre)) - 1
        at = size - 1 - i if flip else i
        first[at] = start
        total = 0.0
        for k in range(4):
            weight = _keys(abs(centre - (start + k))) if 0 <= start + k < length else 0.0
            weights[at, k] = weight
            total += weight
        for k in range(4):
            weights[at, k] /= total
    return first, weights


@kernel
def _keys(d: float) -> float:
    if d <= 1:
        return ((KEYS_A + 2) * d - (KEYS_A + 3)) * d * d + 1
    return KEYS_A * (((d - 5) * d + 8) * d - 4)


@kernel
def _aligned(count: int) -> _Floats:
    """Zeros from a whole cache line on: a vector that lies in two lines takes twice as long to read."""
    room = np.zeros(count + lanes.LANES, np.float32)
    skip = (-room.ctypes.data // 4) % lanes.LANES
    return room[skip : skip + count]


@kernel
def _widened(pixels: _Bytes) -> _Bytes:
    """The image with columns of zeros, so that a whole group can be read."""
    wide = np.zeros((pixels.shape[0], GROUP, pixels.shape[2]), np.uint8)
    wide[:, : pixels.shape[1]] = pixels
    return wide
