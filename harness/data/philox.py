"""Philox4x64-10, the counter-based random number generator of Salmon et al. (2011), vectorised over counters.

Every number is a function of (key, counter) alone, so draws can be made for any image in any order on any
machine. numpy.random.Philox is the same generator, but walks one counter upward and cannot be asked for many
at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]
Words = Bits | np.uint64

ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
_KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_MASK = (1 << 64) - 1
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def _multiply(a: Bits, b: np.uint64) -> tuple[Bits, Bits]:
    """The high and low 64 bits of the 128-bit products a * b, by schoolbook multiplication of 32-bit halves."""
    a_high, a_low = a >> _HALF, a & _LOW
    b_high, b_low = b >> _HALF, b & _LOW
    middle = a_high * b_low + (a_low * b_low >> _HALF)
    carry = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _HALF) + (carry >> _HALF), a * b


def bits(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> Bits:
    """Four random words for each counter: (..., 4) from four arrays that broadcast against each other.

    `counter` is the four 64-bit words of the counter, least significant first, and `key` the two of the key.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*counter)
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint64(k0), low1, high0 ^ c3 ^ np.uint64(k1), low0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return np.stack([c0, c1, c2, c3], axis=-1)


def uniforms(words: Bits) -> NDArray[np.float64]:
    """Words as numbers in [0, 1): the upper 53 bits, which a float64 holds exactly."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
