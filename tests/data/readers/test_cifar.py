"""CIFAR-10 and CIFAR-100 from pickles and from parquet files."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import struct
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torchvision import datasets

from harness.config.datasets import DATASETS, Facts
from harness.data.errors import DataError
from harness.data.readers.cifar import read_cifar10, read_cifar100, stand_in_cifar10, stand_in_cifar100
from harness.data.source import Source
from harness.data.stand_in import jpeg, png

TEN, HUNDRED = DATASETS["cifar10-stand-in"], DATASETS["cifar100-stand-in"]
Reader = Callable[[Path, Facts], Source]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stand-ins, made once."""
    target = tmp_path_factory.mktemp("cifar")
    stand_in_cifar10(target, TEN)
    stand_in_cifar100(target, HUNDRED)
    return target


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A copy of them, to break."""
    return shutil.copytree(made, tmp_path / "set")


def in_parquet(source: Source, target: Path, label: str, group: int = 30) -> Path:
    """The images of a source in parquet files of its owner's order, as PNG files."""
    target.mkdir()
    for part in ("train", "test"):
        numbers = [number for number, name in enumerate(source.names) if name.startswith(part)]
        images = [{"bytes": png(source.image(number)), "path": None} for number in numbers]
        table = pa.table({"img": images, label: source.labels[numbers]})
        pq.write_table(table, target / f"{part}-00000-of-00001.parquet", row_group_size=group)
    return target


