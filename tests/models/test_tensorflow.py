"""TensorFlow's checkpoints, against what TensorFlow itself wrote and read, and against every way to break them.

simclr_tiny.ckpt-3 and sharded.ckpt are from TensorFlow 2.15's tf.compat.v1.train.Saver: the first from a small network
made in the order of SimCLR's resnet.py, after three updates with momentum; the second, on two devices, of several types
and of a variable in three parts. tensorflow_tensors.json has what tf.train.load_checkpoint then read: shape, type, and
the start of the SHA-256 of the bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.models.crc32c import masked_crc32c
from harness.models.tensorflow import Checkpoint, CheckpointError, is_checkpoint

CHECKPOINTS = Path(__file__).parents[1] / "golden" / "checkpoints"
TRUTH: dict[str, dict[str, Any]] = json.loads((CHECKPOINTS / "tensorflow_tensors.json").read_text())
SHARDED = ["sharded.ckpt.index", "sharded.ckpt.data-00000-of-00002", "sharded.ckpt.data-00001-of-00002"]


def readable(name: str) -> dict[str, Any]:
    """Whole tensors of floats."""
    floats = {tensor: truth for tensor, truth in TRUTH[name].items() if truth and truth[1].startswith("float")}
    floats.pop("base_model/parted", None)
    return floats


def seen(array: np.ndarray) -> list[Any]:
    return [list(array.shape), str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()[:16]]


@pytest.mark.parametrize("name", list(TRUTH))
def test_tensors_are_those_that_tensorflow_reads(name: str) -> None:
    """Protects every bit: names, shapes and numbers; what is no float, or in parts, is refused and named."""
    checkpoint = Checkpoint(CHECKPOINTS / name)
    assert set(checkpoint.entries) == set(TRUTH[name])
    for tensor, truth in TRUTH[name].items():
        if tensor == "base_model/parted":
            with pytest.raises(CheckpointError, match=r"sharded\.ckpt\.index: base_model/parted is in slices; whole"):
                checkpoint.tensor(tensor)
        elif tensor not in readable(name):
            with pytest.raises(CheckpointError, match=rf"{tensor} is of TensorFlow's type \d+; whole ones of type 1"):
                checkpoint.tensor(tensor)
        else:
            assert seen(checkpoint.tensor(tensor)) == truth, tensor


def test_three_ways_to_name_one(tmp_path: Path) -> None:
    """Protects what a person types: index, common beginning or folder; a folder that holds none or two is refused."""
    for file in SHARDED:
        shutil.copy(CHECKPOINTS / file, tmp_path)
    for path in (tmp_path, tmp_path / "sharded.ckpt", tmp_path / "sharded.ckpt.index"):
        assert is_checkpoint(path)
        assert [file.name for file in Checkpoint(path).files()] == SHARDED
    assert not is_checkpoint(tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"golden holds 0 TensorFlow checkpoints; name one \.index file"):
        Checkpoint(CHECKPOINTS.parent)
    with pytest.raises(CheckpointError, match=r"holds 2 TensorFlow checkpoints \(sharded\.ckpt\.index, simclr_tiny"):
        Checkpoint(CHECKPOINTS)
    with pytest.raises(CheckpointError, match=r"model\.ckpt-5\.index cannot be read: No such file"):
        Checkpoint(tmp_path / "model.ckpt-5")


def never_wrong(folder: Path) -> str:
    """Read sharded.ckpt whole: the first error, or nothing. A tensor that is read must be as it was."""
    try:
        checkpoint = Checkpoint(folder / "sharded.ckpt")
        for tensor, truth in readable("sharded.ckpt").items():
            assert tensor in checkpoint.entries, tensor
            assert seen(checkpoint.tensor(tensor)) == truth, tensor
    except CheckpointError as error:
        return str(error)
    return ""


def test_an_index_cut_off_anywhere(tmp_path: Path) -> None:
    """Protects from half a download: at each of its bytes one sentence that names the file."""
    for file in SHARDED[1:]:
        shutil.copy(CHECKPOINTS / file, tmp_path)
    whole = (CHECKPOINTS / SHARDED[0]).read_bytes()
    for size in range(len(whole)):
        (tmp_path / SHARDED[0]).write_bytes(whole[:size])
        assert re.search(r"sharded\.ckpt\.index is cut off or no index of a TensorFlow", never_wrong(tmp_path)), size
    (tmp_path / SHARDED[0]).write_bytes(whole)
    assert never_wrong(tmp_path) == ""


@pytest.mark.parametrize("file", SHARDED[1:])
def test_data_cut_off_or_gone(file: str, tmp_path: Path) -> None:
    """Protects from the other halves: a shorter data file, one byte of a tensor that turned, and none at all."""
    for name in SHARDED:
        shutil.copy(CHECKPOINTS / name, tmp_path)
    whole = (CHECKPOINTS / file).read_bytes()
    entries = Checkpoint(tmp_path).entries
    read = [entries[name] for name in readable("sharded.ckpt") if f"data-{entries[name].shard:05d}" in file]
    ends = [entry.offset + entry.size for entry in read]
    for size in range(len(whole)):
        (tmp_path / file).write_bytes(whole[:size])
        problem = never_wrong(tmp_path)
        assert bool(problem) == (size < max(ends)), size
        assert not problem or re.search(rf"{file} is cut off: base_model/\w+ ends at byte \d+, the file at", problem)
    for place in range(len(whole)):
        (tmp_path / file).write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        problem = never_wrong(tmp_path)
        assert bool(problem) == any(entry.offset <= place < entry.offset + entry.size for entry in read), place
        assert not problem or re.search(rf"{file} is damaged: base_model/\w+ does not agree with its", problem)
    (tmp_path / file).unlink()
    assert re.search(rf"{file}, which sharded\.ckpt\.index names, cannot be read: No such file", never_wrong(tmp_path))


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_index_gives_no_wrong_tensor(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Protects against everything else that may happen to a file: bytes turned, taken out, put in."""
    tmp_path = tmp_path_factory.getbasetemp() / "damaged"
    tmp_path.mkdir(exist_ok=True)
    for file in SHARDED[1:]:
        shutil.copy(CHECKPOINTS / file, tmp_path)
    whole = (CHECKPOINTS / SHARDED[0]).read_bytes()
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start, min(start + 40, len(whole))))
    put_in = data.draw(st.binary(max_size=40))
    (tmp_path / SHARDED[0]).write_bytes(whole[:start] + put_in + whole[end:])
    never_wrong(tmp_path)


