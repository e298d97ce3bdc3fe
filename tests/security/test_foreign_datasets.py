"""Datasets from anywhere: files that name other files, that grow as they are read, or that want a program."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.io import savemat

from harness.config.datasets import DATASETS
from harness.data.encode import encode
from harness.data.errors import DataError
from harness.data.readers import matlab
from harness.data.readers.layout import Folder, joined
from harness.data.readers.nyu import _values
from harness.data.readers.parquet import Shards
from harness.data.readers.voc import CLASSES, _boxes
from harness.data.records import decode_mask

FACTS = DATASETS["voc2007-boxes-stand-in"]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    root = tmp_path / "set"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("a person's own")
    return Folder(root, FACTS, "the owner's page")


# --- names of images ---


@pytest.mark.parametrize("name", ["../secret.txt", "a/../../secret.txt", "/etc/passwd", "JPEGImages/../../secret.txt"])
def test_a_list_cannot_name_what_lies_elsewhere(name: str, folder: Folder) -> None:
    """Protects a person's other files, whatever a list of images says, though they are there."""
    listing = joined({"train": [(name, 0)], "valid": [], "test": []})
    with pytest.raises(DataError, match="1 images lead out of"):
        folder.source(listing, CLASSES[: FACTS.classes], listing.splits)


# --- HDF5 ---


def hostile_h5(path: Path, way: str) -> None:
    """A file whose `rgb` is somewhere else, or larger than any memory."""
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as file:
        file["private"] = np.zeros((3, 2, 2), "u1")
    (path.with_name("raw.bin")).write_bytes(bytes(12))
    with h5py.File(path, "w") as file:
        if way == "external link":
            file["rgb"] = h5py.ExternalLink(str(other), "/private")
        elif way == "soft link":
            file["a"] = np.zeros((3, 2, 2), "u1")
            file["rgb"] = h5py.SoftLink("/a")
        elif way == "external storage":
            file.create_dataset("rgb", (3, 2, 2), "u1", external=[(str(path.with_name("raw.bin")), 0, 12)])
        elif way == "virtual":
            layout = h5py.VirtualLayout((3, 2, 2), "u1")
            layout[:] = h5py.VirtualSource(str(other), "private", (3, 2, 2))
            file.create_virtual_dataset("rgb", layout)
        elif way == "group":
            file.create_group("rgb")
        else:
            file.create_dataset("rgb", (3, 1_000_000, 1_000_000), "u1", chunks=(1, 100, 100))


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("external link", "rgb is a link to somewhere else"),
        ("soft link", "rgb is a link to somewhere else"),
        ("external storage", "rgb is no array that lies in the file"),
        ("virtual", "rgb is no array that lies in the file"),
        ("group", "rgb is no array that lies in the file"),
        ("three terabytes", "an array claims 3000000 MB"),
    ],
)
def test_an_array_lies_in_its_file(way: str, words: str, folder: Folder) -> None:
    """Protects other files from being read as images, and memory from sizes that are only claimed."""
    hostile_h5(folder.root / "00001.h5", way)
    with pytest.raises(DataError, match=words):
        _values(folder, "00001.h5", "rgb")


# --- MATLAB ---


