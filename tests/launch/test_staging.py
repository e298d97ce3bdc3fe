"""Data on the node's own disk: one copy for all, whole and true, and never a reason to fail."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config.errors import ConfigError
from harness.config.schema import Linear, Pretrain
from harness.data.dataset import Dataset
from harness.data.errors import DataError
from harness.launch import staging
from harness.launch.observer import Observer
from harness.launch.place import Place, wanted_scratch
from harness.launch.site import site
from harness.launch.specs import write_spec
from harness.launch.staging import dataset_of
from harness.launch.task import execute
from harness.tracking.record import Runs


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The node's own disk."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def shared(data: Path, tmp_path: Path) -> Path:
    """Prepared digits of a test's own."""
    return Path(shutil.copytree(data, tmp_path / "data"))


@pytest.fixture
def observer(tmp_path: Path) -> Observer:
    """Of a run that nobody asks to end."""
    return Observer(tmp_path / "run", lambda: None)


@pytest.fixture
def opened(runs: Runs, shared: Path, scratch: Path, observer: Observer) -> Callable[..., Dataset]:
    """Open the digits as a run does."""

    def opening(**changes: Any) -> Dataset:
        place = Place(runs=str(runs.path), data=str(shared), commit="test", scratch=str(scratch))
        return dataset_of("digits", replace(place, **changes), observer)

    return opening


def copies(scratch: Path) -> list[str]:
    """The names of all files there, beside locks."""
    return sorted(path.name for path in scratch.rglob("*") if path.is_file() and path.name != ".lock")


def change(file: Path, pixels: int) -> str:
    """Turn some pixels in the middle of a file to their negatives; returns its sha256."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    for at in range(middle, middle + pixels):
        content[at] = 255 - content[at]
    file.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_only_what_is_read_is_copied(
    opened: Callable[..., Dataset], shared: Path, scratch: Path, observer: Observer
) -> None:
    """A pretraining never wants the test images; what is copied is the file, byte for byte."""
    dataset = opened()
    assert dataset.file("test") == "test.beton"
    assert copies(scratch) == []
    copy = dataset.beton("train+valid")
    assert copies(scratch) == ["train.beton"]
    assert copy.is_relative_to(scratch)
    assert copy.read_bytes() == (shared / "digits" / "train.beton").read_bytes()
    assert opened(scratch="").beton("train") == shared / "digits" / "train.beton"
    assert observer.notes == []


def test_a_run_reads_the_copy(
    runs: Runs, shared: Path, scratch: Path, tiny: tuple[Pretrain, Linear], place: Place
) -> None:
    """The results are those of the shared file, from the copy: once that has other pixels, they are others."""
    spec = replace(tiny[0], schedule=replace(tiny[0].schedule, epochs=1))
    place = replace(place, data=str(shared), scratch=str(scratch))
    elsewhere = [Runs(runs.path.with_name(name)) for name in ("shared", "changed")]
    record = execute(write_spec(runs, spec), place)
    assert (copies(scratch), record.notes) == (["train.beton"], ())
    key = write_spec(elsewhere[0], spec)
    assert record.results == execute(key, replace(place, runs=str(elsewhere[0].path), scratch="")).results
    change(next(scratch.rglob("train.beton")), 1000)
    changed = execute(write_spec(elsewhere[1], spec), replace(place, runs=str(elsewhere[1].path)))
    assert changed.results != record.results


def test_two_processes_make_one_copy(shared: Path, scratch: Path, tmp_path: Path) -> None:
    """Trials that begin on a node together wait for the first."""
    program = f"""
import pathlib, time
from harness.launch import staging
from harness.launch.observer import Observer
from harness.launch.place import Place
made = staging.Copies._made
def slowly(*given):
    print("copying")
    time.sleep(1)
    return made(*given)
