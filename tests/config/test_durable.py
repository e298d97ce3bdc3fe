"""Files that are whole or not there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from harness.config.durable import DAY_SECONDS, left_behind, write_durably, write_json, write_whole


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


STOPS = """
import sys
from pathlib import Path
from harness.config.durable import write_durably

def half(file):
    file.write(b"ha")
    print("half", flush=True)
    sys.stdin.read()

write_durably(Path(sys.argv[1]), half)
"""


def test_what_a_killed_process_left_is_known(tmp_path: Path) -> None:
    """Protects a run's folder from half-written encoders of gigabytes, and a living process from losing its own."""
    command = [sys.executable, "-c", STOPS, str(tmp_path / "encoder")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        assert _names(tmp_path) == [f".encoder.{socket.gethostname()}.{writer.pid}"]
        assert list(left_behind(tmp_path)) == []
        writer.send_signal(signal.SIGKILL)
    assert [path.name for path in left_behind(tmp_path)] == _names(tmp_path)


def test_what_another_machine_left_is_let_be_for_a_day(tmp_path: Path) -> None:
    """Protects what a process writes on another node, whose processes cannot be seen here."""
    path = tmp_path / ".encoder.elsewhere.example.1"
    path.touch()
    (tmp_path / ".of-somebody-else").touch()
    assert list(left_behind(tmp_path)) == []
    os.utime(path, (time.time(), time.time() - DAY_SECONDS - 60))
    assert list(left_behind(tmp_path)) == [path]