# an independent writer, for what TensorFlow does not write of its own accord


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def masked(data: bytes) -> bytes:
    return masked_crc32c(data).to_bytes(4, "little")


def block(items: Sequence[tuple[bytes, bytes]], compression: int = 0) -> bytes:
    content = b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in items)
    content += bytes(4) + (1).to_bytes(4, "little") + bytes([compression])
    return content + masked(content)


def table(blocks: Sequence[Sequence[tuple[bytes, bytes]]], compression: int = 0) -> bytes:
    """Each of `blocks`, an index of them, and the footer."""
    content, places = b"", []
    for items in blocks:
        written = block(items, compression)
        places.append((items[-1][0], varint(len(content)) + varint(len(written) - 5)))
        content += written
    empty, index = block([]), block(places)
    footer = varint(len(content)) + varint(len(empty) - 5)
    footer += varint(len(content + empty)) + varint(len(index) - 5)
    return content + empty + index + footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def part(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def entry(array: np.ndarray, place: int, **changed: Any) -> bytes:
    """A BundleEntryProto."""
    shape = b"".join(part(2, number(1, side)) for side in array.shape)
    values = {"dtype": {"f4": 1, "f8": 2, "f2": 19}[array.dtype.str[1:]], "shard": 0, "size": array.nbytes} | changed
    message = number(1, values["dtype"]) + part(2, values.get("shape", shape)) + number(3, values["shard"])
    message += number(4, values.get("offset", place)) + number(5, values["size"])
    return message + varint(6 << 3 | 5) + masked(array.tobytes()) + values.get("more", b"")


def write(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    *,
    per_block: int = 3,
    compression: int = 0,
    header: bytes = b"",
    **changed: Any,
) -> Path:
    """A checkpoint of one data file; `changed` is told of its last tensor."""
    items = [(b"", header or number(1, 1))]
    content = b""
    for i, name in enumerate(names := sorted(tensors)):
        items.append((name.encode(), entry(tensors[name], len(content), **changed if i == len(names) - 1 else {})))
        content += tensors[name].tobytes()
    folder.mkdir(exist_ok=True)
    blocks = [items[i : i + per_block] for i in range(0, len(items), per_block)]
    (folder / "model.ckpt.index").write_bytes(table(blocks, compression))
    (folder / "model.ckpt.data-00000-of-00001").write_bytes(content)
    return folder


FLOATS = st.sampled_from(["<f2", "<f4", "<f8"]).flatmap(
    lambda kind: arrays.arrays(np.dtype(kind), arrays.array_shapes(min_dims=0, max_side=4))
)


@given(
    tensors=st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), FLOATS),
    per_block=st.integers(1, 4),
)
@settings(max_examples=30, deadline=None)
def test_any_tensors_in_any_blocks(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, np.ndarray], per_block: int
) -> None:
    """Protects larger checkpoints, whose index has many blocks: what is written is read, to the bit."""
    folder = tmp_path_factory.getbasetemp() / "written"
    checkpoint = Checkpoint(write(folder, tensors, per_block=per_block))
    assert set(checkpoint.entries) == set(tensors)
    for name, array in tensors.items():
        assert seen(checkpoint.tensor(name)) == seen(array)


