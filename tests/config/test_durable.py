"""Files that are whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

import pytest

from harness.config.durable import write_durably, write_json, write_whole


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Protects the three ways of writing one file, in a folder that is made for it."""
    path = tmp_path / "new" / "file"
    write_whole(path, b"whole")
    assert path.read_bytes() == b"whole"
    write_durably(path, lambda file: file.write(b"durable"))
    assert path.read_bytes() == b"durable"
    write_json(path, {"b": 0.1 + 0.2, "a": [None, True]})
    assert json.loads(path.read_text()) == {"a": [None, True], "b": 0.1 + 0.2}
    assert _names(path.parent) == ["file"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    """Protects what was there from a full disk, and the folder from half a file under a hidden name."""
    path = tmp_path / "file"
    write_durably(path, lambda file: file.write(b"old"))

    def half(file: BinaryIO) -> None:
        file.write(b"ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_durably(path, half)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert _names(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


def test_a_reader_never_sees_half(tmp_path: Path) -> None:
    """Protects whoever reads while a file is replaced: the name holds the old content until the new one is complete."""
    path = tmp_path / "file"
    write_whole(path, b"old")
    seen = []

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        seen.append(path.read_bytes())

    write_durably(path, write)
    assert (seen, path.read_bytes()) == ([b"old"], b"new")
