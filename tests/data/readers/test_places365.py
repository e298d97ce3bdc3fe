"""Places365 from its lists and folders."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import Places365

from harness.config.datasets import DATASETS
from harness.data.errors import DataError
from harness.data.readers.places365 import CATEGORIES, read, stand_in

FACTS = DATASETS["places365-stand-in"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, made once."""
    target = tmp_path_factory.mktemp("places365")
    stand_in(target, FACTS)
    return target


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """The folder of a copy of it, to break."""
    shutil.copytree(made, tmp_path / "set")
    return tmp_path / "set/places365"


def test_it_has_torchvision_s_images_and_labels(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects names, labels and bytes, and the balance of the held-out images."""
    monkeypatch.setattr(Places365, "_check_integrity", lambda *_: True)  # its sums are those of the real lists
    source = read(home, FACTS)
    start = 0
    for split in ("train-standard", "val"):
        theirs = Places365(str(home), split)
        for number, (path, label) in enumerate(theirs.imgs, start=start):
            assert path.endswith(source.names[number])
            assert source.image(number) == Path(path).read_bytes()
            assert source.labels[number] == label
        start += len(theirs)
    assert start == len(source.names)
    assert list(source.classes) == theirs.classes == list(CATEGORIES)
    assert source.splits["test"].tolist() == list(range(150, 200))
    np.testing.assert_array_equal(np.bincount(source.labels[source.splits["valid"]]), [6] * 5)


def test_every_size_and_form_has_the_same_names_and_splits(home: Path) -> None:
    """Protects comparisons between the sizes, and those who have only the archives."""
    expected = read(home.parent, FACTS)
    (home / "data_large_standard").rename(home / "data_256")
    (home / "val_large").rename(home / "val_256")
    small = read(home, FACTS)
    lists = [path.name for path in home.glob("*.txt")]
    for archive, members in (
        ("filelist_places365-standard.tar", lists),
        ("train_256_places365standard.tar", ["data_256"]),
        ("val_256.tar", ["val_256"]),
    ):
        with tarfile.open(home / archive, "w") as tar:
            for member in members:
                tar.add(home / member, member)
                (home / member).rename(home.parent / member)
    for source in (small, read(home, FACTS)):
        assert source.names == expected.names
        np.testing.assert_array_equal(source.splits["valid"], expected.splits["valid"])
        assert source.image(199) == (home.parent / "val_256/Places365_val_00000050.jpg").read_bytes()


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("categories_places365.txt", "/b/bank_vault 2", "/b/bank_vault 3", "'/b/bank_vault 3' is not class 2"),
        ("categories_places365.txt", "/b/bank_vault 2\n", "", "lists 4 classes, not 5"),
        ("places365_val.txt", "00000003.jpg 0", "00000003.jpg 5", "line 3: '5' is none of the 5 classes"),
        ("places365_val.txt", "00000003.jpg 0", "00000003.jpg", "line 3: .* is not an image and its class"),
        ("places365_train_standard.txt", "airfield/00000001.jpg", "airfield/x.jpg", "1 of 200 images are missing"),
        ("places365_val.txt", "Places365_val_00000050.jpg 4\n", "", "test split in .* has 49 images, not 50"),
    ],
)
def test_a_wrong_line_is_named(home: Path, file: str, old: str, new: str, words: str) -> None:
    """Protects labels and counts: a message has the file, the line and what is wrong there."""
    path = home / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=words):
        read(home, FACTS)


def test_what_is_missing_is_named(home: Path) -> None:
    """Protects users from guessing what else they have to fetch."""
    (home / "categories_places365.txt").unlink()
    with pytest.raises(DataError, match=r"filelist_places365-standard.tar; get it from the Places2 page"):
        read(home, FACTS)
    shutil.rmtree(home / "val_large")
    with pytest.raises(DataError, match=r"neither a folder val_large nor val_large.tar"):
        read(home, FACTS)
    shutil.rmtree(home / "data_large_standard")
    with pytest.raises(DataError, match=r"neither a folder data_large nor train_large_places365standard.tar"):
        read(home, FACTS)
