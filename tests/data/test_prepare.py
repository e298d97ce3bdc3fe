"""Prepared datasets: complete or absent, what their owners gave, and never mistaken for another."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.datasets import DATASETS, Facts
from harness.data import prepare as room
from harness.data.beton import Beton
from harness.data.catalogue import CATALOGUE, Entry
from harness.data.errors import DataError
from harness.data.manifest import hash_of
from harness.data.prepare import add_list, add_subsets, open_dataset, prepare
from harness.data.source import Image, Source
from harness.data.stand_in import jpeg, picture, png

FACTS = Facts(version=3, classes=2, train_images=6, valid_images=2, test_images=4, split_id="made-up")
SPLITS = {"train": [0, 2, 3, 5, 7, 8], "valid": [1, 6], "test": [4, 9, 10, 12]}  # number 11 is in no split
FILES = {"train.beton", "test.beton", "manifest.json", "names.txt", "lists"}

Say = Callable[[str], None]


def silent(_line: str) -> None:
    """Nobody listens."""


@dataclass
class Owner:
    """A small dataset whose images a test can break, and which is prepared as `made-up`."""

    images: dict[int, Image] = field(default_factory=lambda: {n: jpeg(picture(n % 2, n)) for n in range(13)})
    labels: list[int] = field(default_factory=lambda: [number % 2 for number in range(13)])
    splits: dict[str, list[int]] = field(default_factory=lambda: dict(SPLITS))
    classes: tuple[str, ...] = ("cat", "dog")
    asked: Callable[[int], None] = lambda _number: None

    def read(self, *_: object) -> Source:
        """What the reader of a real dataset would give."""
        splits = {split: np.array(numbers, dtype=np.int64) for split, numbers in self.splits.items()}
        names = [f"images/{number}.jpg" for number in range(13)]
        return Source(names, np.array(self.labels), self.classes, splits, self.image)

    def image(self, number: int) -> Image:
        """One image; whoever wants to know that it was asked for is told."""
        self.asked(number)
        image = self.images[number]
        if isinstance(image, Exception):
            raise image
        return image


@pytest.fixture
def owner(monkeypatch: pytest.MonkeyPatch) -> Owner:
    """The dataset, known to the catalogue."""
    made = Owner()

    class Made(Entry):
        def read(self, source: Path, facts: Facts) -> Source:
            return made.read()

    monkeypatch.setitem(DATASETS, "made-up", FACTS)
    monkeypatch.setitem(CATALOGUE, "made-up", Made("a made-up set", "images/*.jpg", "imagenet", subsets=(50,)))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The owner's folder: its content is the fixture's above."""
    (tmp_path / "official").mkdir()
    return tmp_path / "official"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A data directory."""
    return tmp_path / "data"


def leftovers(directory: Path) -> set[str]:
    """What lies in a data directory beside locks and finished datasets."""
    return {path.name for path in directory.iterdir() if path.name.startswith(".") and not path.name.endswith(".lock")}


def test_the_owners_bytes_arrive_in_their_splits(owner: Owner, folder: Path, made: Path) -> None:
    """Protects the way from the owner's files to the positions that training asks for, byte for byte."""
    source = owner.read()
    prepare("made-up", made, silent, source=folder)
    dataset = open_dataset("made-up", made)
    for split in ("train", "valid", "test", "train+valid"):
        numbers = sorted(number for part in split.split("+") for number in SPLITS[part])
        beton, indices = Beton(dataset.beton(split)), dataset.indices(split)
        assert dataset.numbers(split).tolist() == numbers
        assert [beton.image(position).tobytes() for position in indices] == [owner.images[number] for number in numbers]
        np.testing.assert_array_equal(beton.labels[indices], source.labels[numbers])
        np.testing.assert_array_equal(beton.indices[indices], numbers)
        shapes = [picture(number % 2, number).shape[:2] for number in numbers]
        assert list(zip(beton.heights[indices], beton.widths[indices], strict=True)) == shapes


