"""Storage that is full, or cannot be written: one clear sentence, nothing lost, and the same command goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config.errors import ConfigError
from harness.config.schema import Linear, Pretrain
from harness.launch import kinds
from harness.launch.observer import Observer
from harness.launch.place import Place
from harness.launch.site import check_writable, site
from harness.launch.specs import write_spec
from harness.launch.task import DiskFullError, execute
from harness.tracking.record import Runs
from harness.training.checkpoint import Checkpoints

Tiny = tuple[Pretrain, Linear]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Write until nothing more fits."""
    with (folder / "filler").open("ab", buffering=0) as file:
        while free := os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize:
            file.write(b"0" * free)


@pytest.mark.parametrize("where", ["checkpoint", "spool", "record"])
def test_a_full_disk(
    where: str, small: Path, runs: Runs, place: Place, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the disk runs full the run says so; with space again it ends as if nothing had been."""
    undisturbed = execute(write_spec(runs, tiny[0]), place)
    there = Runs(small / "runs")
    key = write_spec(there, tiny[0])
    place = replace(place, runs=str(there.path), checkpoint_seconds=0.0)

    def full_before(owner: object, name: str, due: Callable[..., bool]) -> None:
        real = getattr(owner, name)

        def instead(*arguments: object, **named: object) -> object:
            if due(*arguments):
                fill(small)
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, instead)

    if where == "checkpoint":
        full_before(Checkpoints, "save", lambda _, step, __: step == 20)
    elif where == "spool":
        full_before(Observer, "report", lambda _, step, __: step == 12)
    else:
        full_before(kinds, "replace", lambda *_: True)  # the record of the run just done
    with pytest.raises(DiskFullError, match="no space is left"):
        execute(key, place)
    monkeypatch.undo()
    assert not list((small / "runs").rglob("*lease*"))
    (small / "filler").unlink()
    again = execute(key, place)
    assert again.state == "done"
    assert again.results == undisturbed.results
    assert not [path for path in (small / "runs").rglob(".*") if path.is_file()], "no half-written file is left"


def test_a_folder_that_cannot_be_written(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read-only results are said before anything is trained, by the variable that names them."""
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    monkeypatch.setenv("HARNESS_HOME", str(small / "home"))
    with pytest.raises(ConfigError, match=r"HARNESS_HOME=.* cannot be written \(Read-only file system\)"):
        check_writable(site())
