"""Finding a dataset's folder, or unpacking the archive its owner distributes it in."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from lzma import LZMAError
from pathlib import Path
from typing import Self

from harness.data.errors import DataError

# BadGzipFile is an OSError, as a full disk is; the others are their modules' own.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError)


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
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(target)  # keeps every path inside the target and checks every file's sum
        return
    with tarfile.open(archive, tarinfo=_Header) as tar:
        tar.extractall(target, members=tar, filter="data")  # member by member: compressed archives are read once
        while tar.fileobj and tar.fileobj.read(1 << 20):  # to the end, where gzip has its sum
            continue


def _failure(archive: Path, error: Exception) -> str:
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
