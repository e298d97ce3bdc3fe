"""Results files from a colleague: read as data, bounded, and refused in one sentence where they are none."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import ConfigError
from harness.tracking import snapshot
from harness.tracking.record import RecordError, Runs
from harness.tracking.snapshot import FORM, Snapshot, _digest

KEY = "a" * 16
HEAD = {"form": FORM, "commit": "c", "uri": "sqlite:///x"}


def written(path: Path, run: Any) -> Path:
    """A file that is whole by its own digest, whatever it says."""
    if isinstance(run, dict):
        run["digest"] = _digest(run)
    path.write_text(json.dumps({**HEAD, "runs": {KEY: run}}))
    return path


def test_a_results_file_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the memory from 10 MB on one line, and from kilobytes that unpack to as much: by the file's limit."""
    monkeypatch.setattr(snapshot, "LARGEST", 1_000_000)
    path = tmp_path / "results.json"
    started = time.monotonic()
    path.write_text('{"form": "' + "x" * 10_000_000 + '"}')
    with pytest.raises(ConfigError, match=r"results\.json is larger than 1 MB, which no such file needs"):
        Snapshot(path)
    path.write_bytes(gzip.compress(bytes(10_000_000)))
    assert path.stat().st_size < 20_000
    with pytest.raises(ConfigError, match=r"results\.json is larger than 1 MB"):
        Snapshot(path)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 500_000, "nests too deeply"),
        ('{"a":' * 500_000, "nests too deeply"),
        ('{"form": ' + "9" * 100_000 + "}", "is damaged"),
        ('{"form": {"not_finite": []}}', "is damaged"),
        ('{"form": {"not_finite": "x"}}', "is damaged"),
        ("[]", "is no results file"),
        (json.dumps({**HEAD, "runs": {KEY: 3}}), f"runs.{KEY}: is damaged, its digest differs"),
        (json.dumps({**HEAD, "runs": {KEY: {"digest": 3}}}), f"runs.{KEY}: is damaged, its digest differs"),
        (json.dumps({**HEAD, "runs": []}), "runs: is missing or damaged"),
        (
            json.dumps({**HEAD, "runs": {KEY: {"x": 0}}}).replace("0}", "[" * 400 + "]" * 400 + "}"),
            f"runs.{KEY}: is damaged, its digest differs",
        ),
    ],
)
def test_nonsense_is_one_sentence(content: str, words: str, tmp_path: Path) -> None:
    """Protects from tracebacks, and from Python's end on what nests too deeply."""
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        Snapshot(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "run",
    [
        {"curve": 3},
        {"curve": {"metrics": []}},
        {"curve": {"time_unix_ms": [1], "step": [1], "metrics": {"loss": ["high"]}}},
        {"curve": {"time_unix_ms": ["now"], "step": [1], "metrics": {}}},
        {"curve": {"time_unix_ms": [1, 2], "step": [1], "metrics": {}}},
        {"curve": {"time_unix_ms": [1], "step": [1], "metrics": {"loss": []}}},
        {"record": {"key": KEY}},
        {"stored": {"key": KEY, "results": {"x": "many"}}},
        {"stored": [], "record": [], "curve": []},
    ],
)
def test_what_is_whole_may_still_be_nonsense(run: dict[str, Any], tmp_path: Path) -> None:
    """Protects from a file whose digests agree and whose parts do not: each part is checked as it is asked for."""
    read = Snapshot(written(tmp_path / "results.json", run))
    with pytest.raises(ConfigError, match=rf"results\.json: runs\.{KEY}\."):
        (read.find([KEY]), read.record(KEY), read.curve(KEY))


def test_a_record_that_nests_too_deeply_is_named(tmp_path: Path) -> None:
    """Protects a sweep from a record that is none: its run is named, and the others go on."""
    runs = Runs(tmp_path)
    path = runs.folder(KEY) / "record.json"
    path.parent.mkdir()
    for content in ("[" * 500_000, '{"key": ' + "9" * 100_000 + "}", "3", '{"key": 3}'):
        path.write_text(content)
        with pytest.raises(RecordError, match=r"record\.json is no record .*delete its folder to run it again"):
            runs.read(KEY)
