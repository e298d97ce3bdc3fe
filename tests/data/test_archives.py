"""Finding and unpacking what owners distribute."""

from __future__ import annotations

import errno
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness.data import archives
from harness.data.archives import located
from harness.data.errors import DataError

WHERE = "the owner's page"
NOISE = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
CONTENT = {"set/a/one.jpg": NOISE, "set/a/two.jpg": NOISE[:700], "set/list.txt": b"one\n"}


def _pack(path: Path, content: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name, data in content.items():
                zipped.writestr(name, data)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def _content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root.parent).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "set.tgz", "set.zip"])
def test_an_archive_is_unpacked_once(name: str, tmp_path: Path) -> None:
    """Protects every form in which owners distribute, and a second preparation from unpacking again."""
    archive = _pack(tmp_path / name, CONTENT)
    folder = located(tmp_path, "set", ("other.tar", name), WHERE)
    assert folder == tmp_path / "set"
    assert _content(folder) == CONTENT
    archive.unlink()
    assert located(tmp_path, "set", (name,), WHERE) == folder
    assert {path.name for path in tmp_path.iterdir()} == {"set"}


def test_an_archive_without_the_folder_becomes_it(tmp_path: Path) -> None:
    """Protects archives such as SUN397's partitions, whose files lie loose."""
    _pack(tmp_path / "Lists.zip", {"Training_01.txt": b"a\n", "Testing_01.txt": b"b\n"})
    folder = located(tmp_path, "Lists", ("Lists.zip",), WHERE)
    assert _content(folder) == {"Lists/Training_01.txt": b"a\n", "Lists/Testing_01.txt": b"b\n"}


def test_a_folder_deep_inside(tmp_path: Path) -> None:
    """Protects sets whose folder lies inside another, found, unpacked or named itself."""
    _pack(tmp_path / "voc.tar", {"VOCdevkit/VOC2007/a.txt": b"a"})
    folder = located(tmp_path, "VOCdevkit/VOC2007", ("voc.tar",), WHERE)
    assert (folder / "a.txt").read_bytes() == b"a"
    assert located(folder, "VOCdevkit/VOC2007", (), WHERE) == folder


def test_the_folder_itself_may_be_named(tmp_path: Path) -> None:
    """Protects a person who gives the set's own folder, from being told that it is not in itself."""
    (tmp_path / "set").mkdir()
    assert located(tmp_path / "set", "set", ("set.tar",), WHERE) == tmp_path / "set"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Protects the message: the folder, the archives and where they can be had."""
    words = r"holds neither a folder set nor set.tar nor set.zip; get it from the owner's page"
    with pytest.raises(DataError, match=words):
        located(tmp_path, "set", ("set.tar", "set.zip"), WHERE)
    with pytest.raises(DataError, match=r"there is no folder .*/nowhere"):
        located(tmp_path / "nowhere", "set", ("set.tar",), WHERE)


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "set.zip"])
def test_no_truncated_archive_is_taken_for_whole(name: str, tmp_path: Path) -> None:
    """Protects from half a dataset, wherever the download ended; tarfile alone takes some of these ends for the end."""
    whole = _pack(tmp_path / name, CONTENT).read_bytes()
    # A tar's content ends before the zeros that fill its last block of 10240 bytes; one mark of 512 zeros is enough.
    size = tarfile_end(tmp_path / name) if name == "set.tar" else len(whole) - 1
    for end in {*range(0, size, 97), *range(0, size, 512), size - 1}:
        (tmp_path / name).write_bytes(whole[:end])
        with pytest.raises(DataError, match=rf"{name} is damaged or incomplete .*fetch it again"):
            located(tmp_path, "set", (name,), WHERE)
        assert [path.name for path in tmp_path.iterdir()] == [name]


def tarfile_end(path: Path) -> int:
    """Where the first mark of the archive's end is complete."""
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
        return last.offset_data + -(-last.size // 512) * 512 + 512


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "set.zip"])
def test_a_damaged_archive_is_named(name: str, tmp_path: Path) -> None:
    """Protects from a changed header or changed pixels where the format can tell."""
    data = bytearray(_pack(tmp_path / name, CONTENT).read_bytes())
    place = 100 if name == "set.tar" else len(data) // 2
    data[place : place + 40] = bytes(40)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name} is damaged"):
        located(tmp_path, "set", (name,), WHERE)


def test_an_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    """Protects a person's files from an archive with paths that lead out of it."""
    source = tmp_path / "source"
    source.mkdir()
    _pack(source / "set.tar", {"../outside.txt": b"x"})
    with pytest.raises(DataError, match=r"set.tar is refused: its .*outside.* leads out of it"):
        located(source, "set", ("set.tar",), WHERE)
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_place_that_cannot_be_written_is_not_a_damaged_archive(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects from fetching 150 GB again because a share is read-only or full."""
    _pack(tmp_path / "set.tar", CONTENT)

    def refuse(_archive: Path, _target: Path) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(archives, "_extract", refuse)
    with pytest.raises(DataError, match=r"set.tar cannot be unpacked .*refused.*make .* writable, with room"):
        located(tmp_path, "set", ("set.tar",), WHERE)
    assert [path.name for path in tmp_path.iterdir()] == ["set.tar"]


def test_a_killed_unpacking_leaves_nothing_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the next preparation: what a killed one left is not the set."""
    _pack(tmp_path / "set.tar", CONTENT)
    with monkeypatch.context() as killed:
        killed.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        killed.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            located(tmp_path, "set", ("set.tar",), WHERE)
    assert not (tmp_path / "set").exists()
    monkeypatch.setattr(archives.os, "getpid", lambda: 0)  # the next process
    assert _content(located(tmp_path, "set", ("set.tar",), WHERE)) == CONTENT