ONE = np.arange(6, dtype="<f4").reshape(2, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"compression": 1}, r"index is compressed \(snappy\), which is not read"),
        ({"compression": 4}, r"index is compressed \(kind 4\), which is not read"),
        ({"header": number(1, 1) + number(2, 1)}, r"index was written on a big-endian machine"),
        ({"header": b"\x0b\0"}, r"index is cut off or no index.*a message is malformed"),
        ({"header": b"\x80"}, r"index is cut off or no index.*a number is cut off"),
        ({"header": number(1, 2)}, r"data-00000-of-00002, which model\.ckpt\.index names, cannot be read: No such"),
        ({"shard": 1}, r"index contradicts itself: b of shape \(2, 3\) has 24 bytes in data file 1 of 1"),
        ({"size": 20}, r"index contradicts itself: b of shape \(2, 3\) has 20 bytes"),
        ({"shape": part(2, number(1, 2**63))}, r"index contradicts itself: b of shape"),
        ({"shape": number(3, 1)}, r"index is cut off or no index.*unknown rank"),
        ({"shape": part(2, number(1, 6)) + part(2, number(1, 1)) * 70}, r"index: b: "),
        ({"offset": 25}, r"data-00000-of-00001 is cut off: b ends at byte 49, the file at 48"),
        ({"offset": 2**63}, r"data-00000-of-00001 is cut off: b ends at byte"),
        ({"offset": 4}, r"index contradicts itself: its tensors overlap"),
        ({"dtype": 14}, r"index: b is of TensorFlow's type 14; whole ones of type 1, 2 or 19"),
        ({"more": part(7, b"")}, r"index: b is in slices"),
    ],
)
def test_what_is_not_read_is_said(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Protects a person with another kind of checkpoint, or a lying one: each is one sentence with the file."""
    with pytest.raises(CheckpointError, match=message):
        Checkpoint(write(tmp_path / "model", {"a": ONE + 1, "b": ONE}, **changed)).tensor("b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not end as one"),
        (b"A text that is no table, and longer than the footer of one.", "does not end as one"),
        (table([[(b"a", entry(ONE, 0))]]), "has no header"),
        (table([[(b"", b"")], [(b"\xff", entry(ONE, 0))]]), "codec can't decode"),
        (bytes(40) + (0xDB4775248B80FB57).to_bytes(8, "little"), "does not agree with its checksum"),
        (b"\xff" * 40 + (0xDB4775248B80FB57).to_bytes(8, "little"), "a number is too long"),
    ],
)
def test_what_is_no_index(content: bytes, message: str, tmp_path: Path) -> None:
    """Protects against other files that end in .index."""
    path = tmp_path / "other.index"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"other\.index is cut off or no index.*{message}.*; fetch it again"):
        Checkpoint(path)
