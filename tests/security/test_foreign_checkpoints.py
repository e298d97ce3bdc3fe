"""TensorFlow's checkpoints from anywhere: an index says where things lie, and is believed only where it can be so."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.models.crc32c import masked_crc32c
from harness.models.shape import MismatchError, fit
from harness.models.tensorflow import Checkpoint, CheckpointError

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def block(content: bytes) -> bytes:
    content += bytes(4) + (1).to_bytes(4, "little") + b"\0"
    return content + masked_crc32c(content).to_bytes(4, "little")


def item(name: bytes, value: bytes, shared: int = 0) -> bytes:
    return varint(shared) + varint(len(name)) + varint(len(value)) + name + value


def index(path: Path, items: bytes, blocks: int = 1, footer: bytes | None = None) -> Path:
    """An index of one block of items, named `blocks` times."""
    data, empty = block(items), block(b"")
    places = block(item(b"z", b"\0" + varint(len(data) - 5)) * blocks)
    end = varint(len(data)) + varint(len(empty) - 5) + varint(len(data + empty)) + varint(len(places) - 5)
    path.write_bytes(data + empty + places + (footer or end).ljust(40, b"\0") + MAGIC)
    return path


def tensor(place: int, sides: Sequence[int], size: int) -> bytes:
    shape = b"".join(b"\x12" + varint(len(s := b"\x08" + varint(side))) + s for side in sides)
    numbers = b"\x20" + varint(place) + b"\x28" + varint(size) + b"\x35" + bytes(4)
    return b"\x08\x01\x12" + varint(len(shape)) + shape + numbers


HEADER = item(b"", b"\x08\x01")


@pytest.mark.parametrize(
    ("items", "blocks", "footer", "words"),
    [
        (HEADER, 1, b"\xff" * 40, "a number is too long"),
        (HEADER + b"\xff" * 1_000_000, 1, None, "a number is too long"),
        (
            HEADER + item(b"x" * 5000, b"") + b"".join(item(b"y", b"", 4999) for _ in range(100_000)),
            1,
            None,
            "any name",
        ),
        (HEADER * 20_000, 1000, None, "its blocks overlap"),
        (HEADER + b"\0\x01\xff\xff\xff\xff\x0fx", 1, None, "longer than its block"),
    ],
    ids=["a long number", "a longer one", "names that grow", "a block named often", "a value of gigabytes"],
)
def test_an_index_cannot_grow(items: bytes, blocks: int, footer: bytes | None, words: str, tmp_path: Path) -> None:
    """Protects time and memory from an index that says much with few bytes."""
    path = index(tmp_path / "m.index", items, blocks, footer)
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=rf"m\.index is cut off or no index .*{words}"):
            Checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 60


def test_a_tensor_lies_in_its_file_alone(tmp_path: Path) -> None:
    """Protects from places outside the file, sizes beyond it, and one place that stands for many tensors."""
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes(16))
    for place, sides, size, words in (
        (1 << 62, (4,), 16, "is cut off: a ends at byte"),
        (8, (4,), 16, "is cut off: a ends at byte 24, the file at 16"),
        (0, (1 << 40, 1 << 40), 16, "contradicts itself: a of shape"),
        (0, (1 << 60,), 1 << 62, "is cut off: a ends at byte"),
    ):
        path = index(tmp_path / "m.index", HEADER + item(b"a", tensor(place, sides, size)))
        with pytest.raises(CheckpointError, match=words):
            Checkpoint(path).tensor("a")
    both = item(b"a", tensor(0, (4,), 16)) + item(b"b", tensor(12, (1,), 4))
    with pytest.raises(CheckpointError, match="contradicts itself: its tensors overlap"):
        Checkpoint(index(tmp_path / "m.index", HEADER + both))


@pytest.mark.parametrize("shape", [(1 << 50, 0, 7, 7), (0, 3, 7, 7), (64, 3, 7)])
def test_a_layer_without_numbers_is_no_layer(shape: tuple[int, ...]) -> None:
    """Protects from networks of any size that an empty tensor would ask for."""
    with pytest.raises(MismatchError, match=r"conv1\.weight: found"):
        fit({"conv1.weight": torch.from_numpy(np.empty(shape, "f4"))})
