"""`harness prepare NAME --check`: it finds what is wrong, says where, and is quiet about what is right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.cli import main
from harness.data.beton import SAMPLE, SAMPLES_AT, Beton
from harness.data.check import check
from harness.data.manifest import FILE, file_facts, hash_of
from harness.data.prepare import prepare

NAME = "voc2012-stand-in"  # it has targets, too


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with two stand-ins."""
    directory = tmp_path_factory.mktemp("whole")
    for name in (NAME, "pets-stand-in"):
        prepare(name, directory, lambda _: None)
    return directory


@pytest.fixture
def directory(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(whole, tmp_path / "data")


def findings(directory: Path, name: str = NAME) -> list[str]:
    """What a check finds."""
    return check(name, directory, lambda *_: None)


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Change some bytes of a file."""
    with path.open("r+b") as out:
        out.seek(offset)
        out.write(content)


def confess(folder: Path) -> None:
    """Let the manifest state the files and lists as they now are, so that only their content can tell."""
    manifest = json.loads((folder / FILE).read_text())
    manifest["files"] = {file: file_facts(folder / file) for file in manifest["files"]}
    for title, stated in manifest["lists"].items():
        stated["sha256"] = hash_of(np.load(folder / "lists" / f"{title}.npy"))
    (folder / FILE).write_text(json.dumps(manifest))


def test_nothing_is_found_where_all_is_well(whole: Path, data: Path) -> None:
    """Protects a person's trust in findings: sets with masks, with classes and of raw pixels are all in order."""
    seen: list[tuple[int, int]] = []
    assert check(NAME, whole, lambda done, total: seen.append((done, total))) == []
    assert seen == [(done, 200) for done in range(1, 201)]
    assert findings(whole, "pets-stand-in") == []
    assert findings(data, "digits") == []


def test_a_flipped_byte_is_found(directory: Path) -> None:
    """Protects images: one byte of one image breaks the file's hash, and the image is named if it can be told."""
    path = directory / NAME / "train.beton"
    beton = Beton(path)
    overwrite(path, int(beton.starts[17]) + 2, b"\x00")
    hashed, image = findings(directory)
    assert "train.beton is not what was written: its sha256" in hashed
    name = (directory / NAME / "names.txt").read_text().splitlines()[beton.indices[17]]
    assert f"image {beton.indices[17]} ({name})" in image


def test_a_swapped_file_is_found(directory: Path) -> None:
    """Protects the sealed test split from the training file under its name."""
    shutil.copy(directory / NAME / "train.beton", directory / NAME / "test.beton")
    found = findings(directory)
    assert any("test.beton has" in line and "bytes, not" in line for line in found)
    assert any("test.beton does not hold the images of its lists" in line for line in found)


Damage = Callable[[Path], object]


def other_list(title: str, numbers: Callable[[Path], np.ndarray]) -> Damage:
    """A damage that writes another list."""
    return lambda folder: np.save(folder / "lists" / f"{title}.npy", numbers(folder))


def numbers(folder: Path, title: str) -> np.ndarray:
    """A list of a folder."""
    return np.load(folder / "lists" / f"{title}.npy")


def relabel(folder: Path) -> None:
    """Give the first training image another class."""
    overwrite(folder / "train.beton", SAMPLES_AT + 32, (4 - Beton(folder / "train.beton").labels[0]).tobytes())


def strange_label(folder: Path) -> None:
    """Give the first test image a class that is none."""
    overwrite(folder / "test.beton", SAMPLES_AT + 32, np.int64(5).tobytes())


def other_height(folder: Path) -> None:
    """State another height for the second training image."""
    overwrite(folder / "train.beton", SAMPLES_AT + SAMPLE.itemsize + 48, np.int64(7).tobytes())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "lists/valid.npy").unlink(), "valid.npy cannot be read"),
        (lambda folder: (folder / "names.txt").unlink(), "names.txt cannot be read"),
        (lambda folder: (folder / "test.beton").unlink(), "test.beton cannot be read"),
        (lambda folder: (folder / "names.txt").write_text("a\n"), "names.txt has 2 bytes"),
        (lambda folder: (folder / FILE).unlink(), "has not been prepared"),
        (other_list("train", lambda folder: numbers(folder, "train")[:-1]), "train.npy is not the list"),
        (lambda folder: overwrite(folder / "test.beton", 0, b"\x09"), "another version of the harness"),
    ],
)
def test_damaged_files_are_found(damage: Damage, words: str, directory: Path) -> None:
    """Protects each file of the folder."""
    damage(directory / "pets-stand-in")
    assert any(words in line for line in findings(directory, "pets-stand-in"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (other_list("train", lambda folder: numbers(folder, "train")[:-1]), "train.npy lists 119 images, not 120"),
        (other_list("train", lambda folder: numbers(folder, "train")[::-1]), "train.npy does not ascend"),
        (other_list("valid", lambda folder: numbers(folder, "train")[:30]), "more than one split"),
        (relabel, "images of class"),
        (strange_label, "a test image has the label 5; labels are 0 to 4"),
        (other_height, "not 7 x"),
    ],
)
def test_what_the_manifest_would_hide_is_found(damage: Damage, words: str, directory: Path) -> None:
    """Protects against a folder that was put together anew, hashes and all, with something wrong in it."""
    folder = directory / "pets-stand-in"
    damage(folder)
    confess(folder)
    assert any(words in line for line in findings(directory, "pets-stand-in"))


def test_a_target_that_does_not_fit_is_found(directory: Path) -> None:
    """Protects masks, boxes and depths as well as images."""
    folder = directory / NAME
    content = (folder / "train.beton").read_bytes()
    mask = Beton(folder / "train.beton").target(3)
    overwrite(folder / "train.beton", content.index(mask) + 1, b"?")
    confess(folder)
    assert len(findings(directory)) == 1


def test_the_commands_exit_code(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects scripts: 0 and `ok` where all is well, 1 and a line for each finding where not, 2 for no such name."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HARNESS_DATA", str(directory))
    assert main(["prepare", "pets", "--stand-in", "--check"]) == 0
    assert capsys.readouterr().out == "pets-stand-in: ok\n"
    (directory / "pets-stand-in" / "lists" / "test.npy").unlink()
    assert main(["prepare", "pets-stand-in", "--check"]) == 1
    assert "pets-stand-in: " in capsys.readouterr().out
    assert main(["prepare", "petz", "--check"]) == 2