def test_the_manifest_tells_what_was_done(owner: Owner, folder: Path, made: Path) -> None:
    """Protects what a person can know of a prepared set without opening its images, and the hashes that prove it."""
    owner.images[0] = png(picture(0, 0))
    said: list[str] = []
    manifest = prepare("made-up", made, said.append, source=folder)
    assert json.loads((made / "made-up/manifest.json").read_text()) == json.loads(json.dumps(manifest.__dict__))
    assert (manifest.dataset, manifest.version, manifest.split_id, manifest.source) == (
        "made-up",
        3,
        "made-up",
        "official",
    )
    assert (manifest.classes, manifest.store, manifest.encoding) == (["cat", "dog"], "original", "jpeg")
    assert manifest.counts == {"train": 6, "valid": 2, "test": 4}
    assert manifest.class_counts == {"train": [3, 3], "valid": [1, 1], "test": [3, 1]}
    assert manifest.images == {"converted": {"PNG RGB": 1}, "grey": 0, "small": 12, "skipped": []}
    assert manifest.lists["valid"] == {"images": 2, "sha256": hash_of(np.array([1, 6]))}
    for file, stated in manifest.files.items():
        told = subprocess.run(["sha256sum", made / "made-up" / file], capture_output=True, text=True, check=True).stdout
        assert (told.split()[0], (made / "made-up" / file).stat().st_size) == (stated["sha256"], stated["bytes"])
    assert (made / "made-up/names.txt").read_text().splitlines()[12] == "images/12.jpg"
    assert {path.name for path in (made / "made-up").iterdir()} == FILES
    assert any("1 converted to JPEG: PNG RGB" in line for line in said)
    assert any("12 images, about" in line and "are free" in line for line in said), "before it writes"


def test_lists_are_splits(owner: Owner, folder: Path, made: Path, tmp_path: Path) -> None:
    """Protects subsets: half of the training images, evenly, and a person's own list, which a name cannot change."""
    prepare("made-up", made, silent, source=folder)
    half = open_dataset("made-up", made).numbers("balanced-50")
    assert len(half) == 3
    assert set(half) <= set(SPLITS["train"])
    (tmp_path / "mine.txt").write_text("images/6.jpg\nimages/0.jpg\n")
    written = (made / "made-up/train.beton").stat().st_mtime_ns
    for _ in range(2):
        add_list("made-up", made, "simclr-1", tmp_path / "mine.txt", silent)
    dataset = open_dataset("made-up", made)
    assert dataset.numbers("simclr-1").tolist() == [0, 6]
    assert Beton(dataset.beton("simclr-1")).indices[dataset.indices("simclr-1")].tolist() == [0, 6]
    assert (made / "made-up/train.beton").stat().st_mtime_ns == written
    (tmp_path / "mine.txt").write_text("images/3.jpg\n")
    with pytest.raises(DataError, match="another list of the name simclr-1"):
        add_list("made-up", made, "simclr-1", tmp_path / "mine.txt", silent)
    (tmp_path / "mine.txt").write_text("images/4.jpg\n")
    with pytest.raises(DataError, match=r"line 1: 'images/4.jpg' is none of the 8"):  # it is for testing
        add_list("made-up", made, "other", tmp_path / "mine.txt", silent)
    for title in ("train", "train+valid", "balanced-1", "../up", "A b"):
        with pytest.raises(DataError, match="a list cannot be named"):
            add_list("made-up", made, title, tmp_path / "mine.txt", silent)


@pytest.mark.usefixtures("owner")
def test_a_set_prepared_before_there_were_balanced_lists_gets_them(folder: Path, made: Path) -> None:
    """Protects terabytes already on disk: lists are drawn from what is stored, no image is written."""
    prepare("made-up", made, silent, source=folder)
    fresh = open_dataset("made-up", made)
    drawn = fresh.numbers("balanced-50").tolist()
    lists = {name: one for name, one in fresh.manifest.lists.items() if name != "balanced-50"}
    replace(fresh.manifest, lists=lists).save(fresh.folder)
    (fresh.folder / "lists/balanced-50.npy").unlink()
    written = (fresh.folder / "train.beton").stat().st_mtime_ns
    said: list[str] = []
    for _ in range(2):
        add_subsets("made-up", made, said.append)
    assert open_dataset("made-up", made).numbers("balanced-50").tolist() == drawn
    assert open_dataset("made-up", made).manifest == fresh.manifest
    assert said == ["made-up: balanced lists of 50 % are drawn"]
    assert (fresh.folder / "train.beton").stat().st_mtime_ns == written


BROKEN = [b"", jpeg(picture(0, 0))[:2000], b"no image", DataError("gone"), OSError("unreadable")]


@pytest.mark.parametrize("image", BROKEN)
def test_a_broken_image_is_named(image: Any, owner: Owner, folder: Path, made: Path) -> None:
    """Protects the paper's counts: no image is lost without a word, and nothing half-made stays."""
    owner.images[7] = image
    with pytest.raises(DataError, match=r"image images/7.jpg \(number 7\).*--skip-broken"):
        prepare("made-up", made, silent, source=folder)
    assert not (made / "made-up").exists()
    assert not leftovers(made)


