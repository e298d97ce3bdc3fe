"""The spool: every point once, whatever crashes between."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.tracking.record import Record, RecordError
from harness.tracking.spool import Point, Spool
from harness.tracking.store import MemoryStore


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "runs" / "spool.jsonl")


def _steps(spool: Spool) -> list[int]:
    return [point.step for point in spool.read()]


def test_what_was_appended_is_read(spool: Spool) -> None:
    """Protects values bit for bit, odd ones included, and the time of each point."""
    assert spool.read() == []
    spool.append(1, {"loss": 0.1 + 0.2, "odd": float("inf")})
    spool.append(2, {"loss": float("nan")})
    first, second = spool.read()
    assert (first.step, first.metrics) == (1, {"loss": 0.1 + 0.2, "odd": float("inf")})
    assert math.isnan(second.metrics["loss"])
    assert 1_600_000_000_000 < first.time_unix_ms <= second.time_unix_ms


def test_dropping_forgets_later_points_alone(spool: Spool) -> None:
    """Protects a resumed run: each step stands once, and earlier points keep their times."""
    for step in (10, 20, 30):
        spool.append(step, {"loss": float(step)})
    before = spool.read()
    spool.drop_after(20)
    assert spool.read() == before[:2]
    spool.append(30, {"loss": 3.0})
    points, forgotten = spool.history()
    assert [(point.step, point.metrics["loss"]) for point in points] == [(10, 10.0), (20, 20.0), (30, 3.0)]
    assert forgotten == 1


def test_dropping_nothing_is_no_change(spool: Spool) -> None:
    """Protects what was sent from being taken for forgotten: a fresh start, or a resume at the last point."""
    spool.drop_after(0)
    assert not spool.path.exists()
    spool.append(10, {"loss": 1.0})
    before = spool.path.read_bytes()
    spool.drop_after(10)
    assert spool.path.read_bytes() == before
    assert spool.history()[1] == 0


@settings(max_examples=40)
@given(steps=st.integers(1, 5), cut=st.integers(0, 400))
def test_a_torn_end_is_no_point(steps: int, cut: int) -> None:
    """Protects a run that was killed while it wrote: whole points stay, and the next ones are whole again."""
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder) / "spool.jsonl")
        for step in range(1, steps + 1):
            spool.append(step, {"loss": 1.0})
        content = spool.path.read_bytes()[:cut]
        spool.path.write_bytes(content)
        whole = content.count(b"\n")
        assert _steps(spool) == list(range(1, whole + 1))
        spool.drop_after(whole)
        spool.append(whole + 1, {"loss": 2.0})
        assert _steps(spool) == list(range(1, whole + 2))


@pytest.mark.parametrize("line", ["nonsense", "3", "[]", "{}", '{"time_unix_ms": 1, "step": null, "metrics": {}}'])
def test_a_line_that_is_none(spool: Spool, line: str) -> None:
    """Protects the person from a traceback: a line damaged by something other than a crash is named."""
    spool.append(1, {"loss": 1.0})
    with spool.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RecordError, match=r"spool.jsonl:2 is no line of a spool"):
        spool.read()


_POINTS = st.lists(
    st.builds(
        Point,
        st.integers(0, 2**41),
        st.integers(0, 1000),
        st.dictionaries(st.sampled_from(["loss", "spread"]), st.floats(), min_size=1),
    ),
    max_size=6,
)


@given(_POINTS)
def test_a_replay_changes_nothing(record: Callable[..., Record], points: list[Point]) -> None:
    """Protects the store from doubled points, however often a spool is sent; NaN equals nothing, and counts once."""
    store = MemoryStore()
    store.put(record(), points, "1", {})
    once = {key: repr(value) for key, value in store.points["0" * 16].items()}
    store.put(record(), points, "1", {})
    assert {key: repr(value) for key, value in store.points["0" * 16].items()} == once
