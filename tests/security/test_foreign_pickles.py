"""Pickles of foreign origin: whatever they ask for, nothing of it runs, and no file fills the memory."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import tarfile
import tempfile
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.config import pickled
from harness.config.errors import ConfigError
from harness.config.pickled import ARRAYS, PickleError, RefusedError, read_pickle
from harness.models.haiku import HaikuError, read_haiku
from harness.models.state_dict import read_torch

START, STOP = b"\x80\x04", b"."


def name(module: str, attribute: str) -> bytes:
    """What puts a global on the stack, by protocol 4's two texts."""
    texts = (b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, attribute))
    return b"".join(texts) + b"\x93"


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def attacks(ran: str) -> dict[str, bytes]:
    """Ways to a shell, by what they go through; each would make the file `ran`."""
    command = f"touch {ran}"
    system = name("os", "system") + text(command) + b"\x85R"
    through_getattr = name("builtins", "getattr") + name("os", "path") + text("os") + b"\x86R"
    return {
        "reduce": START + system + STOP,
        "reduce, protocol 0": pickle.dumps(Calls(os.system, command), protocol=0),
        "the object opcode": b"(" + name("os", "system") + text(command) + b"o.",
        "the instance opcode": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "a new object with keywords": START + name("os", "system") + text(command) + b"\x85}\x92" + STOP,
        "a dotted name": START + name("numpy", "os.system") + text(command) + b"\x85R" + STOP,
        "a name within a name": START + b"\x8c\x05numpy\x8c\x07ndarray\x93" + name("numpy", "__builtins__") + STOP,
        "getattr": START + through_getattr + STOP,
        "eval": pickle.dumps(Calls(eval, f"open({ran!r}, 'w')")),
        "a list's own load": START + name("numpy", "load") + text("x.npy") + b"\x85R" + STOP,
        "an extension of copyreg": START + b"\x82\x01" + STOP,
        "a persistent name": START + b"Pos.system\n" + STOP,
        "copyreg itself": pickle.dumps(Calls(__import__("copyreg").add_extension, "os", "system", 1)),
        "other codecs": START + name("_codecs", "decode") + text("x") + text("rot13") + b"\x86R" + STOP,
        "a module's attributes": START + name("numpy", "ndarray") + b"}" + text("shape") + text("x") + b"sb" + STOP,
        "attributes of what is admitted": START + name("numpy", "dtype") + b"N}" + text("__new__") + b"Ns\x86b" + STOP,
        "bytes outside the file": START + b"\x97" + STOP,
    }


@pytest.mark.parametrize("way", list(attacks("x")))
def test_nothing_that_a_pickle_asks_for_runs(way: str, tmp_path: Path) -> None:
    """Protects the machine from a checkpoint of DeepMind's form and from CIFAR's batches, by every way to a call."""
    path, ran = tmp_path / "evil.pkl", tmp_path / "ran"
    path.write_bytes(attacks(str(ran))[way])
    with pytest.raises(PickleError, match=r"asks for|uses|fills in"):
        read_pickle(path, ARRAYS)
    with pytest.raises(HaikuError, match="refused, nothing of it was run"):
        read_haiku(path)
    assert not ran.exists()
    assert np.dtype("f4").itemsize == 4


def test_an_array_of_objects_is_none(tmp_path: Path) -> None:
    """Protects from numpy's own way to run a pickle within an array."""
    path = tmp_path / "objects.pkl"
    path.write_bytes(pickle.dumps(np.array([Calls(os.system, f"touch {tmp_path}/ran")], dtype=object)))
    with pytest.raises(RefusedError, match=r"asks for \w+\.system"):
        read_pickle(path, ARRAYS)
    path.write_bytes(pickle.dumps(np.array([None, 1], dtype=object), protocol=4))
    with pytest.raises(ValueError, match="holds other numbers"):
        read_pickle(path, ARRAYS).numpy("f[248]")
    assert not (tmp_path / "ran").exists()


