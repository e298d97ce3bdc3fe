"""Everything that follows the crop, as compiled code on CPU cores: the operations of augment.py, image by image.

An image's three planes of floats stay in a core's second-level cache from its first operation to its last, and only
operations that were drawn are made.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import lanes
from harness.data.augment import LUMA, blur_taps
from harness.data.draws import Draws
from harness.data.kernel import kernel

BLOCK = 2 * lanes.LANES  # columns that the blur makes together
NEGLIGIBLE = 1e-9  # a tap with a smaller part of the blur's weight is below float32's resolution

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]
_Booleans = NDArray[np.bool_]


def _singles(*numbers: float) -> Any:
    """Constants of single precision: compiled code takes a Python float for a double, and computes in doubles then."""
    return tuple(np.float32(number) for number in numbers)


# Without "arcp" and "afn" quotients stay exact; with "reassoc" a sum can be made by vectors.
_FAST = {"contract", "nnan", "ninf", "nsz", "reassoc"}
_ZERO, _HALF, _ONE, _TWO, _FOUR, _SIX = _singles(0, 0.5, 1, 2, 4, 6)
_LEVEL, _SIXTH, _TINY = _singles(1 / 255, 1 / 6, float(np.finfo(np.float32).tiny))
_RED, _GREEN, _BLUE = _singles(*LUMA)
_CYAN, _MAGENTA, _YELLOW = _singles(3, 5, 1)  # opposites of red, green and blue, in sixths of the circle


def views(
    crops: NDArray[np.uint8],
    draws: Draws,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    threads: int = 1,
) -> _Floats:
    """The drawn view of every crop (uint8 NHWC): jitter, grey, blur, solarize, and normalised last; NCHW."""
    crops = np.ascontiguousarray(crops)
    batch, size = crops.shape[:2]
    out = np.empty((batch, 3, size, size), np.float32)
    strengths = np.stack([draws.brightness, draws.contrast, draws.saturation, draws.hue], axis=1).astype(np.float32)
    order = np.where(draws.jitter[:, None], draws.order, -1).astype(np.int64)
    switches = np.stack([draws.grayscale, draws.solarize], axis=1)
    weights, radius = kernels(draws, blur_taps(size))
    ends = np.stack([np.asarray(mean), 1 / np.asarray(std)]).astype(np.float32)

    def part(share: slice) -> None:
        each = (order[share], strengths[share], weights[share], radius[share], switches[share])
        _views(crops[share], *each, ends, out[share])

    edges = np.linspace(0, batch, max(1, min(threads, batch)) + 1).astype(int)
    shares = [slice(first, last) for first, last in pairwise(edges)]
    if len(shares) == 1:
        part(shares[0])
    else:
        with ThreadPoolExecutor(len(shares)) as pool:
            list(pool.map(part, shares))
    return out


def kernels(draws: Draws, taps: int) -> tuple[_Floats, NDArray[np.int64]]:
    """Each image's blur: the weights from the middle outwards, and how many of them count; -1 for no blur."""
    distance = np.arange(taps // 2 + 1)
    weights = np.exp(-(distance**2) / (2 * draws.sigma[:, None] ** 2))
    weights /= 2 * weights.sum(1, keepdims=True) - weights[:, :1]
    radius = (weights > NEGLIGIBLE).sum(1) - 1
    return weights.astype(np.float32), np.where(draws.blur & (taps > 1), radius, -1)


@kernel
def _views(
    crops: NDArray[np.uint8],
    order: _Integers,
    strengths: _Floats,
    weights: _Floats,
    radius: _Integers,
    switches: _Booleans,
    ends: _Floats,
    out: _Floats,
) -> None:
    size = crops.shape[1]
    planes = work(size)
    column, line = lines(size, weights.shape[1])
    red, green, blue = planes[0, : size * size], planes[1, : size * size], planes[2, : size * size]
    for i in range(len(crops)):
        grayscale, solarize = switches[i, 0], switches[i, 1]
        _split(crops[i].reshape(-1), red, green, blue)
        for operation in order[i]:
            jitter(operation, strengths[i], red, green, blue)
        if grayscale:
            gray(red, green, blue)
        for c in range(3):
            for y in range(size):
                if radius[i] < 0:
                    _finish(planes[c, y * size : (y + 1) * size], solarize, ends[:, c], out[i, c, y])
                else:
                    blur_row(planes[c], y, size, weights[i], radius[i], column, line)
                    _finish(line, solarize, ends[:, c], out[i, c, y])


@kernel
def work(size: int) -> _Floats:
    """Memory for an image: three planes, after each a row of zeros and as much as a vector may read too far."""
    return np.zeros((3, size * size + size + BLOCK), np.float32)


@kernel
def lines(size: int, reach: int) -> tuple[_Floats, _Floats]:
    """Memory for a row between the blur's two steps, zeros on both sides, and after them."""
    room = -(-size // BLOCK) * BLOCK
    return np.zeros(room + 2 * reach, np.float32), np.zeros(room, np.float32)


@kernel(fastmath=_FAST)
def _split(pixels: NDArray[np.uint8], red: _Floats, green: _Floats, blue: _Floats) -> None:
    """Levels as floats in [0, 1], by planes."""
    for i in range(len(red)):
        red[i] = np.float32(pixels[3 * i]) * _LEVEL
        green[i] = np.float32(pixels[3 * i + 1]) * _LEVEL
        blue[i] = np.float32(pixels[3 * i + 2]) * _LEVEL


@kernel
def jitter(operation: int, strengths: _Floats, red: _Floats, green: _Floats, blue: _Floats) -> None:
    """One operation by its number in `Draws.order`; any other number is none."""
    if operation == 0:
        for plane in (red, green, blue):
            brightness(plane, strengths[0])
    elif operation == 1:
        for plane in (red, green, blue):
            contrast(plane, strengths[1])
    elif operation == 2:
        saturation(red, green, blue, strengths[2])
    elif operation == 3:
        hue(red, green, blue, strengths[3])


@kernel(fastmath=_FAST)
def brightness(plane: _Floats, delta: float) -> None:
    """Delta added, clipped."""
    for i in range(len(plane)):
        plane[i] = _clipped(plane[i] + delta)


@kernel(fastmath=_FAST)
def contrast(plane: _Floats, factor: float) -> None:
    """Scaled about the plane's own mean, clipped."""
    total = _ZERO
    for i in range(len(plane)):
        total += plane[i]
    rest = total / np.float32(len(plane)) * (_ONE - factor)
    for i in range(len(plane)):
        plane[i] = _clipped(plane[i] * factor + rest)


@kernel(fastmath=_FAST)
def saturation(red: _Floats, green: _Floats, blue: _Floats, factor: float) -> None:
    """S of HSV scaled and clipped: every channel's distance from V grows alike, until S is 1."""
    factor = max(factor, _ZERO)
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        value, least = max(r, g, b), min(r, g, b)
        scale = min(factor, value / max(value - least, _TINY))
        red[i] = _clipped(value - scale * (value - r))
        green[i] = _clipped(value - scale * (value - g))
        blue[i] = _clipped(value - scale * (value - b))


@kernel(fastmath=_FAST)
def hue(red: _Floats, green: _Floats, blue: _Floats, delta: float) -> None:
    """H of HSV turned by delta, a part of the circle; the hue is counted in sixths of it."""
    turn = _SIX * delta
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        value, least = max(r, g, b), min(r, g, b)
        span = value - least
        other = b - r + _TWO * span if g == value else r - g + _FOUR * span
        sixths = (g - b if r == value else other) / max(span, _TINY) + turn
        red[i] = _clipped(value - span * _part(sixths - _CYAN))
        green[i] = _clipped(value - span * _part(sixths - _MAGENTA))
        blue[i] = _clipped(value - span * _part(sixths - _YELLOW))


@kernel(fastmath=_FAST)
def gray(red: _Floats, green: _Floats, blue: _Floats) -> None:
    """Luma in all three planes."""
    for i in range(len(red)):
        luma = red[i] * _RED + green[i] * _GREEN + blue[i] * _BLUE
        red[i] = luma
        green[i] = luma
        blue[i] = luma


@kernel
def blur_row(plane: _Floats, y: int, size: int, weights: _Floats, radius: int, column: _Floats, line: _Floats) -> None:
    """Row y of a plane of `work`, blurred by weights that are given from the middle outwards, into `line`."""
    here, zeros, reach = y * size, size * size, len(weights)
    for x in range(0, size, BLOCK):
        middle = lanes.splat(weights[0])
        a = lanes.multiply(lanes.load(plane, here + x), middle)
        b = lanes.multiply(lanes.load(plane, here + x + lanes.LANES), middle)
        for k in range(1, radius + 1):
            weight = lanes.splat(weights[k])
            up = x + (here - k * size if y >= k else zeros)
            down = x + (here + k * size if y + k < size else zeros)
            a = lanes.multiply_add(lanes.add(lanes.load(plane, up), lanes.load(plane, down)), weight, a)
            up, down = up + lanes.LANES, down + lanes.LANES
            b = lanes.multiply_add(lanes.add(lanes.load(plane, up), lanes.load(plane, down)), weight, b)
        lanes.store(column, reach + x, a)
        lanes.store(column, reach + x + lanes.LANES, b)
    column[reach + size :] = 0  # what the last vectors read beyond the row
    for x in range(reach, reach + size, BLOCK):
        middle = lanes.splat(weights[0])
        a = lanes.multiply(lanes.load(column, x), middle)
        b = lanes.multiply(lanes.load(column, x + lanes.LANES), middle)
        for k in range(1, radius + 1):
            weight = lanes.splat(weights[k])
            left, right = x - k, x + k
            a = lanes.multiply_add(lanes.add(lanes.load(column, left), lanes.load(column, right)), weight, a)
            left, right = left + lanes.LANES, right + lanes.LANES
            b = lanes.multiply_add(lanes.add(lanes.load(column, left), lanes.load(column, right)), weight, b)
        lanes.store(line, x - reach, a)
        lanes.store(line, x - reach + lanes.LANES, b)


@kernel(fastmath=_FAST)
def _finish(row: _Floats, solarize: bool, ends: _Floats, out: _Floats) -> None:
    """Solarized, clipped and normalised by `ends`: what to subtract, and what to multiply by."""
    centre, scale = ends[0], ends[1]
    if solarize:
        for i in range(len(out)):
            value = row[i]
            out[i] = (_clipped(value if value < _HALF else _ONE - value) - centre) * scale
    else:
        for i in range(len(out)):
            out[i] = (_clipped(row[i]) - centre) * scale


@kernel(fastmath=_FAST)
def _clipped(value: float) -> float:
    return min(max(value, _ZERO), _ONE)


@kernel(fastmath=_FAST)
def _part(sixths: float) -> float:
    """How much of its span a channel loses, so far round the circle from its opposite colour."""
    distance = abs(sixths - _SIX * np.rint(sixths * _SIXTH))
    return min(max(_TWO - distance, _ZERO), _ONE)
