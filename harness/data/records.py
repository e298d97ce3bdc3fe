"""What a sample carries beside its image, as bytes: the flags of its classes, its boxes, its mask or its depth.

Every form has an encoder and a decoder that undo each other exactly. Numbers are little-endian on every machine.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.config.datasets import RecordType
from harness.data.errors import DataError

PRESENT, DIFFICULT, ABSENT = 1, 0, -1  # DIFFICULT: every object of the class in the image is hard to recognise
VOID = 255  # a pixel of no class
BOX = 6  # left, top, right, bottom (from 0; right and bottom are the first outside), class, whether it is difficult
_SIZE = struct.Struct("<II")  # height and width


def encode_labels(labels: NDArray[np.int8]) -> bytes:
    """PRESENT, DIFFICULT or ABSENT for each class."""
    return labels.astype("<i1").tobytes()


def decode_labels(content: bytes) -> NDArray[np.int8]:
    """The inverse of encode_labels."""
    return np.frombuffer(content, dtype="<i1").astype(np.int8)


def encode_boxes(boxes: NDArray[np.int32]) -> bytes:
    """One row of BOX numbers for each object."""
    return boxes.reshape(-1, BOX).astype("<i4").tobytes()


def decode_boxes(content: bytes) -> NDArray[np.int32]:
    """The inverse of encode_boxes."""
    row = 4 * BOX  # bytes
    if len(content) % row:
        raise DataError(f"boxes take {row} bytes each, but there are {len(content)} bytes")
    return np.frombuffer(content, dtype="<i4").reshape(-1, BOX).astype(np.int32)


def encode_mask(mask: NDArray[np.uint8]) -> bytes:
    """The class of each pixel, or VOID, as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(mask).save(out, format="PNG")
    return out.getvalue()


def decode_mask(content: bytes) -> NDArray[np.uint8]:
    """The inverse of encode_mask. It also reads a palette's numbers, as in the masks that VOC distributes."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            mode, mask = image.mode, np.array(image)
    except (OSError, ValueError, SyntaxError) as error:  # PIL reports broken chunks of a PNG as a SyntaxError
        raise DataError(f"a mask is not a whole PNG file ({error})") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"a mask is made to fill the memory ({error})") from error
    if mode not in ("L", "P"):
        raise DataError(f"a mask holds one number of 8 bits a pixel, but this PNG is of mode {mode}")
    return mask


def encode_depth(depth: NDArray[np.float32]) -> bytes:
    """Metres for each pixel, 0 or NaN where none was measured, behind the height and the width."""
    return _SIZE.pack(*depth.shape) + depth.astype("<f4").tobytes()


def decode_depth(content: bytes) -> NDArray[np.float32]:
    """The inverse of encode_depth."""
    height, width = _SIZE.unpack_from(content) if len(content) >= _SIZE.size else (0, 0)
    wanted = _SIZE.size + 4 * height * width
    if len(content) != wanted:
        raise DataError(f"a depth map of {height} x {width} pixels takes {wanted} bytes, not {len(content)}")
    return np.frombuffer(content, dtype="<f4", offset=_SIZE.size).reshape(height, width).astype(np.float32)


def check(record: RecordType, target: bytes, classes: int, height: int, width: int) -> None:
    """Raise a DataError where a target does not fit its image, or the number of classes."""
    match record:
        case "class":
            wrong = f"a class needs no target, but there are {len(target)} bytes" if target else None
        case "labels":
            wrong = _wrong_labels(decode_labels(target), classes)
        case "boxes":
            wrong = _wrong_boxes(decode_boxes(target), classes, height, width)
        case "mask":
            wrong = _wrong_mask(decode_mask(target), classes, height, width)
        case "depth":
            wrong = _wrong_depth(decode_depth(target), height, width)
    if wrong:
        raise DataError(wrong)


def _wrong_labels(labels: NDArray[np.int8], classes: int) -> str | None:
    if len(labels) != classes:
        return f"there are labels of {len(labels)} classes, not {classes}"
    strange = labels[(labels < ABSENT) | (labels > PRESENT)]
    return f"a label is {strange[0]}, not {ABSENT}, {DIFFICULT} or {PRESENT}" if strange.size else None


def _wrong_boxes(boxes: NDArray[np.int32], classes: int, height: int, width: int) -> str | None:
    for left, top, right, bottom, label, difficult in boxes.tolist():
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            return f"a box from ({left}, {top}) to ({right}, {bottom}) is empty or not inside {width} x {height} pixels"
        if not 0 <= label < classes:
            return f"a box is of class {label}, not of 0 to {classes - 1}"
        if difficult not in (0, 1):
            return f"a box's mark of difficulty is {difficult}, not 0 or 1"
    return None


def _wrong_mask(mask: NDArray[np.uint8], classes: int, height: int, width: int) -> str | None:
    strange = mask[(mask >= classes) & (mask != VOID)]
    if strange.size:
        return f"a pixel of the mask is of class {strange[0]}, not of 0 to {classes - 1} or {VOID}"
    return _wrong_size("mask", mask, height, width)


def _wrong_depth(depth: NDArray[np.float32], height: int, width: int) -> str | None:
    strange = depth[(depth < 0) | np.isinf(depth)]  # NaN is neither: like 0 it is no measurement, and in no loss
    return f"a depth is {strange[0]} metres" if strange.size else _wrong_size("depth map", depth, height, width)


def _wrong_size(what: str, values: NDArray[Any], height: int, width: int) -> str | None:
    if values.shape == (height, width):
        return None
    return f"the {what} has {values.shape[0]} x {values.shape[1]} pixels, its image {height} x {width}"
