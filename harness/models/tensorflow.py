"""TensorFlow's checkpoints, read with numpy alone: an index of what lies where, and data files of bare numbers.

The index is a LevelDB table: blocks of sorted names, each name with a protobuf message (tensor_bundle.proto). Blocks
and tensors carry checksums; what is read is checked. Nothing in these files can ask for code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np

from harness.config.errors import ConfigError
from harness.models.crc32c import masked_crc32c

_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER = 48  # bytes: two places of blocks, filled up with zeros, and the magic number
_TRAILER = 5  # bytes behind each block: its compression and its checksum
_SNAPPY = 1
_LONGEST_NAME = 4096  # bytes; a name repeats the beginning of the one before, so short ones could grow without end
_VARINT = 10  # bytes that a number of 64 bits takes at most
_FLOATS = {1: "<f4", 2: "<f8", 19: "<f2"}  # of types.proto; what else a checkpoint holds is no weight


class CheckpointError(ConfigError):
    """A checkpoint that is broken, incomplete, or written in a way that is not read."""


@dataclass(frozen=True)
class Entry:
    """A BundleEntryProto: where a tensor lies, in bytes of one of the data files."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    masked_crc: int
    sliced: bool


def is_checkpoint(path: Path) -> bool:
    """Whether `path` names one: by its index, by the part that all of its files share, or by its folder."""
    return path.is_dir() or path.suffix == ".index" or path.suffix.startswith(".ckpt") or _index_of(path).exists()


class Checkpoint:
    """`path` as in `is_checkpoint`. The index is read at once, a tensor when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.index = _index_of(path)
        try:
            content = self.index.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{self.index} cannot be read: {error.strerror}") from None
        try:
            header, self.entries = _entries(content)
        except CheckpointError as error:
            raise CheckpointError(f"{self.index} {error}") from None
        except ValueError as error:
            problem = f"is cut off or no index of a TensorFlow checkpoint ({error}); fetch it again"
            raise CheckpointError(f"{self.index} {problem}") from None
        self.shards = header.get(1, 0)
        places = sorted((one.shard, one.offset, one.size) for one in self.entries.values() if one.size)
        if any(a[0] == b[0] and a[1] + a[2] > b[1] for a, b in pairwise(places)):  # few bytes could be many tensors
            raise CheckpointError(f"{self.index} contradicts itself: its tensors overlap")

    def files(self) -> Iterator[Path]:
        """The index and the data files, in order."""
        yield self.index
        yield from map(self._data, range(self.shards))

    def tensor(self, name: str) -> np.ndarray:
        """Its numbers, which must be floating-point ones."""
        entry = self.entries[name]
        if entry.sliced or entry.dtype not in _FLOATS:
            found = "in slices" if entry.sliced else f"of TensorFlow's type {entry.dtype}"
            raise CheckpointError(f"{self.index}: {name} is {found}; whole ones of type 1, 2 or 19 (floats) are read")
        dtype = np.dtype(_FLOATS[entry.dtype])
        if entry.shard >= self.shards or prod(entry.shape) * dtype.itemsize != entry.size:
            where = f"{entry.size} bytes in data file {entry.shard} of {self.shards}"
            raise CheckpointError(f"{self.index} contradicts itself: {name} of shape {entry.shape} has {where}")
        try:
            return np.frombuffer(self._bytes(name, entry), dtype).reshape(entry.shape)
        except ValueError as error:  # more dimensions than numpy has
            raise CheckpointError(f"{self.index}: {name}: {error}") from None

    def _data(self, shard: int) -> Path:
        return self.index.with_suffix(f".data-{shard:05d}-of-{self.shards:05d}")

    def _bytes(self, name: str, entry: Entry) -> bytes:
        path, end = self._data(entry.shard), entry.offset + entry.size
        try:
            with path.open("rb") as file:
                if (size := path.stat().st_size) < end:
                    problem = f"is cut off: {name} ends at byte {end}, the file at {size}; fetch it again"
                    raise CheckpointError(f"{path} {problem}")
                file.seek(entry.offset)
                content = file.read(entry.size)
        except OSError as error:
            raise CheckpointError(f"{path}, which {self.index.name} names, cannot be read: {error.strerror}") from None
        if masked_crc32c(content) != entry.masked_crc:
            raise CheckpointError(f"{path} is damaged: {name} does not agree with its checksum; fetch it again")
        return content


def _index_of(path: Path) -> Path:
    if path.suffix == ".index":
        return path
    if not path.is_dir():
        return path.with_name(f"{path.name}.index")
    found = sorted(path.glob("*.index"))
    if len(found) != 1:
        names = f" ({', '.join(one.name for one in found)})" if found else ""
        raise CheckpointError(f"{path} holds {len(found)} TensorFlow checkpoints{names}; name one .index file")
    return found[0]


def _entries(content: bytes) -> tuple[dict[int, int], dict[str, Entry]]:
    """(numbers of the BundleHeaderProto, entries by name). Raises ValueError on what is malformed."""
    if len(content) < _FOOTER or not content.endswith(_MAGIC):
        raise ValueError("it does not end as one")
    footer = content[-_FOOTER:]
    _, after = _place(footer, 0)  # of the metadata, which these tables leave empty
    blocks = [_place(value, 0)[0] for _, value in _items(_block(content, _place(footer, after)[0]))]
    if sum(size for _, size in blocks) > len(content):
        raise ValueError("its blocks overlap")
    items = [item for block in blocks for item in _items(_block(content, block))]
    if not items or items[0][0]:
        raise ValueError("it has no header")
    header, _ = _message(items[0][1])
    if header.get(2, 0):
        raise CheckpointError("was written on a big-endian machine, which is not read")
    named = (item for item in items[1:] if not item[0].startswith(b"\0"))  # slices of the tensors that are sliced
    return header, {name.decode(): _entry(value) for name, value in named}


def _block(content: bytes, place: tuple[int, int]) -> bytes:
    """The block at (offset, size), once its checksum is seen to agree."""
    offset, size = place
    end = offset + size
    if end + _TRAILER > len(content):
        raise ValueError(f"a block ends at byte {end}, the file at {len(content)}")
    if masked_crc32c(content[offset : end + 1]) != int.from_bytes(content[end + 1 : end + _TRAILER], "little"):
        raise ValueError(f"the block at byte {offset} does not agree with its checksum")
    if compression := content[end]:
        kind = "snappy" if compression == _SNAPPY else f"kind {compression}"
        raise CheckpointError(f"is compressed ({kind}), which is not read; TensorFlow itself writes without")
    return content[offset:end]


def _items(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and values; a name shares its beginning with the one before. Restart points follow, not needed here."""
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if end < 0:
        raise ValueError("a block has more restart points than bytes")
    position, name = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        size, position = _varint(block, position)
        middle = position + own
        if shared > len(name) or middle + size > end or shared + own > _LONGEST_NAME:
            raise ValueError("a name or a value is longer than its block, or than any name")
        name, position = name[:shared] + block[position:middle], middle + size
        yield name, block[middle:position]


