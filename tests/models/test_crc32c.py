"""The checksum of TensorFlow's files, against published values and division bit by bit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.models.crc32c import crc32c


def bit_by_bit(data: bytes) -> int:
    """Long division by the polynomial."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "published"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_published_values(data: bytes, published: int) -> None:
    """Protects the polynomial, the bit order and both complements: the values of RFC 3720."""
    assert crc32c(data) == published


@given(st.binary(max_size=3000))
def test_lanes_join(data: bytes) -> None:
    """Protects the division in lanes, at every length: the remainder is that of long division."""
    assert crc32c(data) == bit_by_bit(data)
