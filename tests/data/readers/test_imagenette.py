"""Imagenette from its folders."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from harness.config.datasets import DATASETS
from harness.data.errors import DataError
from harness.data.readers.imagenette import read, stand_in

FACTS = DATASETS["imagenette-stand-in"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, made once."""
    target = tmp_path_factory.mktemp("imagenette")
    stand_in(target, FACTS)
    return target


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A folder with a copy of it, to break."""
    shutil.copytree(made, tmp_path / "set")
    return tmp_path / "set"


def test_it_has_torchvision_s_images_and_labels(home: Path) -> None:
    """Protects labels and bytes, and the balance of the held-out images."""
    source = read(home, FACTS)
    expected = {}
    for part in ("train", "val"):
        folder = home / "imagenette2" / part
        expected |= {str(Path(path).relative_to(folder.parent)): label for path, label in ImageFolder(folder).samples}
    assert dict(zip(source.names, source.labels.tolist(), strict=True)) == expected
    assert source.image(3) == (home / "imagenette2" / source.names[3]).read_bytes()
    for split, per_class in (("train", 24), ("valid", 6), ("test", 10)):
        np.testing.assert_array_equal(np.bincount(source.labels[source.splits[split]]), [per_class] * 5)
        part = "val/" if split == "test" else "train/"
        assert all(source.names[number].startswith(part) for number in source.splits[split])


@pytest.mark.parametrize("name", ["imagenette2-320", "imagenette2-160"])
def test_smaller_sizes_have_the_same_splits(home: Path, name: str) -> None:
    """Protects comparisons between the sizes; the folder itself may be given, too."""
    expected = read(home, FACTS)
    (home / "imagenette2").rename(home / name)
    for place in (home, home / name):
        source = read(place, FACTS)
        assert source.names == expected.names
        np.testing.assert_array_equal(source.splits["valid"], expected.splits["valid"])


def test_the_archive_is_unpacked(home: Path) -> None:
    """Protects those who only fetched the archive."""
    expected = read(home, FACTS)
    with tarfile.open(home / "imagenette2-320.tgz", "w:gz") as tar:
        tar.add(home / "imagenette2", "imagenette2-320")
    shutil.rmtree(home / "imagenette2")
    assert read(home, FACTS).names == expected.names


def test_what_is_missing_is_named(home: Path) -> None:
    """Protects users from guessing: a class, a count, the set itself."""
    (home / "imagenette2/val/n01440764").rename(home / "n01440764")
    with pytest.raises(DataError, match=r"val has 4 class folders, not 5"):
        read(home, FACTS)
    (home / "n01440764").rename(home / "imagenette2/val/n01440764")
    next((home / "imagenette2/val/n01440764").iterdir()).unlink()
    with pytest.raises(DataError, match=r"the test split in .* has 49 images, not 50"):
        read(home, FACTS)
    with pytest.raises(DataError, match=r"neither a folder imagenette2 nor imagenette2.tgz; get it from fast.ai"):
        read(home / "imagenette2/train", FACTS)
