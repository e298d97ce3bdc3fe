"""What reports read through."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness.tracking.record import Record, Runs
from harness.tracking.results import Live, link
from harness.tracking.spool import Spool
from harness.tracking.store import MemoryStore, Stored
from harness.tracking.sync import sync

Make = Callable[..., Record]
A, B = "a" * 16, "b" * 16


class Counting(MemoryStore):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        wanted = list(keys)
        self.asked.append(wanted)
        return super().find(wanted)


def test_a_report_is_made_from_one_look(runs: Runs, record: Make) -> None:
    """Protects tables, figures and page of one report from differing where a run ends meanwhile."""
    store = Counting()
    live = Live(store, runs)
    store.put(record(A, results={"x": 1.0}), [], "1", {})
    assert live.find([A, B]).keys() == {A}
    store.put(record(A, results={"x": 2.0}), [], "2", {})
    store.put(record(B), [], "1", {})
    assert live.find([B, A]) == live.find([A])
    assert live.find([A])[A].results == {"x": 1.0}
    assert store.asked == [[A, B]]


def test_records_and_curves_come_from_the_runs(runs: Runs, record: Make) -> None:
    """Protects what is behind a number: it is what the run itself left."""
    runs.write(record(A))
    Spool(runs.folder(A) / "spool.jsonl").append(3, {"loss": 0.5})
    store = MemoryStore("http://server")
    sync(runs, store, [A])
    live = Live(store, runs)
    assert live.uri == "http://server"
    assert live.record(A) == record(A)
    assert [(point.step, point.metrics) for point in live.curve(A)] == [(3, {"loss": 0.5})]
    assert live.folder(A) == runs.folder(A)
    assert (live.record(B), live.curve(B)) == (None, [])


def test_what_cannot_be_read_holds_nothing_up(runs: Runs, record: Make) -> None:
    """Protects a report of hundreds of runs from one damaged file, which the sync has named."""
    runs.write(record(A))
    (runs.folder(A) / "spool.jsonl").write_text("nonsense\n")
    said: list[str] = []
    store = MemoryStore()
    assert sync(runs, store, [A], warn=said.append) == []
    assert "spool.jsonl:1 is no line of a spool" in said[0]
    (runs.folder(A) / "record.json").write_text("{")
    live = Live(store, runs)
    assert (live.record(A), live.curve(A)) == (None, [])


def test_a_link_goes_to_the_page_of_a_run() -> None:
    """Protects the way from a number to MLflow: only a server has pages."""
    stored = Stored(A, "run", "done", "", experiment="7")
    assert link("http://server/", stored) == "http://server/#/experiments/7/runs/run"
    assert link("sqlite:///x.db", stored) == ""
    assert link("http://server", Stored(A, "run", "done", "")) == ""