def _entry(value: bytes) -> Entry:
    numbers, parts = _message(value)
    unknown, dimensions = _message(b"".join(parts.get(2, [])))
    if 3 in unknown:
        raise ValueError("a tensor of unknown rank")
    return Entry(
        dtype=numbers.get(1, 0),
        shape=tuple(_message(one)[0].get(1, 0) for one in dimensions.get(2, [])),
        shard=numbers.get(3, 0),
        offset=numbers.get(4, 0),
        size=numbers.get(5, 0),
        masked_crc=numbers.get(6, 0),
        sliced=7 in parts,
    )


def _message(value: bytes) -> tuple[dict[int, int], dict[int, list[bytes]]]:
    """A protobuf message: its numbers and its parts (text and messages), by field."""
    numbers: dict[int, int] = {}
    parts: dict[int, list[bytes]] = {}
    position = 0
    while position < len(value):
        tag, position = _varint(value, position)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            numbers[field], position = _varint(value, position)
            continue
        size, position = {1: (8, position), 5: (4, position)}.get(kind) or _varint(value, position)
        content = value[position : position + size]
        if kind not in (1, 2, 5) or len(content) < size:
            raise ValueError("a message is malformed")
        position += size
        if kind == 2:
            parts.setdefault(field, []).append(content)
        else:
            numbers[field] = int.from_bytes(content, "little")
    return numbers, parts


def _place(value: bytes, position: int) -> tuple[tuple[int, int], int]:
    """A block's ((offset, size), where the next number starts)."""
    offset, position = _varint(value, position)
    size, position = _varint(value, position)
    return (offset, size), position


def _varint(value: bytes, position: int) -> tuple[int, int]:
    """(a number of seven bits a byte, the lowest first, where the next one starts)."""
    number = shift = 0
    try:
        while value[position] & 0x80:
            number |= (value[position] & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if shift >= 7 * _VARINT:
                raise ValueError("a number is too long")
        return number | value[position] << shift, position + 1
    except IndexError:
        raise ValueError("a number is cut off") from None
