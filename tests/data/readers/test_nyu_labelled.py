"""NYU Depth from its owners' MATLAB files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from harness.config.datasets import DATASETS
from harness.data.errors import DataError
from harness.data.intake import Intake
from harness.data.readers.nyu_labelled import FRAMES, LISTS, read, stand_in
from harness.data.records import decode_depth

FACTS = DATASETS["nyu-depth-labelled-stand-in"]
COUNT = 40


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


def lists(home: Path) -> dict[str, np.ndarray]:
    """The owners' lists, counted from 1, by scipy alone."""
    return {part: loadmat(home / LISTS)[part].ravel().astype(int) for part in ("trainNdxs", "testNdxs")}


def test_images_and_depths_are_those_of_the_file(home: Path) -> None:
    """Protects pixels, depths and the order of their axes against values that are written here frame by frame."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (COUNT, 48, 64, 3), dtype=np.uint8)
    depths = rng.uniform(0, 10, (COUNT, 48, 64)).astype(np.float32)
    depths[:, :3] = 0  # not measured
    with h5py.File(home / FRAMES, "w") as file:
        images = file.create_dataset("images", (COUNT, 3, 64, 48), np.uint8, chunks=(3, 3, 20, 20), compression="gzip")
        metres = file.create_dataset("depths", (COUNT, 64, 48), np.float32)
        for number in range(COUNT):
            for channel in range(3):
                images[number, channel] = pixels[number, :, :, channel].T
            metres[number] = depths[number].T
    source = read(home, FACTS)
    for number in range(COUNT):
        image = source.image(number)
        assert isinstance(image, np.ndarray)
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image, pixels[number])
        np.testing.assert_array_equal(decode_depth(source.target(number)), depths[number])


def test_the_splits_are_the_owners(home: Path) -> None:
    """Protects the test frames, which must be those of splits.mat and no other; the lists are of no order."""
    rng = np.random.default_rng(1)
    order = rng.permutation(COUNT) + 1
    savemat(home / LISTS, {"trainNdxs": order[10:, None].astype(np.uint16), "testNdxs": order[:10, None]})
    source = read(home, FACTS)
    splits = {split: part.tolist() for split, part in source.splits.items()}
    assert splits["test"] == sorted(order[:10] - 1)
    assert sorted(splits["train"] + splits["valid"]) == sorted(order[10:] - 1)
    assert splits["valid"] == sorted(splits["valid"])
    assert (len(splits["train"]), len(splits["valid"])) == (24, 6)


def test_the_frames_held_out_follow_the_hash_of_their_names(home: Path) -> None:
    """Protects the validation split, which is part of every run's identity, by hashlib alone."""
    source = read(home, FACTS)
    names = {number: f"nyu_depth_v2_labeled.mat/{number:04d}" for number in lists(home)["trainNdxs"].tolist()}
    order = sorted(names, key=lambda number: hashlib.sha256(f"nyu-depth-labelled/{names[number]}".encode()).digest())
    assert source.splits["valid"].tolist() == sorted(number - 1 for number in order[:6])
    assert all(source.names[number - 1] == name for number, name in names.items())


def test_the_real_set_has_the_owners_counts() -> None:
    """Protects the facts: 795 frames to train on, 654 to test, 1449 in all."""
    facts = DATASETS["nyu-depth-labelled"]
    assert (facts.images("train+valid"), facts.images("test")) == (795, 654)
    assert facts.split_id == f"random-{facts.valid_images}"


def test_the_stand_in_has_the_owners_form(home: Path) -> None:
    """Protects the stand-in from a form that only this reader knows: scipy takes it for MATLAB 7.3, which it leaves to
    HDF5, frames lie on their side, test frames among the others, and depths differ from pixel to pixel.
    """
    with pytest.raises(NotImplementedError, match=r"matlab v7.3"):
        loadmat(home / FRAMES)
    with h5py.File(home / FRAMES) as file:
        assert file["images"].shape == (COUNT, 3, 80, 60)
        assert file["depths"].shape == (COUNT, 80, 60)
        assert file["depths"][:].std(axis=(1, 2)).min() > 0
        assert len({frame.tobytes() for frame in file["images"][:]}) == COUNT
    assert np.diff(lists(home)["testNdxs"]).max() > 1


