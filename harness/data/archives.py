"""Finding a dataset's folder, or unpacking the archive its owner distributes it in.

An archive may hold folders and plain files alone, none of which lies outside it, and no more than images and their
lists unpack to. Links are refused too: one may lead another file to where it has no business.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Self

from harness.data.errors import DataError

# BadGzipFile is an OSError, as a full disk is; the others are their modules' own.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
_COMPRESSED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}
_ZIPPED_KINDS = (0, 4, 8)  # of a file's mode: none told, a folder, a plain file
GROWTH, ROOM = 50, 100_000_000  # what is unpacked has at most so many times the archive's bytes, and these
_CHUNK = 1 << 20


def located(source: Path, folder: str, archives: Sequence[str], where: str) -> Path:
    """The folder of a dataset: `source`/`folder`, or `source` if that is its path's end, or unpacked from an archive.

    The first of `archives` that lies in `source` is unpacked beside itself, under a temporary name until it is
    whole. Its content is `folder`, or lies in a folder of that name. `where` says where it can be had.
    """
    if not source.is_dir():
        raise DataError(f"there is no folder {source} with the dataset; get it from {where}")
    found = source / folder
    if found.is_dir():
        return found
    parts = Path(folder).parts
    if source.resolve().parts[-len(parts) :] == parts:
        return source
    for archive in (source / name for name in archives):
        if archive.is_file():
            _unpack(archive, found, folder)
            return found
    names = " nor ".join((f"a folder {folder}", *archives))
    raise DataError(f"{source} holds neither {names}; get it from {where}")


def _unpack(archive: Path, target: Path, folder: str) -> None:
    partial = archive.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        partial.mkdir()
        _extract(archive, partial)
        inner = partial / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_dir():  # another process may have been faster
            (inner if inner.is_dir() else partial).rename(target)
    except (*_DAMAGE, OSError) as error:
        raise DataError(_failure(archive, error)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # after a rename there may be nothing left


def _extract(archive: Path, target: Path) -> None:
    limit = GROWTH * archive.stat().st_size + ROOM
    if archive.suffix == ".zip":
        _extract_zip(archive, target, limit)
        return
    with _plain(archive) as content, closing(_Counted(content, limit)) as counted:
        with tarfile.TarFile(fileobj=counted, tarinfo=_Header) as tar:
            # Member by member, as compressed archives are read once.
            tar.extractall(target, members=tar, filter=_admitted)  # noqa: S202  # which is stricter than `data`
        while counted.read(_CHUNK):  # to the end, where gzip has its sum
            continue


def _extract_zip(archive: Path, target: Path, limit: int) -> None:
    """It checks every file's sum, and that none is longer than the archive's list says."""
    with zipfile.ZipFile(archive) as zipped:
        if sum(one.file_size for one in zipped.infolist()) > limit:
            raise _too_much(limit)
        for one in zipped.infolist():
            if _leads_out(one.filename.replace("\\", "/")) or one.external_attr >> 28 not in _ZIPPED_KINDS:
                raise _RefusedError(f"its {one.filename!r} leads out of it or is no plain file")
            zipped.extract(one, target)


class _RefusedError(tarfile.TarError):
    """An archive made to do harm."""


def _too_much(limit: int) -> _RefusedError:
    return _RefusedError(f"it unpacks to more than {limit / 1e6:.0f} MB, as no set of images does")


def _admitted(member: tarfile.TarInfo, target: str) -> tarfile.TarInfo:
    """The member with modes and owners that do no harm."""
    if _leads_out(member.name) or not (member.isreg() or member.isdir()) or member.issparse():
        raise _RefusedError(f"its {member.name!r} leads out of it or is no plain file")
    return tarfile.data_filter(member, target)


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _plain(archive: Path) -> BinaryIO:
    """The archive without its compression, which the first bytes tell."""
    with archive.open("rb") as file:
        start = file.read(6)
    for mark, opened in _COMPRESSED.items():
        if start.startswith(mark):
            return opened(archive)
    return archive.open("rb")


class _Counted(io.RawIOBase):
    """A file that is read up to a limit, headers and all: a header, too, may claim to be 10 GB long."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(min(size, self._limit + 1) if size >= 0 else self._limit + 1)
        if self._file.tell() > self._limit:
            raise _too_much(self._limit)
        return content

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()


def _failure(archive: Path, error: Exception) -> str:
    if isinstance(error, _RefusedError):
        return f"{archive} is refused: {error}; nothing of it was kept, get it from its owner"
    if isinstance(error, OSError) and error.errno is not None:
        remedy = f"make {archive.parent} writable, with room for it, or unpack it yourself"
        return f"{archive} cannot be unpacked beside itself ({error}); {remedy}"
    reason = str(error).partition("\n")[0].rstrip(":")  # tarfile tells one line for each compression it knows
    return f"{archive} is damaged or incomplete ({type(error).__name__}: {reason}); fetch it again"


class _Header(tarfile.TarInfo):
    """A member's header. A broken one, or none, is damage here, where tarfile takes it for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The header in these bytes, or ReadError where they are neither one nor the mark at the archive's end."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(f"a header is broken: {error}") from error
