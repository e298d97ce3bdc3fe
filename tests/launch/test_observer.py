"""What a run tells the world: its spool and its progress file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.launch import observer as module
from harness.launch.observer import Observer, read_progress
from harness.tracking.spool import Spool
from harness.training.loop import Progress


def free() -> None:
    """Nobody else works on the run."""


def test_progress_is_written_for_whoever_watches(tmp_path: Path) -> None:
    """Updates done, speed since the resumption, and the last update always."""
    watched = Observer(tmp_path, free)
    watched.progress(Progress(done=30, total=40, seconds=5.0, resumed_at=20))
    seen = read_progress(tmp_path)
    assert seen is not None
    assert (seen.done, seen.total, seen.updates_per_s) == (30, 40, 2.0)
    watched.progress(Progress(done=31, total=40, seconds=5.1, resumed_at=20))
    assert read_progress(tmp_path) == seen, "not at every update: at most once a second"
    watched.progress(Progress(done=40, total=40, seconds=10.0, resumed_at=20))
    assert (read_progress(tmp_path) or seen).done == 40
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


@pytest.mark.parametrize("content", ["", '{"done": 1', "{}", '{"strange": 1}'])
def test_unreadable_progress_is_none(tmp_path: Path, content: str) -> None:
    """The board goes on when a file is torn, or from another version."""
    (tmp_path / "progress.json").write_text(content)
    assert read_progress(tmp_path) is None


def test_time_spent_survives_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's cost counts every attempt."""
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    first = Observer(tmp_path, free)
    clock[0] += 7
    first.progress(Progress(done=1, total=2, seconds=7.0, resumed_at=0))
    assert first.first_update_s == 7
    again = Observer(tmp_path, free)
    clock[0] += 5
    assert again.spent_s == 12


def test_shared_time_is_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """6 s alone, 8 s as one of two, 9 s as one of three, then alone: parts and wholes add up, interrupted or not."""
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    watched = Observer(tmp_path, free)
    for seconds, among in ((6, 2), (8, 3)):
        clock[0] += seconds
        watched.share(among)
    clock[0] += 9
    assert (watched.spent_s, watched.companions_s) == (6 + 8 / 2 + 9 / 3, 8 / 2 + 9 * 2 / 3)
    watched.progress(Progress(done=1, total=2, seconds=7.0, resumed_at=0))
    again = Observer(tmp_path, free)
    clock[0] += 5
    assert (again.spent_s, again.companions_s) == (13 + 5, 10)


def test_an_end_is_asked_for_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for once a second, for it lies on storage that may be slow, and what was heard stays heard."""
    clock, stop = [100.0], tmp_path / "stop"
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    watched, unasked = Observer(tmp_path, free, stop=str(stop)), Observer(tmp_path, free)
    assert not watched.stopping()
    stop.touch()
    clock[0] += 0.9
    assert not watched.stopping(), "it has looked less than a second ago"
    clock[0] += 0.1
    assert watched.stopping()
    stop.unlink()
    clock[0] += 5
    assert watched.stopping()
    assert not unasked.stopping()


def test_an_end_is_asked_for_by_this_process(tmp_path: Path) -> None:
    """Without waiting for the next look at the file, of which there need be none."""
    asked = [False]
    for stop in ("", str(tmp_path / "stop")):
        watched = Observer(tmp_path, free, lambda: asked[0], stop)
        assert not watched.stopping()
        asked[0] = True
        assert watched.stopping()
        asked[0] = False


def test_a_resumed_run_forgets_what_it_will_report_again(tmp_path: Path) -> None:
    """Each step stands once in the spool, with the time of the report that counts."""
    watched = Observer(tmp_path, free)
    for step in (10, 20, 30):
        watched.report(step, {"loss": float(step)})
    again = Observer(tmp_path, free)
    again.resumed(20)
    again.report(30, {"loss": 33.0})
    points = Spool(tmp_path / "spool.jsonl").read()
    assert [(point.step, point.metrics["loss"]) for point in points] == [(10, 10.0), (20, 20.0), (30, 33.0)]
    for line in (tmp_path / "spool.jsonl").read_text().splitlines():
        json.loads(line)
