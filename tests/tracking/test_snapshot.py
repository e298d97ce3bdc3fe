"""The results file: what reports read through it is what they read from the store."""

from __future__ import annotations

import gzip
import json
import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.errors import ConfigError
from harness.tracking.record import Record, Runs
from harness.tracking.results import Live
from harness.tracking.snapshot import FORM, Snapshot, write_snapshot
from harness.tracking.spool import Point, Spool
from harness.tracking.store import MemoryStore, Stored

Make = Callable[..., Record]
A, B, C = "a" * 16, "b" * 16, "c" * 16


@pytest.fixture
def live(runs: Runs, record: Make) -> Live:
    """Two runs and a curve, with what JSON cannot say; of the second only MLflow knows."""
    store = MemoryStore("sqlite:///mlflow.db")
    odd = {"up": math.inf, "down": -math.inf, "x": 0.1 + 0.2}
    one = record(A, results=odd, selection={"scores": [math.inf, 1]}, notes=("passed over",))
    runs.write(one)
    store.put(one, [], "1", {"table.5b": "byol"})
    store.put(record(B, results={"x": 2.0}), [], "1", {})
    spool = Spool(runs.folder(A) / "spool.jsonl")
    spool.append(1, {"loss": 4.0})
    spool.append(2, {"loss": math.inf, "spread": 0.1})
    return Live(store, runs)


@pytest.mark.parametrize("name", ["results.json", "results.json.gz"])
def test_what_was_exported_is_read(live: Live, tmp_path: Path, name: str) -> None:
    """Protects every number, record and curve on the way into the file and out of it."""
    path = tmp_path / name
    assert write_snapshot(path, live, [B, A, C, A], "c0ffee") == 2
    read = Snapshot(path)
    assert (read.uri, read.commit, read.keys()) == ("sqlite:///mlflow.db", "c0ffee", [A, B])
    for key in (A, B, C):
        assert read.record(key) == live.record(key)
        assert read.curve(key) == live.curve(key)
    assert read.record(A) is not None
    assert len(read.curve(A)) == 2
    assert read.record(B) is None
    theirs, ours = live.find([A, B, C]), read.find([A, B, C])
    assert ours.keys() == theirs.keys() == {A, B}
    for key, one in ours.items():
        other = theirs[key]
        assert (one.run_id, one.state, one.results, one.flags) == (
            other.run_id,
            other.state,
            other.results,
            other.flags,
        )
    assert read.folder(A) is None


def test_the_same_runs_are_the_same_bytes(live: Live, tmp_path: Path) -> None:
    """Protects a results file that is kept beside a paper from changing where nothing has."""
    for suffix in ("json", "json.gz"):
        one, other = tmp_path / f"one.{suffix}", tmp_path / f"other.{suffix}"
        write_snapshot(one, live, [A, B], "c0ffee")
        write_snapshot(other, live, [B, A], "c0ffee")
        assert one.read_bytes() == other.read_bytes()
    assert gzip.decompress((tmp_path / "one.json.gz").read_bytes()) == (tmp_path / "one.json").read_bytes()