def test_a_matlab_file_grows_no_further_than_it_may(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from a file of kilobytes that unpacks to gigabytes, in one element or in many, and from a large one."""
    path = folder.root / "lists.mat"
    savemat(path, {"numbers": np.arange(5.0)}, do_compression=True)
    assert folder.matlab("lists.mat", "numbers").tolist() == [0, 1, 2, 3, 4]
    monkeypatch.setattr(matlab, "UNPACKED", 1_000_000)
    savemat(path, {f"x{i}": np.zeros(40_000) for i in range(5)}, do_compression=True)
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"lists\.mat cannot be read .*unpacks to more than"):
        folder.matlab("lists.mat", "x0")
    element = zlib.compress(bytes(50_000_000))
    start = b"MATLAB 5.0".ljust(124) + b"\0\1IM"
    path.write_bytes(start + struct.pack("<II", 15, len(element)) + element)
    with pytest.raises(DataError, match=r"lists\.mat cannot be read .*unpacks to more than"):
        folder.matlab("lists.mat", "x0")
    monkeypatch.setattr(matlab, "LARGEST", 1000)
    with pytest.raises(DataError, match=r"lists\.mat cannot be read .*is larger than"):
        folder.matlab("lists.mat", "x0")


def test_a_matlab_file_of_objects_runs_nothing(folder: Folder) -> None:
    """Protects what reads lists: a cell with text and numbers is an array of them, and no name in it is looked up."""
    savemat(folder.root / "cell.mat", {"cell": np.array(["os.system", 1.0], dtype=object)})
    assert folder.matlab("cell.mat", "cell").tolist() == ["os.system", 1]


# --- XML ---

LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "declared",
    [
        f'<!DOCTYPE a [<!ENTITY l0 "lol">{LAUGHS}]>',
        f'<!DOCTYPE a [<!ENTITY l0 "{"x" * 50_000}">]>',
        '<!DOCTYPE a [<!ENTITY l0 SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x.dtd">',
    ],
    ids=["billion laughs", "quadratic", "a file", "an address"],
)
def test_an_annotation_declares_nothing(declared: str, encoding: str, folder: Folder) -> None:
    """Protects from entities, which grow without end or name files: no annotation has a document type."""
    (folder.root / "Annotations").mkdir()
    body = f"<annotation>{declared and '&l0;' * 1000}{'&l11;' if 'l11' in declared else ''}</annotation>"
    content = f'<?xml version="1.0" encoding="{encoding}"?>{declared}{body}'
    (folder.root / "Annotations" / "1.xml").write_bytes(content.encode(encoding))
    started = time.monotonic()
    with pytest.raises(DataError, match=r"1\.xml cannot be read \(it declares a document type 'a'"):
        _boxes(folder.root, ["Annotations/1.xml"], CLASSES, 0)
    assert time.monotonic() - started < 20


def test_an_annotation_has_an_end(folder: Folder) -> None:
    """Protects from an annotation of gigabytes."""
    (folder.root / "Annotations").mkdir()
    (folder.root / "Annotations" / "1.xml").write_text("<annotation>" + "<object/>" * 200_000 + "</annotation>")
    with pytest.raises(DataError, match=r"1\.xml cannot be read \(is larger than 1 MB"):
        _boxes(folder.root, ["Annotations/1.xml"], CLASSES, 0)


# --- images ---


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_an_image_of_a_billion_pixels_is_refused() -> None:
    """Protects from bombs among images and among masks; what can be decoded is refused before it is."""
    with pytest.raises(DataError, match="exceeds limit"):
        encode(png(60_000, 60_000), "jpeg")
    with pytest.raises(DataError, match="a mask is made to fill the memory"):
        decode_mask(png(60_000, 60_000))


def test_postscript_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from a program in the form of an image: PIL would hand it to Ghostscript, here it is not even asked."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was asked"))
    script = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(touch {tmp_path}/ran) (w) file\n%%EOF\n".encode()
    assert Image.open(io.BytesIO(script)).format == "EPS", "PIL itself takes it"
    with pytest.raises(DataError, match="it is no image that can be decoded"):
        encode(script, "jpeg")


# --- parquet ---


class Evil:
    """A type of pyarrow's older kind, which was pickled into the file."""

    def __reduce__(self) -> Any:
        return __import__("os").system, ("touch ran",)


def test_a_parquet_file_runs_nothing(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from types that older versions of pyarrow unpickled out of the file's own notes."""
    monkeypatch.chdir(tmp_path)
    notes = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": __import__("pickle").dumps(Evil()),
    }
    kinds = pa.schema([pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]), metadata=notes)])
    kinds = kinds.append(pa.field("label", pa.int64(), metadata=notes))
    rows = pa.table({"image": [{"bytes": b"x", "path": "a"}], "label": [0]}, schema=kinds)
    pq.write_table(rows, folder.root / "train.parquet")
    assert Shards(folder, {"train": "train.parquet"}).bytes(0) == b"x"
    assert not (tmp_path / "ran").exists()


def test_a_parquet_file_has_no_more_rows_than_its_set(folder: Folder) -> None:
    """Protects from a million rows in a kilobyte, of which there may be billions."""
    image = pa.array([None], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    many = pa.table(
        {
            "image": pa.chunked_array([image]).take(pa.array(np.zeros(1_000_000, "i8"))),
            "label": np.zeros(1_000_000, "i8"),
        }
    )
    pq.write_table(many, folder.root / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet has 1000000 rows, the whole set \d+ images"):
        Shards(folder, {"train": "train.parquet"})