@pytest.mark.parametrize(
    ("read", "facts", "theirs"), [(read_cifar10, TEN, "CIFAR10"), (read_cifar100, HUNDRED, "CIFAR100")]
)
def test_it_has_torchvision_s_images_and_labels(
    made: Path, read: Reader, facts: Facts, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects pixels, their order, labels, classes and the owner's splits."""
    kind = getattr(datasets, theirs)
    monkeypatch.setattr(kind, "_check_integrity", lambda _: True)  # its sums are those of the real files
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    source = read(made, facts)
    sets = [kind(str(made), train=train) for train in (True, False)]
    pixels = np.concatenate([each.data for each in sets])
    np.testing.assert_array_equal([source.image(number) for number in range(len(source.names))], pixels)
    np.testing.assert_array_equal(source.labels, [label for each in sets for label in each.targets])
    assert list(source.classes) == sets[0].classes
    assert len({pixel.tobytes() for pixel in pixels}) == 200
    assert source.names == [f"train/{number}" for number in range(150)] + [f"test/{number}" for number in range(50)]
    assert {split: len(part) for split, part in source.splits.items()} == {"train": 120, "valid": 30, "test": 50}
    assert source.splits["test"].tolist() == list(range(150, 200))


def test_held_out_images_are_balanced_or_random(made: Path) -> None:
    """Protects the split rules: CIFAR-10's is even over the classes, CIFAR-100's the first by sha256."""
    ten, hundred = read_cifar10(made, TEN), read_cifar100(made, HUNDRED)
    np.testing.assert_array_equal(np.bincount(ten.labels[ten.splits["valid"]]), [6] * 5)
    order = sorted(range(150), key=lambda number: hashlib.sha256(f"cifar100/train/{number}".encode()).digest())
    assert hundred.splits["valid"].tolist() == sorted(order[:30])


@pytest.mark.parametrize(
    ("read", "facts", "label", "folder"),
    [(read_cifar10, TEN, "label", "plain_text"), (read_cifar100, HUNDRED, "fine_label", "cifar100")],
)
def test_parquet_files_give_the_pickles_samples(
    made: Path, tmp_path: Path, read: Reader, facts: Facts, label: str, folder: str
) -> None:
    """Protects prepared data from depending on the form in which somebody has CIFAR."""
    expected = read(made, facts)
    target = in_parquet(expected, tmp_path / folder, label)
    for place in (target, tmp_path):
        source = read(place, facts)
        assert source.names == expected.names
        assert source.classes == expected.classes
        np.testing.assert_array_equal(source.labels, expected.labels)
        for split, part in expected.splits.items():
            np.testing.assert_array_equal(source.splits[split], part)
        for number in range(200):
            np.testing.assert_array_equal(source.image(number), expected.image(number))


def test_the_archive_is_unpacked(home: Path) -> None:
    """Protects those who only fetched the archive."""
    expected = read_cifar10(home, TEN)
    with tarfile.open(home / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(home / "cifar-10-batches-py", "cifar-10-batches-py")
    shutil.rmtree(home / "cifar-10-batches-py")
    np.testing.assert_array_equal(read_cifar10(home, TEN).image(9), expected.image(9))
    with pytest.raises(DataError, match=r"neither a folder cifar-10-batches-py nor .*; get it from the CIFAR page"):
        read_cifar10(home / "cifar-100-python", TEN)


def python2(batch: dict[str, object]) -> bytes:
    """A pickle as Python 2 and the numpy of its time wrote the real files, opcode by opcode."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<I", len(value)) + value

    data, labels = batch["data"], batch["labels"]
    assert isinstance(data, np.ndarray)
    assert isinstance(labels, list)
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01btR"
    dtype = b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    state = b"(K\x01" + b"M" + struct.pack("<H", len(data)) + b"M\0\x0c\x86" + dtype + b"\x89" + text(data.tobytes())
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + state + b"tb" + text(b"labels") + numbers + b"u."


def test_pickles_of_python_2_are_read(home: Path) -> None:
    """Protects the owner's real files, which are pickles of Python 2 with arrays of an old numpy."""
    expected = read_cifar10(home, TEN)
    for path in (home / "cifar-10-batches-py").glob("*_batch*"):
        path.write_bytes(python2(pickle.loads(path.read_bytes())))
    source = read_cifar10(home, TEN)
    np.testing.assert_array_equal(source.labels, expected.labels)
    for number in range(200):
        np.testing.assert_array_equal(source.image(number), expected.image(number))


class _Call:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("open('called', 'w')",)


def _batch(**changes: object) -> bytes:
    batch = {"data": np.zeros((30, 3072), dtype=np.uint8), "labels": [0] * 30}
    return pickle.dumps({key: value for key, value in (batch | changes).items() if value is not None})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(_Call()), "cannot be read .*asks for builtins.eval, which is no array"),
        (_batch(data=None, labels=None, other=_Call()), "asks for builtins.eval"),
        (b"", "cannot be read"),
        (_batch()[:-100], "cannot be read"),
        (_batch(labels=None), "does not hold data and labels"),
        (pickle.dumps([1]), "does not hold data and labels"),
        (_batch(labels=[0] * 8 + [5] + [0] * 21), "row 8: label 5 is not between 0 and 4"),
        (_batch(labels=[0] * 29), r"holds uint8 \(30, 3072\) for 29 labels"),
        (_batch(data=np.zeros((30, 3072))), r"holds float64 \(30, 3072\) for 30 labels"),
    ],
)
def test_a_bad_pickle_is_named_and_calls_nothing(
    home: Path, content: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects from downloads that stopped, and from pickles that would run a program."""
    monkeypatch.chdir(home)
    (home / "cifar-10-batches-py/data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match=rf"data_batch_3.*{words}"):
        read_cifar10(home, TEN)
    assert not (home / "called").exists()


def test_what_is_missing_is_named(home: Path) -> None:
    """Protects counts and classes: a batch, the other set's names, fewer images than Table 10 has."""
    with pytest.raises(DataError, match=r"the test split in .* has 50 images, not 51"):
        read_cifar10(home, replace(TEN, test_images=51))
    shutil.copy(home / "cifar-100-python/meta", home / "cifar-10-batches-py/batches.meta")
    with pytest.raises(DataError, match=r"batches.meta does not hold label_names"):
        read_cifar10(home, TEN)
    (home / "cifar-10-batches-py/batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b"]}))
    with pytest.raises(DataError, match=r"does not name the classes of cifar10"):
        read_cifar10(home, TEN)
    (home / "cifar-100-python/test").unlink()
    with pytest.raises(DataError, match=r"cifar-100-python/test is missing"):
        read_cifar100(home, HUNDRED)


def test_bad_parquet_files_are_named(made: Path, tmp_path: Path) -> None:
    """Protects from parquet files of another set: sizes, classes and undecodable images."""
    source = read_cifar10(made, TEN)
    large = replace(source, image=lambda _: np.zeros((32, 33, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"row 3: the image has \(32, 33\) pixels, not 32 x 32"):
        read_cifar10(in_parquet(large, tmp_path / "large", "label"), TEN).image(3)
    with pytest.raises(DataError, match=r"has 5 classes, not 6"):
        read_cifar10(in_parquet(source, tmp_path / "small", "label"), replace(TEN, classes=6, valid_images=36))
    path = tmp_path / "small/train-00000-of-00001.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[40]["img"]["bytes"] = jpeg(source.image(40))[:200]
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(DataError, match=r"train-00000-of-00001.parquet, row 40: the image cannot be decoded"):
        read_cifar10(tmp_path / "small", TEN).image(40)