def test_it_is_json_for_anybody(live: Live, tmp_path: Path) -> None:
    """Protects readers other than this harness: strict JSON, with the form that docs/results-file.md describes."""
    write_snapshot(tmp_path / "results.json", live, [A], "c0ffee")

    def no_json(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    raw = json.loads((tmp_path / "results.json").read_bytes(), parse_constant=no_json)
    assert raw["form"] == FORM
    run = raw["runs"][A]
    assert run.keys() == {"stored", "record", "curve", "digest"}
    assert run["stored"]["results"]["up"] == {"not_finite": "inf"}
    assert run["stored"]["labels"] == {}, "tags hold names of people and machines"
    assert run["curve"]["metrics"] == {"loss": [4.0, {"not_finite": "inf"}], "spread": [None, 0.1]}


def test_a_failed_export_leaves_the_old_file(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the file that was there from a disk that fills up while another is written."""
    path = tmp_path / "results.json"
    write_snapshot(path, live, [A], "c0ffee")
    before = path.read_bytes()

    def full(_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("harness.tracking.snapshot._digest", full)
    with pytest.raises(OSError, match="disk full"):
        write_snapshot(path, live, [A, B], "c0ffee")
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir() if one.name != "runs"] == ["results.json"]


def _changed(content: bytes, old: str, new: str) -> bytes:
    assert old.encode() in content
    return content.replace(old.encode(), new.encode(), 1)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda content: content[: len(content) // 2],
            r"results.json:\d+: not valid JSON: .*; export the results again",
        ),
        (lambda content: b"\xff" + content, "results.json: is damaged"),
        (lambda _: b"[]", "results.json is no results file; `harness export-results` writes one"),
        (lambda _: b"{}", "is no results file"),
        (
            lambda content: _changed(content, '"form": 1', '"form": 99'),
            r"is of form 99, this harness reads form 1; use",
        ),
        (lambda content: _changed(content, '"uri"', '"url"'), "results.json: uri: is missing or damaged"),
        (lambda content: _changed(content, '"x": 2.0', '"x": 3.0'), f"runs.{B}: is damaged, its digest differs"),
        (lambda content: _changed(content, "passed", "pasted"), f"runs.{A}: is damaged, its digest differs"),
    ],
)
def test_a_damaged_file_is_refused(live: Live, tmp_path: Path, damage: Callable[[bytes], bytes], told: str) -> None:
    """Protects a table from a number that is not what was exported; the place is named."""
    path = tmp_path / "results.json"
    write_snapshot(path, live, [A, B], "c0ffee")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match=told):
        Snapshot(path)


def test_a_torn_compressed_file_is_refused(live: Live, tmp_path: Path) -> None:
    """Protects against a download that was cut off, and a file that is not there."""
    path = tmp_path / "results.json.gz"
    write_snapshot(path, live, [A, B], "c0ffee")
    whole = path.read_bytes()
    for torn in (whole[:-10], whole[: len(whole) // 2], whole[:40] + b"\0\0\0\0" + whole[44:]):
        path.write_bytes(torn)
        with pytest.raises(ConfigError, match=r"results.json.gz: is damaged \(.*\); export the results again"):
            Snapshot(path)
    path.unlink()
    with pytest.raises(ConfigError, match=r"results.json.gz cannot be read \(No such file or directory\)"):
        Snapshot(path)


def test_a_part_of_another_shape_is_named(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a file that another program wrote: what does not fit is named, and never read halfway."""
    path = tmp_path / "results.json"
    write_snapshot(path, live, [A], "c0ffee")
    raw = json.loads(path.read_text())
    raw["runs"][A]["stored"]["results"]["x"] = "much"
    path.write_text(json.dumps(raw))
    monkeypatch.setattr("harness.tracking.snapshot._digest", lambda run: run["digest"])
    with pytest.raises(ConfigError, match=re.escape(f"results.json: runs.{A}.stored.results.x: must be a number")):
        Snapshot(path).find([A])


class Curve(Live):
    """One run with any curve."""

    def __init__(self, points: list[Point]) -> None:
        super().__init__(MemoryStore(), Runs(Path("nowhere")))
        self._points = points
        self._seen = {A: Stored(A, "run", "done", "")}

    def curve(self, _key: str) -> list[Point]:
        return self._points


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            Point,
            st.integers(0, 2**41),
            st.integers(0, 1000),
            st.dictionaries(st.text(max_size=5), st.floats(), max_size=3),
        ),
        max_size=8,
    )
)
def test_any_curve_comes_back(points: list[Point]) -> None:
    """Protects curves of any shape: odd names, NaN, points without a metric, several at one step; the order too."""
    with tempfile.TemporaryDirectory() as folder:
        write_snapshot(Path(folder) / "results.json", Curve(points), [A], "")
        assert repr(_sorted(Snapshot(Path(folder) / "results.json").curve(A))) == repr(_sorted(points))


def _sorted(points: list[Point]) -> list[Point]:
    return [Point(point.time_unix_ms, point.step, dict(sorted(point.metrics.items()))) for point in points]
