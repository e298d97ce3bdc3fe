"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, fast enough for a gigabyte with numpy alone."""

from __future__ import annotations

from functools import cache

import numpy as np

_POLYNOMIAL = 0x82F63B78  # reflected: the lowest bit is the highest power
_ONES = 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """As TensorFlow stores it: turned right by 15 bits, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & _ONES


def crc32c(data: bytes) -> int:
    """The remainder is linear over GF(2): lanes of the data are divided side by side, then joined in pairs.

    Joining needs what n bytes of zeros make of the left remainder, a 32x32 matrix over GF(2). Zeros in front of the
    data change nothing, so they fill the lanes up.
    """
    lanes = 1 << (len(data).bit_length() // 2)
    words = -(-len(data) // (2 * lanes))  # of 16 bits, in each lane
    padded = np.zeros(2 * lanes * words, np.uint8)
    padded[len(padded) - len(data) :] = np.frombuffer(data, np.uint8)
    table, remainders = _two_bytes(), np.zeros(lanes, np.uint32)
    for word in padded.view("<u2").reshape(lanes, words).T:
        remainders = table[(remainders ^ word) & 0xFFFF] ^ (remainders >> 16)
    zeros = _zeros(2 * words)
    while len(remainders) > 1:
        remainders = _times(zeros, remainders[0::2]) ^ remainders[1::2]
        zeros = _times(zeros, zeros)
    start = _times(_zeros(len(data)), np.array([_ONES], np.uint32))
    return int(remainders[0] ^ start[0]) ^ _ONES


@cache
def _two_bytes() -> np.ndarray:
    """What 16 zero bits make of each remainder below 2^16."""
    remainders = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(16):
        remainders = _one_bit(remainders)
    return remainders


def _one_bit(remainders: np.ndarray) -> np.ndarray:
    shifted: np.ndarray = (remainders >> 1) ^ np.where(remainders & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return shifted


def _zeros(count: int) -> np.ndarray:
    """The matrix of `count` zero bytes, by its columns: what becomes of each bit."""
    power = result = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(8):
        power = _one_bit(power)
    while count:
        if count & 1:
            result = _times(power, result)
        power, count = _times(power, power), count >> 1
    return result


def _times(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The product over GF(2) with each vector, which the bits of a number are."""
    bits = vectors[:, None] >> np.arange(32, dtype=np.uint32) & 1
    product: np.ndarray = np.bitwise_xor.reduce(bits * matrix, axis=1)
    return product