@pytest.mark.parametrize("file", [FRAMES, LISTS])
def test_a_missing_file_is_named(home: Path, file: str) -> None:
    """Protects users from guessing which of the two files is not there, and where it can be had."""
    (home / file).unlink()
    with pytest.raises(DataError, match=rf"{file} is missing; get the set again from the owners' page \(https.*splits"):
        read(home, FACTS)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50_000])


def _a_page(path: Path) -> None:
    path.write_text("<html>not found</html>")


def _changed(field: str, change: Callable[[np.ndarray], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            values = change(file[field][:])
            del file[field]
            if values is not None:
                file[field] = values

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, r"nyu_depth_v2_labeled.mat cannot be read \(.*truncated"),
        (_a_page, r"nyu_depth_v2_labeled.mat cannot be read"),
        (_changed("images", lambda _: None), r"cannot be read \(.*images"),
        (_changed("depths", lambda _: None), r"cannot be read \(.*depths"),
        (_changed("images", lambda x: x[:, 0]), r"images in .* is uint8 \(40, 80, 60\), not uint8 \(40, 3, 80, 60\)"),
        (_changed("images", lambda x: x / 255), r"images in .* is float64 \(40, 3, 80, 60\), not uint8"),
        (_changed("images", lambda x: x[:39]), r"is uint8 \(39, 3, 80, 60\), not uint8 \(40, 3, 80, 60\)"),
        (_changed("depths", lambda x: x[:39]), r"is float32 \(39, 80, 60\), not float32 \(40, 80, 60\)"),
        (_changed("depths", lambda x: x.transpose(0, 2, 1)), r"is float32 \(40, 60, 80\), not float32 \(40, 80, 60\)"),
        (_changed("depths", lambda x: x.astype(np.uint16)), r"depths in .* is uint16 .*, not float32"),
    ],
)
def test_a_file_of_other_frames_is_refused(home: Path, damage: Callable[[Path], None], words: str) -> None:
    """Protects from downloads that stopped, from pages saved as the file, and from frames of another form."""
    damage(home / FRAMES)
    with pytest.raises(DataError, match=words):
        read(home, FACTS)


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (range(30), range(31, 41), "lists frame 0; the frames are 1 to 40"),
        (range(1, 31), range(32, 42), "lists frame 41; the frames are 1 to 40"),
        (range(1, 31), range(30, 40), "lists frame 30 more than once"),
        ([1, *range(1, 30)], range(31, 41), "lists frame 1 more than once"),
        (range(1, 31), range(31, 40), "the test split in .* has 9 images, not 10"),
        (range(1, 30), range(31, 41), "the train split in .* has 23 images, not 24"),
        (None, range(31, 41), "has no variable trainNdxs"),
    ],
)
def test_lists_of_another_set_are_refused(home: Path, train: Any, test: Any, words: str) -> None:
    """Protects the split from lists counted from 0, of another file, or with a frame both to train on and to test."""
    parts = {"trainNdxs": train, "testNdxs": test}
    savemat(home / LISTS, {name: np.array([*part]) for name, part in parts.items() if part is not None})
    with pytest.raises(DataError, match=words):
        read(home, FACTS)


@pytest.mark.parametrize("metres", [np.inf, -1.0])
def test_a_depth_that_is_none_is_refused_by_name(home: Path, metres: float) -> None:
    """Protects losses and scores: such a frame stops the preparation, which names the file and the frame."""
    with h5py.File(home / FRAMES, "r+") as file:
        file["depths"][16, 5, 7] = metres
    intake = Intake("nyu-depth-labelled", read(home, FACTS), FACTS, skip_broken=False, progress=lambda _d, _t: None)
    assert len(list(intake.samples(np.arange(16)))) == 16
    with pytest.raises(DataError, match=rf"nyu_depth_v2_labeled.mat/0017 \(number 16\): a depth is {metres} metres"):
        list(intake.samples(np.array([16])))
