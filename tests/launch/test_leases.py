"""One owner a run: what a task does when another process has, had, or takes its run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.config.schema import Linear, Pretrain
from harness.launch.observer import Observer
from harness.launch.place import Place
from harness.launch.plan import status
from harness.launch.specs import write_spec
from harness.launch.task import execute
from harness.tracking.lease import BusyError, Lease, LeaseLostError
from harness.tracking.record import Record, Runs

Tiny = tuple[Pretrain, Linear]


def test_a_run_in_other_hands_is_left_alone(runs: Runs, place: Place, tiny: Tiny) -> None:
    """Nothing is written into a run that another process works on; afterwards it can be had."""
    key = write_spec(runs, tiny[0])
    other = Lease(runs.folder(key))
    assert other.acquire()
    with pytest.raises(BusyError):
        execute(key, place)
    assert runs.read(key) is None
    other.release()
    assert execute(key, place).state == "done"
    assert not list(runs.folder(key).glob("*lease*")), "it gives its lease back"


def test_a_finished_run_is_not_done_again(
    runs: Runs, place: Place, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that another sweep finished since this one was planned is taken as it is."""
    key = write_spec(runs, tiny[0])
    first = execute(key, place)
    monkeypatch.setattr("harness.launch.task._work", lambda *_: pytest.fail("it trains again"))
    assert execute(key, place) == first


def test_a_run_taken_away_stops_before_it_writes(
    runs: Runs, place: Place, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner that slept too long finds its lease gone and leaves record, spool and checkpoints to the next one."""
    key = write_spec(runs, tiny[0])
    folder = runs.folder(key)
    report = Observer.report

    def lose(watched: Observer, step: int, metrics: dict[str, float]) -> None:
        if step == 5:
            (folder / "lease.json").unlink()
            assert Lease(folder).acquire()
        report(watched, step, metrics)

    monkeypatch.setattr(Observer, "report", lose)
    with pytest.raises(LeaseLostError):
        execute(key, place)
    record = runs.read(key)
    assert record is not None
    assert record.state == "running", "whose run it is now will say how it ends"
    assert (folder / "spool.jsonl").read_text().count("\n") == 4
    assert not (folder / "checkpoints").exists()


def test_status_tells_a_working_owner_from_a_dead_one(runs: Runs, tiny: Tiny, write: Callable[..., Record]) -> None:
    """A run that began is `running` under a lease and `interrupted` without one."""
    record = write(tiny[0], "running")
    assert status(runs, record.key, tiny[0]) == "interrupted"
    lease = Lease(runs.folder(record.key))
    assert lease.acquire()
    assert status(runs, record.key, tiny[0]) == "running"
    lease.release()
    (runs.folder(record.key) / "record.json").write_text('{"state": "splendid"}')
    assert status(runs, record.key, tiny[0]) == "unreadable"
