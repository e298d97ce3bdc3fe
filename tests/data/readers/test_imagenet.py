"""ImageNet from a tree of folders and from parquet files."""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.io import savemat
from torchvision.datasets import ImageFolder

from harness.config.datasets import DATASETS
from harness.data.errors import DataError
from harness.data.readers.imagenet import WNIDS, read, stand_in, stand_in_parquet
from harness.data.source import Source

FACTS = DATASETS["imagenet-stand-in"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in as a tree."""
    target = tmp_path_factory.mktemp("tree")
    stand_in(target, FACTS)
    return target


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in as parquet files."""
    target = tmp_path_factory.mktemp("shards")
    stand_in_parquet(target, FACTS)
    return target


@pytest.fixture
def own_tree(tree: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(tree, tmp_path / "tree")


@pytest.fixture
def own_shards(shards: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(shards, tmp_path / "shards")


def same(one: Source, other: Source) -> None:
    """Nothing tells two sources apart."""
    assert list(one.names) == list(other.names)
    assert one.classes == other.classes
    np.testing.assert_array_equal(one.labels, other.labels)
    assert {split: part.tolist() for split, part in one.splits.items()} == {
        split: part.tolist() for split, part in other.splits.items()
    }
    assert all(one.image(number) == other.image(number) for number in range(len(one.names)))


def test_a_tree_has_torchvision_s_images_and_labels(tree: Path) -> None:
    """Protects the labels, which follow the sorted class folders, and the bytes of the files."""
    source = read(tree, FACTS)
    expected = {}
    for part in ("train", "val"):
        expected |= {Path(path).name: (label, path) for path, label in ImageFolder(str(tree / part)).samples}
    assert len(source.names) == len(expected) == 200
    for number, (name, label) in enumerate(zip(source.names, source.labels, strict=True)):
        assert label == expected[name][0]
        assert source.image(number) == Path(expected[name][1]).read_bytes()
    assert source.classes == WNIDS


def test_the_held_out_images_are_the_last_by_md5(tree: Path) -> None:
    """Protects the held-out split: those with the largest md5 of `train` and the file name, and no validation image."""
    source = read(tree, FACTS)
    assert {split: len(part) for split, part in source.splits.items()} == {"train": 120, "valid": 30, "test": 50}
    train = [name for name in source.names if not name.startswith("ILSVRC")]
    last = sorted(train, key=lambda name: hashlib.md5(b"train" + name.encode()).hexdigest())[-30:]
    assert [source.names[number] for number in source.splits["valid"]] == sorted(last)
    tests = [source.names[number] for number in source.splits["test"]]
    assert tests == [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 51)]


def test_parquet_files_give_the_tree_s_samples(tree: Path, shards: Path) -> None:
    """Protects prepared data from depending on the form in which somebody has ImageNet."""
    same(read(shards, FACTS), read(tree, FACTS))


def test_threads_may_read_parquet_files_in_any_order(tree: Path, shards: Path) -> None:
    """Protects the shared row groups: many threads, in an order that defeats the cache, get the right images."""
    source, expected = read(shards, FACTS), read(tree, FACTS)
    numbers = np.random.default_rng(0).permutation(200).tolist() * 2
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(source.image, numbers)) == [expected.image(number) for number in numbers]


def test_a_flat_validation_folder_is_read_with_the_devkit(tree: Path, own_tree: Path) -> None:
    """Protects those who unpacked the owner's archives: the devkit numbers its classes in an order of its own."""
    expected = read(tree, FACTS)
    order = [WNIDS[number] for number in (3, 0, 4, 1, 2)]
    truth = []
    for path in sorted((own_tree / "val").glob("*/*.JPEG"), key=lambda path: path.name):
        truth.append(f"{1 + order.index(path.parent.name)}\n")
        path.rename(own_tree / "val" / path.name)
    for folder in (own_tree / "val").glob("n*"):
        folder.rmdir()
    data = own_tree / "ILSVRC2012_devkit_t12/data"
    data.mkdir(parents=True)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(truth))
    rows = [(number, wnid) for number, wnid in enumerate((*order, "n00000001"), start=1)]  # a class not among ours
    synsets = np.array(rows, dtype=[("ILSVRC2012_ID", object), ("WNID", object)])
    savemat(data / "meta.mat", {"synsets": synsets[:, None]})
    same(read(own_tree, FACTS), expected)
    (own_tree / "val/ILSVRC2012_val_00000007.JPEG").unlink()
    with pytest.raises(DataError, match=r"has 49 images, .*ground_truth.txt the classes of 50"):
        read(own_tree, FACTS)


