"""Prepared datasets: complete or absent, and never mistaken for another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.datasets import DATASETS
from harness.data import prepare as room
from harness.data.beton import Beton
from harness.data.errors import DataError
from harness.data.prepare import SOURCES, Dataset, open_dataset, prepare

ffcv = pytest.mark.ffcv


@pytest.fixture
def copy(data: Path, tmp_path: Path) -> Path:
    """A data directory of its own, with the digits prepared."""
    shutil.copytree(data / "digits", tmp_path / "digits")
    return tmp_path


def change(directory: Path, **fields: Any) -> None:
    """Edit the manifest."""
    path = directory / "digits" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@ffcv
def test_each_split_holds_its_own_images(digits: Dataset) -> None:
    """Protects the way from a split's index list to the pixels: no training on test images."""
    source = SOURCES["digits"]()
    for split in ("train", "valid", "train+valid", "test"):
        numbers = np.sort(np.concatenate([source.splits[part] for part in split.split("+")]))
        beton, indices = Beton(digits.beton(split)), digits.indices(split)
        np.testing.assert_array_equal(beton.pixels(indices), source.images[numbers])
        np.testing.assert_array_equal(beton.labels[indices], source.labels[numbers])
        np.testing.assert_array_equal(beton.indices[indices], indices)


@ffcv
def test_a_dataset_knows_its_facts(digits: Dataset) -> None:
    """Protects what evaluation sizes its classifier and crops by."""
    assert (digits.classes, digits.height, digits.width) == (10, 24, 24)
    assert (digits.mean, digits.std) == (DATASETS["digits"].mean, DATASETS["digits"].std)
    assert digits.indices("train").dtype == np.int64


@ffcv
def test_splits_of_different_files_are_not_joined(digits: Dataset) -> None:
    """Protects the sealed test split, which no list of positions may mix with training images."""
    for split in ("train+test", "valid+train", "all"):
        with pytest.raises(KeyError):
            digits.indices(split)


@ffcv
def test_only_finished_files_are_left(data: Path) -> None:
    """Protects the folder from remains of writing."""
    assert {path.name for path in (data / "digits").iterdir()} == {"train.beton", "test.beton", "manifest.json"}


@ffcv
def test_preparing_again_does_nothing(data: Path) -> None:
    """Protects the time of every command that prepares on first use."""
    written = (data / "digits" / "train.beton").stat().st_mtime_ns
    said: list[str] = []
    prepare("digits", data, said.append)
    assert (data / "digits" / "train.beton").stat().st_mtime_ns == written
    assert "already" in said[0]


@ffcv
@pytest.mark.parametrize("file", ["train.beton", "test.beton", "manifest.json"])
def test_an_interrupted_preparation_is_no_dataset(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a folder that looks whole: whichever file fails, no final name and no remains."""
    write, replace = room.write, Path.replace

    def failing_write(path: Path, *rest: Any) -> None:
        if path.name.startswith(file):
            path.write_bytes(b"half")
            raise DataError("disk full")
        write(path, *rest)

    def failing_replace(path: Path, target: Path) -> Path:
        if target.name == file == "manifest.json":
            raise OSError("disk full")
        return replace(path, target)

    monkeypatch.setattr(room, "write", failing_write)
    monkeypatch.setattr(Path, "replace", failing_replace)
    with pytest.raises((DataError, OSError), match="disk full"):
        prepare("digits", tmp_path, lambda _: None)
    assert not [path for path in (tmp_path / "digits").iterdir() if "partial" in path.name]
    with pytest.raises(DataError, match="harness prepare digits"):
        open_dataset("digits", tmp_path)


def test_a_dataset_not_prepared_names_the_remedy(tmp_path: Path) -> None:
    """Protects the first message a person meets."""
    with pytest.raises(DataError, match="harness prepare digits"):
        open_dataset("digits", tmp_path)


@ffcv
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version": 99}, "version is 99, not 1"),
        ({"split_id": "0" * 16}, "split_id is 0000000000000000"),
        ({"splits": {"train": [1], "valid": [2], "test": [3]}}, "hash of the split lists"),
        ({"dataset": "cifar10"}, "dataset is cifar10"),
        ({"classes": 3}, "classes is 3"),
        ({"bytes": {"train.beton": 5, "test.beton": 6}}, "train.beton has"),
    ],
)
def test_another_dataset_is_not_opened(copy: Path, fields: dict[str, Any], words: str) -> None:
    """Protects the keys of runs, which name a version and a split: other data must not stand under them."""
    change(copy, **fields)
    with pytest.raises(DataError, match=words) as error:
        open_dataset("digits", copy)
    assert "harness prepare digits" in str(error.value)


@ffcv
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"dataset": "digits"}', "\x00"])
def test_a_broken_manifest_is_a_clear_error(copy: Path, content: str) -> None:
    """Protects against a traceback from deep inside json."""
    (copy / "digits" / "manifest.json").write_text(content)
    with pytest.raises(DataError, match="harness prepare digits"):
        open_dataset("digits", copy)


@ffcv
def test_damaged_files_are_found_on_opening(copy: Path) -> None:
    """Protects training from a truncated, a missing and an overwritten file."""
    path = copy / "digits" / "test.beton"
    content = path.read_bytes()
    for damaged, words in ((content[:-1], "bytes, not"), (b"\x00" * len(content), "broken")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=words):
            open_dataset("digits", copy)
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        open_dataset("digits", copy)


def test_datasets_without_a_source_say_so(tmp_path: Path) -> None:
    """Protects against the belief that `prepare imagenet` works already, and against misspelt names."""
    with pytest.raises(DataError, match="imagenet cannot be prepared yet"):
        prepare("imagenet", tmp_path, lambda _: None)
    with pytest.raises(DataError, match="no dataset 'digts'"):
        prepare("digts", tmp_path, lambda _: None)