def array(shape: bytes, data: bytes = b"\x8e" + struct.pack("<Q", 4) + b"\0\0\x80?") -> bytes:
    """An array of float32, its shape and its data as opcodes."""
    kind = name("numpy", "dtype") + text("f4") + b"\x89\x88\x87R" + b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xff"
    kind += b"J\xff\xff\xff\xffK\0tb"
    made = name("numpy.core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\0\x85C\x01b\x87R"
    return made + b"(K\x01" + shape + kind + b"\x89" + data + b"tb"


BOMBS = {
    "text of an exabyte": START + b"\x8d" + struct.pack("<Q", 1 << 60) + b"x" + STOP,
    "bytes of an exabyte": START + b"\x8e" + struct.pack("<Q", 1 << 60) + b"x" + STOP,
    "a buffer of an exabyte": START + b"\x96" + struct.pack("<Q", 1 << 60) + b"x" + STOP,
    "a number of two gigabytes": START + b"\x8b\xff\xff\xff\x7f\x01" + STOP,
    "a frame of an exabyte": START + b"\x95" + struct.pack("<Q", 1 << 60) + STOP,
    "a million empty dictionaries": START + b"}" * 1_000_000 + STOP,
    "a key that nests too deeply to be hashed": START + b"})" + b"\x85" * 90_000 + b"Ns" + STOP,
    "a set of what nests too deeply": START + b"\x8f()" + b"\x85" * 90_000 + b"\x90" + STOP,
    "the same text encoded again and again": START
    + name("_codecs", "encode")
    + b"\x94X"
    + struct.pack("<I", 1_000_000)
    + b"x" * 1_000_000
    + b"\x94"
    + text("latin1")
    + b"\x94"
    + b"h\0h\x01h\x02\x86R" * 1000
    + STOP,
}


@pytest.mark.parametrize("bomb", list(BOMBS))
def test_no_pickle_fills_the_memory(bomb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from files of a few bytes that Python's own reader answers with gigabytes, or with its end."""
    monkeypatch.setattr(pickled, "STEPS", 100_000)
    path = tmp_path / "bomb.pkl"
    path.write_bytes(BOMBS[bomb])
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(PickleError):
            read_pickle(path, ARRAYS)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 60


def test_a_place_in_the_memo_costs_nothing(tmp_path: Path) -> None:
    """Protects from seven bytes that make Python's own reader in C fill 34 GB with places for what never comes."""
    path = tmp_path / "memo.pkl"
    path.write_bytes(START + b"Nr\xff\xff\xff\x7f" + STOP)
    tracemalloc.start()
    try:
        assert read_pickle(path, ARRAYS) is None
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_an_array_cannot_be_larger_than_its_file(tmp_path: Path) -> None:
    """Protects from headers of arrays: a shape without the bytes, and one array's bytes under many names."""
    path = tmp_path / "array.pkl"
    path.write_bytes(START + array(b"J\xff\xff\xff\x7f\x85") + STOP)
    with pytest.raises(ValueError, match="cannot reshape"):
        read_pickle(path, ARRAYS).numpy("f4")
    path.write_bytes(START + array(b"K\x01\x85") + STOP)
    one = read_pickle(path, ARRAYS)
    assert one.numpy("f4") == [1.0]
    with pytest.raises(PickleError, match="the same bytes more often"):
        [one.numpy("f4") for _ in range(path.stat().st_size)]


@given(st.binary(max_size=40), st.sampled_from([b"", START, START + name("numpy", "dtype")]))
def test_no_pickle_is_more_than_data(content: bytes, start: bytes) -> None:
    """Protects from what nobody thought of: nonsense is read as data, or refused in words; nothing else is raised."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nonsense.pkl"
        path.write_bytes(start + content)
        with contextlib.suppress(PickleError):  # either outcome is right
            read_pickle(path, ARRAYS)


def test_plain_data_is_what_pickle_makes_of_it(tmp_path: Path) -> None:
    """Protects what is admitted, by Python's own reader: every plain kind of value, in every protocol."""
    data = {"a": [1, -1, 1 << 40, 1 << 200, 1.5, None, True, False], b"b": ("x", "ä" * 300, b"y" * 300, (), [], {})}
    data["again"] = data["a"]
    path = tmp_path / "plain.pkl"
    for protocol in range(6):
        path.write_bytes(pickle.dumps(data, protocol=protocol))
        found = read_pickle(path, ARRAYS)
        assert found == data
        assert found["again"] is found["a"]


# --- torch's own files ---


def test_torchs_older_files_ask_for_nothing(tmp_path: Path) -> None:
    """Protects from the two older forms of torch.save, one after the other and in a tar, by the same calls."""
    path, ran = tmp_path / "evil.pth", tmp_path / "ran"
    evil = {"w": Calls(os.system, f"touch {ran}")}
    torch.save(evil, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ConfigError, match=r"asks for \w+\.system, which is no tensor; refused"):
        read_torch(path)
    with tarfile.open(path, "w") as tar:
        for member in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(evil)
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(ConfigError, match=r"refused|no file of torch\.save"):
        read_torch(path)
    assert not ran.exists()


def test_torchs_files_hold_what_they_claim(tmp_path: Path) -> None:
    """Protects from four terabytes in a kilobyte: views that repeat one number, and archives that unpack to more."""
    path = tmp_path / "bomb.pth"
    torch.save({"conv1.weight": torch.zeros(1).expand(1 << 40)}, path)
    with pytest.raises(ConfigError, match="claims more numbers than it holds"):
        read_torch(path)
    torch.save({"w": torch.zeros(100_000)}, path)
    assert read_torch(path)["w"].shape == (100_000,)
    with zipfile.ZipFile(path) as stored:
        members = {one.filename: stored.read(one) for one in stored.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for member, content in members.items():
            packed.writestr(member, content)
    with pytest.raises(ConfigError, match=r"is a compressed archive, which torch\.save does not write"):
        read_torch(path)
    with torch.sparse.check_sparse_tensor_invariants():
        torch.save({"w": torch.sparse_coo_tensor([[0]], [1.0], (1 << 40,))}, path)
    with pytest.raises(ConfigError, match=r"no plain state dict|no file of torch\.save"):
        read_torch(path)