def test_a_source_without_imagenet_says_what_is_expected(tmp_path: Path) -> None:
    """Protects first-time users: the message has the layout and where the set can be had."""
    with pytest.raises(DataError, match=r"neither a folder train nor files train-\*.parquet.*image-net.org"):
        read(tmp_path, FACTS)


def test_class_folders_too_many_or_too_few_are_named(own_tree: Path) -> None:
    """Protects labels: another folder would shift all that follow it."""
    (own_tree / "train/n01440763").mkdir()
    with pytest.raises(DataError, match=r"6 class folders, not 5: n01440763"):
        read(own_tree, FACTS)
    (own_tree / "train/n01440763").rmdir()
    (own_tree / "val/n01494475").rename(own_tree / "val/n09999999")
    with pytest.raises(DataError, match=r"val does not have the classes of the train split: n01494475, n09999999"):
        read(own_tree, FACTS)


def test_a_missing_image_and_a_missing_split_are_counted(own_tree: Path, shards: Path) -> None:
    """Protects Table 10's counts, in both forms."""
    next(path for path in (own_tree / "train/n01440764").iterdir()).unlink()
    with pytest.raises(DataError, match=r"the train split in .* has 119 images, not 120"):
        read(own_tree, FACTS)
    shutil.rmtree(own_tree / "val")
    with pytest.raises(DataError, match=r"folder .*val is missing"):
        read(own_tree, FACTS)
    with pytest.raises(DataError, match=r"the test split in .* has 50 images, not 51"):
        read(shards, replace(FACTS, test_images=51))


def test_a_missing_shard_is_noticed(own_shards: Path) -> None:
    """Protects from a download that stopped between two files."""
    (own_shards / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(DataError, match=r"the train split in .* has 45 images, not 120"):
        read(own_shards, FACTS)
    for path in own_shards.glob("validation*"):
        path.unlink()
    with pytest.raises(DataError, match=r"holds no file validation-\*.parquet"):
        read(own_shards, FACTS)


@pytest.mark.parametrize("kept", [0, 100, -9, -2000])
def test_a_truncated_parquet_file_is_named(own_shards: Path, kept: int) -> None:
    """Protects from a download that stopped within a file."""
    path = own_shards / "train-00000-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"train-00000-of-00002.parquet is damaged or incomplete"):
        read(own_shards, FACTS)


def test_damage_in_the_images_is_named_when_they_are_read(own_shards: Path) -> None:
    """Protects from a file whose end is whole while its middle is not."""
    path = own_shards / "train-00000-of-00002.parquet"
    content = bytearray(path.read_bytes())
    content[2000:6000] = bytes(4000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train-00000-of-00002.parquet is damaged"):  # noqa: PT012 - at whichever
        source = read(own_shards, FACTS)
        for number in range(150):
            source.image(number)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("label", 5, "row 7: label 5 is not between 0 and 4"),
        ("label", None, "row 7: label -1 is not between 0 and 4"),
        ("label", 0, "row 7: the label 0 is of n01440764, the name of n01484850"),
        ("image", {"bytes": b"", "path": "photo.png"}, "row 7: 'photo.png' is not the name of an ImageNet image"),
        ("image", {"bytes": b"", "path": None}, "row 7: '' is not the name"),
        ("image", None, "row 7: '' is not the name"),
    ],
)
def test_a_wrong_row_is_named(own_shards: Path, column: str, value: object, words: str) -> None:
    """Protects labels and names: a message has the file, the row and what is wrong there."""
    path = own_shards / "train-00001-of-00002.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[7][column] = value
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(DataError, match=rf"train-00001-of-00002.parquet, {words}"):
        read(own_shards, FACTS)


def test_a_row_without_bytes_is_named(own_shards: Path) -> None:
    """Protects from parquet files that only point to images elsewhere."""
    path = own_shards / "train-00000-of-00002.parquet"
    rows = pq.read_table(path).to_pylist()
    name = rows[30]["image"]["path"].rsplit("_", 1)[0] + ".JPEG"
    rows[30]["image"]["bytes"] = None
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=20)
    source = read(own_shards, FACTS)
    with pytest.raises(DataError, match=r"train-00000-of-00002.parquet, row 30: there are no bytes"):
        source.image(source.names.index(name))


def test_other_columns_are_refused(own_shards: Path) -> None:
    """Protects from the parquet files of another dataset."""
    pq.write_table(pa.table({"text": ["a"]}), own_shards / "train-00000-of-00002.parquet")
    with pytest.raises(DataError, match=r"has the columns \['text'\], but no image and label"):
        read(own_shards, FACTS)
