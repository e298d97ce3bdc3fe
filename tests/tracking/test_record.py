"""The record: what is true of a run, whole or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.durable import write_json
from harness.config.errors import ConfigError
from harness.tracking.record import Record, RecordError, Runs

Make = Callable[..., Record]


def test_round_trip(runs: Runs, record: Make) -> None:
    """Protects every field, infinities included, on its way over the disk."""
    one = record(results={"a.b": float("inf")}, selection={"learning_rate": 0.1}, error="no")
    runs.write(one)
    assert runs.read(one.key) == one
    assert runs.keys() == [one.key]


def test_a_run_that_never_began(runs: Runs) -> None:
    """Protects the difference between nothing and something broken."""
    assert runs.read("f" * 16) is None
    assert runs.keys() == []


def test_an_end_keeps_the_beginning(record: Make) -> None:
    """Protects start, spec and commit of a run when its end is written."""
    begun = record(state="running", ended_unix_s=None, results={})
    ended = begun.ended("failed", 3_000.0, error="boom")
    assert (ended.state, ended.ended_unix_s, ended.error) == ("failed", 3_000.0, "boom")
    assert (ended.started_unix_s, ended.spec, ended.commit) == (begun.started_unix_s, begun.spec, begun.commit)


def test_nothing_else_is_left(runs: Runs, record: Make) -> None:
    """Protects the folder from temporary files, however often a record is written."""
    for state in ("running", "done"):
        runs.write(record(state=state))
    assert [path.name for path in runs.folder("0" * 16).iterdir()] == ["record.json"]


def test_a_write_that_fails_leaves_the_old_record(runs: Runs, record: Make) -> None:
    """Protects the truth from a half-written one."""
    runs.write(record())
    with pytest.raises(TypeError):
        write_json(runs.folder("0" * 16) / "record.json", {"a": object()})
    assert runs.read("0" * 16) == record()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"key": "0000000000000000"}', b'{"state": "perhaps"}'],
)
def test_nonsense_names_its_file(runs: Runs, content: bytes) -> None:
    """Protects the person from a traceback, and the run from being taken for one that never began."""
    path = runs.folder("0" * 16) / "record.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"record.json is no record .*; delete its folder to run it again") as caught:
        runs.read("0" * 16)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, ConfigError), "the command line prints one line and exits with 2"


def test_a_record_in_the_wrong_folder(runs: Runs, record: Make) -> None:
    """Protects against a folder copied or renamed by hand."""
    runs.write(record())
    other: Path = runs.folder("1" * 16)
    runs.folder("0" * 16).rename(other)
    with pytest.raises(RecordError, match="is the record of 0000000000000000"):
        runs.read("1" * 16)


def test_a_later_field_is_refused(runs: Runs, record: Make) -> None:
    """Protects against a record of a newer version being read with half its meaning."""
    runs.write(record())
    path = runs.folder("0" * 16) / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": 1}))
    with pytest.raises(RecordError, match="unknown key 'later'"):
        runs.read("0" * 16)