staging.Copies._made = slowly
watched = Observer(pathlib.Path({str(tmp_path)!r}), lambda: None)
place = Place(runs="", data={str(shared)!r}, commit="test", scratch={str(scratch)!r})
print("ready", flush=True)
input()
print(staging.dataset_of("digits", place, watched).beton("train"), watched.notes)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    both = [subprocess.Popen([sys.executable, "-c", program], text=True, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for each in both:
        assert each.stdout.readline() == "ready\n"
    for each in both:
        each.stdin.write("go\n")
        each.stdin.flush()
    said = sorted((each.communicate(timeout=120)[0].splitlines() for each in both), key=len)
    (copy,) = scratch.rglob("train.beton")
    assert said == [[f"{copy} []"], ["copying", f"{copy} []"]]
    assert copies(scratch) == ["train.beton"]


@pytest.mark.parametrize("torn", ["train.beton", ".train.beton.partial"])
def test_a_torn_copy_is_made_anew(
    torn: str, opened: Callable[..., Dataset], shared: Path, scratch: Path, observer: Observer
) -> None:
    """What a killed process, or a machine that fell over, left is not taken for the data."""
    copy = opened().beton("train")
    copy.unlink()
    copy.with_name(torn).write_bytes(b"torn")
    assert opened().beton("train") == copy
    assert copy.read_bytes() == (shared / "digits" / "train.beton").read_bytes()
    assert copies(scratch) == ["train.beton"]
    assert observer.notes == []


def test_another_version_is_another_copy(opened: Callable[..., Dataset], shared: Path, scratch: Path) -> None:
    """Data that was prepared anew is not confused with what it was; another list of images is the same data."""
    before = opened()
    first = before.beton("train")
    stated = before.manifest.files["train.beton"]
    digest = change(shared / "digits" / "train.beton", 1)
    files = before.manifest.files | {"train.beton": {**stated, "sha256": digest}}
    replace(before.manifest, files=files).save(shared / "digits")
    second = opened().beton("train")
    assert second != first
    assert hashlib.sha256(second.read_bytes()).hexdigest() == digest
    lists = {**before.manifest.lists, "mine": before.manifest.lists["train"]}
    replace(before.manifest, files=files, lists=lists).save(shared / "digits")
    assert opened().beton("train") == second
    assert copies(scratch) == ["train.beton", "train.beton"]


def test_a_file_that_is_not_what_was_written(opened: Callable[..., Dataset], shared: Path, scratch: Path) -> None:
    """The copy is where a damaged file is noticed; nobody trains on it."""
    change(shared / "digits" / "train.beton", 1)
    with pytest.raises(DataError, match=r"train.beton is not what was written.*harness prepare digits --check"):
        opened().beton("train")
    assert copies(scratch) == []


def full(monkeypatch: pytest.MonkeyPatch, _scratch: Path) -> None:
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))


def absent(_monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
    scratch.rmdir()


def filled_meanwhile(monkeypatch: pytest.MonkeyPatch, _scratch: Path) -> None:
    def refuse(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging.os, "fsync", refuse)


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (full, r"it takes 2\.4 MB, and 0\.0 MB are free there"),
        (absent, "there is no such folder"),
        (filled_meanwhile, "No space left on device"),
    ],
)
def test_without_a_copy_the_shared_file_is_read(
    trouble: Callable[..., None],
    why: str,
    opened: Callable[..., Dataset],
    shared: Path,
    scratch: Path,
    observer: Observer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run is slow rather than lost; its record says so once, with what is missing and where."""
    trouble(monkeypatch, scratch)
    dataset = opened()
    for _ in range(2):
        assert dataset.beton("train") == shared / "digits" / "train.beton"
    (note,) = observer.notes
    assert f"HARNESS_SCRATCH={scratch} on " in note
    assert re.search(why, note)
    assert copies(scratch) == []


@pytest.mark.parametrize("waiting", [False, True], ids=["while it copies", "while it waits"])
def test_an_end_that_is_asked_for_ends_the_copying(
    waiting: bool, runs: Runs, shared: Path, scratch: Path, tmp_path: Path
) -> None:
    """A copy that is half made is given up, and so is waiting for one; the run gets to the update at which it stops."""
    place = Place(runs=str(runs.path), data=str(shared), commit="test", scratch=str(scratch))
    asked = Observer(tmp_path / "run", lambda: None, lambda: True)
    dataset = dataset_of("digits", place, asked)
    folder = scratch / "digits" / dataset.manifest.files["train.beton"]["sha256"][:16]
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        if waiting:
            fcntl.flock(lock, fcntl.LOCK_EX)
        assert dataset.beton("train") == shared / "digits" / "train.beton"
    assert copies(scratch) == []
    assert asked.notes == []


def test_the_folder_is_named_from_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every node has it under one name; a relative one would be another folder in each process."""
    for text, wanted in (("", ""), (str(tmp_path), str(tmp_path))):
        monkeypatch.setenv("HARNESS_SCRATCH", text)
        assert wanted_scratch() == site().scratch == wanted
    monkeypatch.setenv("HARNESS_SCRATCH", "scratch")
    with pytest.raises(ConfigError, match="HARNESS_SCRATCH=scratch: must be an absolute path"):
        site()
