"""Archives of foreign origin: nothing is written outside their folder, and no disk is filled."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from harness.data import archives
from harness.data.archives import located
from harness.data.errors import DataError


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **facts: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    for fact, value in facts.items():
        setattr(made, fact, value)
    return made


def refused(source: Path, name: str, words: str) -> None:
    before = {path.relative_to(source.parent) for path in source.parent.rglob("*")}
    with pytest.raises(DataError, match=words):
        located(source, "set", (name,), "the owner's page")
    assert {path.relative_to(source.parent) for path in source.parent.rglob("*")} == before


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize(
    "hostile",
    [
        member("../outside"),
        member("set/../../outside"),
        member("/tmp/harness-outside"),
        member("set/..", tarfile.DIRTYPE),
        member("set/link", tarfile.SYMTYPE, "/etc"),
        member("set/link", tarfile.SYMTYPE, "../../.."),
        member("set/link", tarfile.SYMTYPE, "list.txt"),
        member("set/link", tarfile.LNKTYPE, "/etc/passwd"),
        member("set/link", tarfile.LNKTYPE, "set/list.txt"),
        member("set/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("set/disk", tarfile.BLKTYPE, devmajor=8),
        member("set/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda one: f"{one.type.decode()} {one.name} {one.linkname}".strip(),
)
def test_a_tar_may_hold_plain_files_alone(hostile: tarfile.TarInfo, suffix: str, source: Path) -> None:
    """Protects a person's files: paths that lead out, links to anywhere, devices and pipes."""
    name = f"set.{suffix}"
    with tarfile.open(source / name, "w:gz" if suffix.endswith("gz") else "w") as tar:
        tar.addfile(member("set/list.txt"))
        tar.addfile(hostile)
    refused(
        source, name, rf"set\.{suffix} is refused: its .* leads out of it or is no plain file; nothing of it was kept"
    )
    assert not Path("/tmp/harness-outside").exists()


@pytest.mark.parametrize(
    "name", ["../outside", "set/../../outside", "/tmp/harness-outside", "set\\..\\..\\outside", "link"]
)
def test_a_zip_may_hold_plain_files_alone(name: str, source: Path) -> None:
    """Protects the same from the other form, whose links are files with a mark."""
    with zipfile.ZipFile(source / "set.zip", "w") as zipped:
        info = zipfile.ZipInfo("x")
        info.filename = name  # the class itself would mend it
        if name == "link":
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(info, "/etc/passwd")
    refused(source, "set.zip", r"set\.zip is refused: its .* leads out of it or is no plain file")


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ROOM", 100_000)


@pytest.mark.usefixtures("little_room")
def test_no_archive_fills_the_disk(source: Path) -> None:
    """Protects from zeros: files of them, a header that claims to be long, millions of names, a file full of holes."""
    zeros = io.BytesIO(bytes(20_000_000))
    with tarfile.open(source / "set.tar.gz", "w:gz") as tar:
        tar.addfile(member("set/zeros", size=20_000_000), zeros)
    refused(source, "set.tar.gz", "is refused: it unpacks to more than")
    header = member("set/header", tarfile.XHDTYPE, size=20_000_000).tobuf()
    (source / "set.tar.gz").write_bytes(gzip.compress(header + bytes(20_000_000)))
    refused(source, "set.tar.gz", "is refused: it unpacks to more than")
    names = b"".join(member("set/x").tobuf() for _ in range(2000))
    (source / "set.tar.gz").write_bytes(gzip.compress(names))
    refused(source, "set.tar.gz", "is refused: it unpacks to more than")
    with zipfile.ZipFile(source / "set.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("set/zeros", bytes(20_000_000))
    refused(source, "set.zip", "is refused: it unpacks to more than")


def test_a_file_full_of_holes_is_refused(source: Path) -> None:
    """Protects from a terabyte that takes no room in the archive, and none on the disk until something reads it."""
    sparse = member("set/holes", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT)
    block = bytearray(sparse)
    block[483:495] = b"%011o\0" % (1 << 32)
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    (source / "set.tar").write_bytes(bytes(block) + bytes(1024))
    refused(source, "set.tar", r"set\.tar is refused: its 'set/holes' leads out of it or is no plain file")


def test_modes_and_owners_of_an_archive_do_not_count(source: Path) -> None:
    """Protects from files that anybody may write, or that run as their owner."""
    with tarfile.open(source / "set.tar", "w") as tar:
        tar.addfile(member("set", tarfile.DIRTYPE, mode=0o7777))
        tar.addfile(member("set/tool", mode=0o7777, uid=12345, gid=12345))
    folder = located(source, "set", ("set.tar",), "the owner's page")
    mode = (folder / "tool").stat().st_mode
    assert not mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH)
    assert (folder / "tool").stat().st_uid == source.stat().st_uid
