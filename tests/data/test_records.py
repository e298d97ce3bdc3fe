"""The forms of a sample's target."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from harness.data.errors import DataError
from harness.data.records import (
    VOID,
    check,
    decode_boxes,
    decode_depth,
    decode_labels,
    decode_mask,
    encode_boxes,
    encode_depth,
    encode_labels,
    encode_mask,
)

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=20)


@given(labels=arrays(np.int8, st.integers(0, 30)))
def test_labels_come_back(labels: np.ndarray) -> None:
    """Protects the flags of classes: what is decoded is what was encoded, byte for byte."""
    decoded = decode_labels(encode_labels(labels))
    assert decoded.dtype == np.int8
    np.testing.assert_array_equal(decoded, labels)


@given(boxes=arrays(np.int32, st.tuples(st.integers(0, 8), st.just(6))))
def test_boxes_come_back(boxes: np.ndarray) -> None:
    """Protects boxes, an image without any included."""
    decoded = decode_boxes(encode_boxes(boxes))
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, boxes)


@given(mask=arrays(np.uint8, SHAPES))
def test_masks_come_back(mask: np.ndarray) -> None:
    """Protects masks: every value of a pixel, 255 included, survives the PNG."""
    decoded = decode_mask(encode_mask(mask))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, mask)


@given(depth=arrays(np.float32, SHAPES))
def test_depth_comes_back(depth: np.ndarray) -> None:
    """Protects depth maps to the last bit, whatever the number."""
    decoded = decode_depth(encode_depth(depth))
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded.view(np.uint32), depth.view(np.uint32))


def test_the_bytes_are_the_documented_ones() -> None:
    """Protects prepared files from a change of the forms: struct, and not our code, writes the bytes here."""
    assert encode_labels(np.array([1, 0, -1], dtype=np.int8)) == struct.pack("<3b", 1, 0, -1)
    assert encode_boxes(np.array([[1, 2, 30, 40, 5, 1]], dtype=np.int32)) == struct.pack("<6i", 1, 2, 30, 40, 5, 1)
    assert encode_depth(np.array([[0.5, 2.0]], dtype=np.float32)) == struct.pack("<IIff", 1, 2, 0.5, 2.0)


def test_a_mask_with_a_palette_is_its_numbers() -> None:
    """Protects VOC's own masks, whose colours are a palette, from being read as colours."""
    image = Image.fromarray(np.array([[0, 3], [255, 1]], dtype=np.uint8))
    image.putpalette(bytes(range(255, -1, -1)) * 3)
    out = io.BytesIO()
    image.save(out, format="PNG")
    np.testing.assert_array_equal(decode_mask(out.getvalue()), [[0, 3], [255, 1]])


def _png(mode: str) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (4, 4)).save(out, format="PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("decode", "content", "words"),
    [
        (decode_boxes, b"\0" * 25, "25 bytes"),
        (decode_mask, b"", "not a whole PNG"),
        (decode_mask, encode_mask(np.eye(64, dtype=np.uint8))[:-30], "not a whole PNG"),
        (decode_mask, b"\xff\xd8\xff\xe0 a JPEG", "not a whole PNG"),
        (decode_mask, _png("RGB"), "mode RGB"),
        (decode_depth, b"\0" * 7, "takes 8 bytes, not 7"),
        (decode_depth, struct.pack("<IIf", 1, 2, 0.5), "1 x 2 pixels takes 16 bytes, not 12"),
    ],
)
def test_malformed_bytes_are_a_data_error(decode: object, content: bytes, words: str) -> None:
    """Protects readers of prepared files from tracebacks and from silent nonsense."""
    with pytest.raises(DataError, match=words):
        decode(content)  # type: ignore[operator]


def _boxes(*row: int) -> bytes:
    return encode_boxes(np.array([[0, 0, 40, 30, 4, 1], row], dtype=np.int32))


FITTING = [
    ("class", b""),
    ("labels", encode_labels(np.array([1, 0, -1, -1, 1], dtype=np.int8))),
    ("boxes", _boxes(39, 29, 40, 30, 0, 0)),
    ("boxes", b""),
    ("mask", encode_mask(np.full((30, 40), VOID, dtype=np.uint8))),
    ("depth", encode_depth(np.zeros((30, 40), dtype=np.float32))),
    ("depth", encode_depth(np.full((30, 40), np.nan, dtype=np.float32))),
]


@pytest.mark.parametrize(("record", "target"), FITTING)
def test_a_fitting_target_passes(record: str, target: bytes) -> None:
    """Protects good data, at the limits of what is allowed, from being refused."""
    check(record, target, classes=5, height=30, width=40)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "target", "words"),
    [
        ("class", b"\1", "no target"),
        ("labels", b"\1" * 4, "4 classes, not 5"),
        ("labels", b"\1\1\1\1\2", "a label is 2"),
        ("labels", b"\1\1\1\1\xfe", "a label is -2"),
        ("boxes", _boxes(0, 0, 41, 30, 0, 0), r"\(41, 30\)"),
        ("boxes", _boxes(0, 0, 40, 31, 0, 0), r"\(40, 31\)"),
        ("boxes", _boxes(-1, 0, 40, 30, 0, 0), r"\(-1, 0\)"),
        ("boxes", _boxes(9, 0, 9, 30, 0, 0), "empty"),
        ("boxes", _boxes(0, 9, 40, 9, 0, 0), "empty"),
        ("boxes", _boxes(0, 0, 40, 30, 5, 0), "class 5"),
        ("boxes", _boxes(0, 0, 40, 30, -1, 0), "class -1"),
        ("boxes", _boxes(0, 0, 40, 30, 0, 2), "difficulty is 2"),
        ("mask", encode_mask(np.full((30, 40), 5, dtype=np.uint8)), "class 5"),
        ("mask", encode_mask(np.zeros((40, 30), dtype=np.uint8)), "40 x 30 pixels, its image 30 x 40"),
        ("depth", encode_depth(np.full((30, 40), np.inf, dtype=np.float32)), "inf metres"),
        ("depth", encode_depth(np.full((30, 40), -1, dtype=np.float32)), "-1.0 metres"),
        ("depth", encode_depth(np.zeros((30, 41), dtype=np.float32)), "30 x 41 pixels, its image 30 x 40"),
    ],
)
def test_a_target_that_does_not_fit_is_named(record: str, target: bytes, words: str) -> None:
    """Protects training from targets out of range: each mistake is refused when the set is prepared."""
    with pytest.raises(DataError, match=words):
        check(record, target, classes=5, height=30, width=40)  # type: ignore[arg-type]