def test_broken_images_can_be_left_out(owner: Owner, folder: Path, made: Path) -> None:
    """Protects the option: counts are short by exactly those, which the manifest and the output name."""
    owner.images[7], owner.images[9] = BROKEN[0], BROKEN[1]
    said: list[str] = []
    manifest = prepare("made-up", made, said.append, source=folder, skip_broken=True)
    assert [(one["name"], one["split"]) for one in manifest.images["skipped"]] == [
        ("images/7.jpg", "train"),
        ("images/9.jpg", "test"),
    ]
    assert manifest.counts == {"train": 5, "valid": 2, "test": 3}
    dataset = open_dataset("made-up", made)
    assert dataset.numbers("train").tolist() == [0, 2, 3, 5, 8]
    assert Beton(dataset.beton("test")).indices.tolist() == [4, 10, 12]
    assert sum("left out of" in line for line in said) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"splits": {**SPLITS, "train": SPLITS["train"][:-1]}}, "train split has 5 images, not 6 .*Table 10"),
        ({"splits": {**SPLITS, "test": [4, 9, 10, 11, 12]}}, "test split has 5 images, not 4"),
        ({"splits": {**SPLITS, "test": [4, 9, 10, 1]}}, "do not ascend"),
        ({"splits": {**SPLITS, "test": [1, 9, 10, 12]}}, "splits overlap"),
        ({"splits": {**SPLITS, "test": [4, 9, 10, 13]}}, "images that are not there"),
        ({"classes": ("cat",)}, "there are 1 classes, not 2"),
        ({"labels": [0, 1, 2, *[0, 1] * 5]}, r"image images/2.jpg has the label 2; labels are 0 to 1"),
        ({"labels": [0] * 13}, "class 'dog' has no training image"),
        ({"labels": [0] * 12}, "12 labels"),
    ],
)
def test_another_dataset_is_refused(change: dict[str, Any], words: str, owner: Owner, folder: Path, made: Path) -> None:
    """Protects Table 10's facts before a single image is read."""
    for name, value in change.items():
        setattr(owner, name, value)
    asked: list[int] = []
    owner.asked = asked.append
    with pytest.raises(DataError, match=words):
        prepare("made-up", made, silent, source=folder)
    assert not (made / "made-up").exists()
    assert not asked


def test_raw_images_must_have_one_size(owner: Owner, folder: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects readers of raw sets, which take the whole file as one array."""
    monkeypatch.setitem(DATASETS, "made-up", replace(FACTS, store="raw"))
    with pytest.raises(DataError, match="raw images must have one size"):
        prepare("made-up", made, silent, source=folder)
    owner.images = {number: np.full((4, 6, 3), number, np.uint8) for number in range(13)}
    assert prepare("made-up", made, silent, source=folder).encoding == "rgb"
    assert Beton(made / "made-up/test.beton").pixels(np.arange(4))[:, 0, 0, 0].tolist() == SPLITS["test"]


def test_targets_must_fit_their_images(owner: Owner, folder: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects segmentation from masks of another size."""
    from harness.data import records  # noqa: PLC0415 - with the reader's part of the test

    monkeypatch.setitem(DATASETS, "made-up", replace(FACTS, record="mask"))
    masks = {n: records.encode_mask(np.zeros(picture(n % 2, n).shape[:2], np.uint8)) for n in range(13)}
    read = owner.read
    owner.labels = [-1] * 13
    owner.read = lambda *_: replace(read(), target=masks.__getitem__)  # type: ignore[method-assign]
    prepare("made-up", made, silent, source=folder)
    assert Beton(made / "made-up/train.beton").target(0) == masks[0]
    shutil.rmtree(made)
    masks[3] = records.encode_mask(np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=r"images/3.jpg"):
        prepare("made-up", made, silent, source=folder)


def test_preparing_again_does_nothing(data: Path) -> None:
    """Protects the time of every command that prepares on first use."""
    written = (data / "digits" / "train.beton").stat().st_mtime_ns
    said: list[str] = []
    prepare("digits", data, said.append)
    assert (data / "digits" / "train.beton").stat().st_mtime_ns == written
    assert "already" in said[0]


def test_progress_counts_every_image(owner: Owner, folder: Path, made: Path) -> None:
    """Protects the bar and its ETA."""
    seen: list[tuple[int, int]] = []
    prepare("made-up", made, silent, source=folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 12) for done in range(1, 13)]


