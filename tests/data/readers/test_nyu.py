"""NYU Depth from its h5 files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from harness.config.datasets import DATASETS
from harness.data.errors import DataError
from harness.data.readers.nyu import read, stand_in
from harness.data.records import check, decode_depth

FACTS = DATASETS["nyu-depth-stand-in"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, made once."""
    target = tmp_path_factory.mktemp("nyu")
    stand_in(target, FACTS)
    return target


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A folder with a copy of it, to break."""
    shutil.copytree(made, tmp_path / "set")
    return tmp_path / "set"


def test_images_and_depths_are_those_of_the_files(home: Path) -> None:
    """Protects pixels, their order of axes, and depths against h5py and numpy alone."""
    source = read(home, FACTS)
    assert {split: len(part) for split, part in source.splits.items()} == {"train": 24, "valid": 6, "test": 10}
    assert sorted(np.concatenate(list(source.splits.values()))) == list(range(40))
    assert list(source.names) == sorted(str(path.relative_to(home / "nyudepthv2")) for path in home.rglob("*.h5"))
    assert all(source.names[number].startswith("val/official/") for number in source.splits["test"])
    for number, name in enumerate(source.names):
        with h5py.File(home / "nyudepthv2" / name) as file:
            rgb, depth = file["rgb"][:], file["depth"][:]
        pixels = source.image(number)
        np.testing.assert_array_equal(pixels, np.stack([rgb[0], rgb[1], rgb[2]], axis=-1))
        np.testing.assert_array_equal(decode_depth(source.target(number)), depth)
        assert depth.std() > 0
        check("depth", source.target(number), FACTS.classes, *pixels.shape[:2])


def test_the_images_held_out_do_not_depend_on_the_folder(home: Path, tmp_path: Path) -> None:
    """Protects the split: another place, or the folder itself, gives the same frames."""
    source = read(home, FACTS)
    other = home / "elsewhere"
    other.mkdir()
    (home / "nyudepthv2").rename(other / "nyudepthv2")
    np.testing.assert_array_equal(read(other / "nyudepthv2", FACTS).splits["valid"], source.splits["valid"])


def test_what_is_missing_is_named(home: Path) -> None:
    """Protects users from guessing: a frame, a part, the set itself."""
    next((home / "nyudepthv2/val/official").iterdir()).unlink()
    with pytest.raises(DataError, match=r"the test split in .* has 9 images, not 10"):
        read(home, FACTS)
    (home / "nyudepthv2/val").rename(home / "val")
    with pytest.raises(DataError, match=r"folder .*val is missing; get the set again from the h5 archive"):
        read(home, FACTS)
    with pytest.raises(DataError, match=r"neither a folder nyudepthv2 nor nyudepthv2.tar.gz"):
        read(home / "val", FACTS)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def _without_rgb(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["rgb"]


def _grey(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        grey = file["rgb"][0]
        del file["rgb"]
        file["rgb"] = grey


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, "cannot be read"),
        (_without_rgb, "rgb in .* cannot be read"),
        (_grey, r"is uint8 \(\d+, \d+\), not uint8 \(3, ., .\)"),
    ],
)
def test_a_broken_file_is_named(home: Path, damage: object, words: str) -> None:
    """Protects from downloads that stopped and from files of another kind."""
    source = read(home, FACTS)
    damage(home / "nyudepthv2" / source.names[5])  # type: ignore[operator]
    with pytest.raises(DataError, match=words) as raised:
        source.image(5)
    assert source.names[5] in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda depth: depth[None], r"is float32 \(1, \d+, \d+\), not float"),
        (lambda depth: (1000 * depth).astype(np.uint16), r"is uint16 \(\d+, \d+\), not float"),
    ],
)
def test_a_depth_map_of_another_form_is_named(home: Path, change: Callable[[Any], Any], words: str) -> None:
    """Protects targets from a file with a depth for each channel, and from millimetres."""
    source = read(home, FACTS)
    with h5py.File(home / "nyudepthv2" / source.names[5], "r+") as file:
        depth = change(file["depth"][:])
        del file["depth"]
        file["depth"] = depth
    with pytest.raises(DataError, match=words):
        source.target(5)
