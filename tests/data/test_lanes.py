"""Vectors in compiled code against numpy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from harness.data import lanes
from harness.data.kernel import kernel


@kernel
def arithmetic(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """(3 b) a + (a + b), whole and in four parts."""
    x, y = lanes.load(a, 1), lanes.load(b, 2)
    result = lanes.multiply_add(lanes.multiply(y, lanes.splat(3.0)), x, lanes.add(x, y))
    lanes.store(out, 0, result)
    lanes.scatter(out, 16, result)


@kernel
def pixels(rgb: np.ndarray, rgbx: np.ndarray, levels: np.ndarray, parts: np.ndarray) -> None:
    """Four pixels from each of two images, to places that leave gaps."""
    lanes.store_rgb(levels, (0, 4, 8, 12), lanes.load_rgb(rgb, 3))
    lanes.store_rgbx(parts, (0, 4, 8, 12), lanes.load_rgbx(rgbx, 4))


def test_arithmetic_equals_numpys() -> None:
    """Protects the order of operands, and where vectors begin."""
    a, b = np.random.default_rng(0).random((2, 32), np.float32)
    out = np.zeros(80, np.float32)
    arithmetic(a, b, out)
    expected = 3 * b[2:18] * a[1:17] + a[1:17] + b[2:18]
    np.testing.assert_allclose(out[:16], expected, rtol=1e-6)
    np.testing.assert_array_equal(out[16:].reshape(4, 16)[:, :4].ravel(), out[:16])
    assert not out[16:].reshape(4, 16)[:, 4:].any()


def test_pixels_keep_their_channels() -> None:
    """Protects the unused lane, which is written by the quicker way alone, and both forms of levels."""
    image = np.random.default_rng(0).integers(0, 256, (6, 4), dtype=np.uint8)
    levels, parts = np.full(16, 9, np.uint8), np.empty(16, np.float32)
    pixels(np.ascontiguousarray(image[:, :3]), image, levels, parts)
    np.testing.assert_array_equal(levels.reshape(4, 4)[:, :3], image[1:5, :3])
    assert (levels.reshape(4, 4)[:, 3] == 9).all()
    np.testing.assert_allclose(parts.reshape(4, 4), image[1:5] / 255, rtol=1e-6)