KILLED = """
    import sys, time
    from pathlib import Path
    from harness.data import prepare as room
    source = room.digits()
    def image(number):
        if number == 1200:
            Path(sys.argv[1], "reached").touch()
            time.sleep(60)
        return source.image(number)
    room.digits = lambda: type(source)(source.names, source.labels, source.classes, source.splits, image)
    room._check_space = lambda *_: None
    room.prepare("digits", Path(sys.argv[1]), print)
"""


def test_a_killed_preparation_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    """Protects against kill -9 in the middle: no dataset, and the next call clears what is left and starts again."""
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), tmp_path], stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "reached").exists():
            assert child.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert leftovers(tmp_path) == {".digits.partial"}
    with pytest.raises(DataError, match="has not been prepared"):
        open_dataset("digits", tmp_path)
    prepare("digits", tmp_path, silent)
    assert {path.name for path in (tmp_path / "digits").iterdir()} == FILES
    assert not leftovers(tmp_path)


def test_two_at_once_are_one_preparation(owner: Owner, folder: Path, made: Path) -> None:
    """Protects two commands started together: the second waits and finds the dataset there."""
    started, waiting, said = threading.Event(), threading.Event(), []

    def asked(_number: int) -> None:
        started.set()
        assert waiting.wait(20)

    def say(line: str) -> None:
        said.append(line)
        if "waiting for another process" in line:
            waiting.set()

    owner.asked = asked
    first = threading.Thread(target=prepare, args=("made-up", made, silent), kwargs={"source": folder})
    first.start()
    assert started.wait(20)
    prepare("made-up", made, say, source=folder)
    first.join()
    assert "already prepared" in said[-1]


@pytest.mark.parametrize("file", ["train.beton", "test.beton", "manifest.json"])
def test_an_interrupted_preparation_is_no_dataset(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a folder that looks whole: whichever file fails, no final name and no remains."""
    write = room.write

    def failing_write(path: Path, *rest: Any) -> None:
        if path.name == file:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(path, *rest)

    def failing_save(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(room, "write", failing_write)
    if file == "manifest.json":
        monkeypatch.setattr(room.Manifest, "save", failing_save)
    with pytest.raises(DataError, match=r"no space is left|cannot be written"):
        prepare("digits", tmp_path, silent)
    assert not (tmp_path / "digits").exists()
    assert not leftovers(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB, which the digits do not fit."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a person with too little space: told before anything is written, or when it runs out after all."""
    with pytest.raises(DataError, match=r"digits needs about 3\.1 MB, and .* has 2\.1 MB"):
        prepare("digits", small, silent)
    monkeypatch.setattr(room, "_check_space", lambda *_: None)
    with pytest.raises(DataError, match=r"no space is left; free some space"):
        prepare("digits", small, silent)
    assert not (small / "digits").exists()
    assert not leftovers(small)


def test_a_folder_that_cannot_be_written(small: Path) -> None:
    """Protects the message about a read-only data directory."""
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    with pytest.raises(DataError, match=r"small: cannot be written \(Read-only file system\).*HARNESS_DATA"):
        prepare("digits", small, silent)


def test_a_dataset_without_its_source_says_what_is_wanted(tmp_path: Path) -> None:
    """Protects a person's first attempt: which folder, with what in it, from where; and misspelt names."""
    with pytest.raises(DataError, match=r"food101 \(Food-101\).*--source FOLDER.*food-101/meta.*ETH Zurich"):
        prepare("food101", tmp_path, silent)
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        prepare("food101", tmp_path, silent, source=tmp_path / "nowhere")
    with pytest.raises(DataError, match="unknown dataset 'digts'; did you mean 'digits'"):
        prepare("digts", tmp_path, silent)
    with pytest.raises(DataError, match="takes no --source"):
        prepare("digits", tmp_path, silent, source=tmp_path)


def test_a_stand_in_leaves_none_of_its_owners_files(tmp_path: Path) -> None:
    """Protects the disk, and that a stand-in goes through the same code as the real set."""
    manifest = prepare("pets-stand-in", tmp_path, silent)
    assert manifest.counts == {"train": 120, "valid": 30, "test": 50}
    assert manifest.images["converted"] == {"PNG RGB": 5}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".pets-stand-in.lock", "pets-stand-in"]
