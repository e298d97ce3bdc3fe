"""Prepared datasets as runs open them: whole, of the right version, and their splits apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.datasets import DATASETS
from harness.data.beton import Beton
from harness.data.digits import digits as digits_source
from harness.data.errors import DataError
from harness.data.prepare import Dataset, open_dataset, prepare


def silent(_line: str) -> None:
    """Nobody listens."""


@pytest.fixture
def copy(data: Path, tmp_path: Path) -> Path:
    """A data directory of its own, with the digits prepared."""
    shutil.copytree(data / "digits", tmp_path / "digits")
    return tmp_path


def test_digits_are_the_digits(digits: Dataset) -> None:
    """Protects the built-in set: its pixels, and the facts on which the keys of its runs rest."""
    source = digits_source()
    for split in ("train", "valid", "test"):
        pixels = Beton(digits.beton(split)).pixels(digits.indices(split))
        np.testing.assert_array_equal(pixels, [source.image(number) for number in source.splits[split]])
    facts = DATASETS["digits"]
    assert (digits.classes, digits.mean, digits.std) == (10, facts.mean, facts.std)
    assert digits.manifest.split_id == facts.split_id == "368a552e0016798d"
    assert digits.indices("train").dtype == np.int64


def test_unknown_splits_are_refused(digits: Dataset) -> None:
    """Protects the sealed test split, which no list of positions may mix with training images."""
    for split in ("train+test", "valid+train", "all"):
        with pytest.raises(DataError, match=r"has no list of images .* train\+valid, train, valid, test"):
            digits.indices(split)


def test_a_dataset_not_prepared_names_the_remedy(tmp_path: Path) -> None:
    """Protects the first message a person meets: the command, with --source where files are needed."""
    with pytest.raises(DataError, match=r"run `harness prepare digits`$"):
        open_dataset("digits", tmp_path)
    with pytest.raises(DataError, match=r"run `harness prepare food101-stand-in`$"):
        open_dataset("food101-stand-in", tmp_path)
    with pytest.raises(DataError, match=r"run `harness prepare food101 --source FOLDER`$"):
        open_dataset("food101", tmp_path)


def change(directory: Path, **fields: Any) -> None:
    """Edit the manifest of the digits."""
    path = directory / "digits" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version": 99}, "version is 99, not 1"),
        ({"split_id": "0" * 16}, "split_id is 0000000000000000"),
        ({"dataset": "cifar10"}, "dataset is cifar10"),
        ({"classes": ["0", "1"]}, "number of classes is 2, not 10"),
        ({"store": "original"}, "store is original, not raw"),
        ({"counts": {"train": 1097, "valid": 200, "test": 499}}, "number of test images is 499, not 500"),
        ({"format": 3}, "another version of the harness"),
        ({"files": {"train.beton": {"bytes": 5}, "test.beton": {"bytes": 6}}}, "train.beton has"),
    ],
)
def test_another_dataset_is_not_opened(copy: Path, fields: dict[str, Any], words: str) -> None:
    """Protects the keys of runs, which name a version and a split: other data must not stand under them."""
    change(copy, **fields)
    with pytest.raises(DataError, match=words) as error:
        open_dataset("digits", copy)
    assert "harness prepare digits" in str(error.value)


def test_an_older_folder_is_prepared_anew(copy: Path) -> None:
    """Protects the upgrade: a manifest of the first form is named as older, and replaced by the ordinary command."""
    path = copy / "digits" / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({name: content[name] for name in ("dataset", "version", "counts")}))
    with pytest.raises(DataError, match="prepared by another version of the harness"):
        open_dataset("digits", copy)
    prepare("digits", copy, silent)
    assert len(open_dataset("digits", copy).indices("test")) == 500


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2}', '{"format": 2, "dataset": "digits"}', "\x00"])
def test_a_broken_manifest_is_a_clear_error(copy: Path, content: str) -> None:
    """Protects against a traceback from deep inside json."""
    (copy / "digits" / "manifest.json").write_text(content)
    with pytest.raises(DataError, match="harness prepare digits"):
        open_dataset("digits", copy)


def test_damaged_files_are_found_on_opening(copy: Path) -> None:
    """Protects training from a truncated, a missing and an overwritten file, and from another list."""
    lists = copy / "digits" / "lists"
    shutil.copy(lists / "valid.npy", lists / "train.npy")
    with pytest.raises(DataError, match=r"train\.npy is not the list that was written"):
        open_dataset("digits", copy).indices("train")
    path = copy / "digits" / "test.beton"
    content = path.read_bytes()
    for damaged, words in ((content[:-1], "bytes, not"), (b"\x00" * len(content), "another version")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=words):
            open_dataset("digits", copy)
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        open_dataset("digits", copy)
