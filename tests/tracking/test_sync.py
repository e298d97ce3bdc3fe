"""Bringing a store up to date: what changed, no more, and no harm from a store that is down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from harness.tracking.record import Record, Runs
from harness.tracking.spool import Point, Spool
from harness.tracking.store import MemoryStore, Stored, StoreError
from harness.tracking.sync import Syncer, sync

Make = Callable[..., Record]
A, B = "a" * 16, "b" * 16


def _spool(runs: Runs, key: str) -> Spool:
    return Spool(runs.folder(key) / "spool.jsonl")


def test_only_what_changed_is_sent(runs: Runs, record: Make) -> None:
    """Protects a report on hundreds of finished runs from sending them all again."""
    store = MemoryStore()
    runs.write(record(A))
    runs.write(record(B, state="running", ended_unix_s=None))
    assert sync(runs, store, [A, B, "c" * 16]) == [A, B]
    assert sync(runs, store, [A, B]) == []
    _spool(runs, B).append(1, {"loss": 1.0})
    assert sync(runs, store, [A, B]) == [B]
    runs.write(record(B, results={"loss": 0.5}))
    assert sync(runs, store, [A, B]) == [B]
    assert store.find([B])[B].results == {"loss": 0.5}
    assert sync(runs, store, [A, B]) == []


def test_labels_are_added_and_kept(runs: Runs, record: Make) -> None:
    """Protects a run that stands in two tables: each adds its label, and neither sends the other's runs for ever."""
    store = MemoryStore()
    runs.write(record(A))
    assert sync(runs, store, [A], {A: {"table.5b": "byol"}}) == [A]
    assert sync(runs, store, [A], {A: {"table.5a": "tau_0.99"}}) == [A]
    assert sync(runs, store, [A], {A: {"table.5b": "byol"}}) == []
    assert sync(runs, store, [A]) == []
    assert store.find([A])[A].labels == {"table.5b": "byol", "table.5a": "tau_0.99"}


def test_the_cells_of_one_table_are_joined(runs: Runs, record: Make) -> None:
    """Protects plans of one cell and of all from undoing each other's labels, sent forth and back with every report."""
    store = MemoryStore()
    runs.write(record(A))
    one, whole = {A: {"table.5b": "byol"}}, {A: {"table.5b": "byol,twin", "harness.profile": "laptop"}}
    assert sync(runs, store, [A], one) == [A]
    assert sync(runs, store, [A], whole) == [A]
    assert sync(runs, store, [A], one) == sync(runs, store, [A], whole) == []
    runs.write(record(A, results={"x": 1.0}))
    assert sync(runs, store, [A], one) == [A]
    assert store.find([A])[A].labels == {"table.5b": "byol,twin", "harness.profile": "laptop"}


def test_labels_alone_do_not_send_the_run(runs: Runs, record: Make) -> None:
    """Protects long curves from being sent again because one more table wants their run."""

    class Labelled(MemoryStore):
        def put(self, *_: object, **__: object) -> Stored:
            raise AssertionError("sent again")

    store = Labelled()
    runs.write(record(A))
    sync(runs, first := MemoryStore(), [A])
    store.runs = first.runs
    assert sync(runs, store, [A], {A: {"table.5b": "byol"}}) == [A]
    assert store.find([A])[A].labels == {"table.5b": "byol"}


def test_forgotten_points_are_taken_out(runs: Runs, record: Make) -> None:
    """Protects each step of a resumed run from standing twice, though it was sent before the run was stopped."""
    store, spool = MemoryStore(), _spool(runs, A)
    runs.write(record(A, state="running", ended_unix_s=None))
    for step in (10, 20):
        spool.append(step, {"loss": 1.0})
    sync(runs, store, [A])
    spool.drop_after(10)
    spool.append(20, {"loss": 2.0})
    assert sync(runs, store, [A]) == [A]
    assert sorted((step, value) for (_, step, _), value in store.points[A].items()) == [(10, 1.0), (20, 2.0)]


def test_a_store_that_lost_everything(runs: Runs, record: Make) -> None:
    """Protects the promise that the tracking server can be rebuilt from records and spools."""
    runs.write(record(A))
    _spool(runs, A).append(1, {"loss": 1.0})
    first, second = MemoryStore(), MemoryStore()
    sync(runs, first, [A])
    sync(runs, second, [A])
    assert second.find([A]) == first.find([A])
    assert second.points == first.points


def test_a_nonsense_record_is_named(runs: Runs, record: Make) -> None:
    """Protects a report from passing over a broken file in silence, and the others from being held up by it."""
    for name in ("record.json", "spool.jsonl"):
        for key in (A, B):
            runs.write(record(key))
        (runs.folder(A) / name).write_text("{\n")
        said: list[str] = []
        assert sync(runs, MemoryStore(), [A, B], warn=said.append) == [B]
        assert len(said) == 1
        assert str(runs.folder(A) / name) in said[0]


class Flaky(MemoryStore):
    """Down until it is mended."""

    def __init__(self) -> None:
        super().__init__()
        self.down = True
        self.asked = threading.Semaphore(0)

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        self.asked.release()
        if self.down:
            raise StoreError("the server is down")
        return super().find(keys)

    def put(
        self, record: Record, points: Iterable[Point], stamp: str, labels: Mapping[str, str], forgotten: int = 0
    ) -> Stored:
        return super().put(record, points, stamp, labels, forgotten)


def test_a_dead_store_is_said_once_and_tried_again(runs: Runs, record: Make) -> None:
    """Protects a sweep from a server that is down: training goes on, one line is said, and all arrives later."""
    store, said = Flaky(), []
    runs.write(record(A))
    with Syncer(runs, store, [A], {A: {"table.5b": "byol"}}, said.append, every_seconds=0.01):
        assert all(store.asked.acquire(timeout=10) for _ in range(4))
        store.down = False
        assert all(store.asked.acquire(timeout=10) for _ in range(3))
        store.down = True
        assert all(store.asked.acquire(timeout=10) for _ in range(3))
    message = f"the server is down; results are kept in {runs.path} and will be sent later"
    assert said == [message, message], "once for each time it went down"
    assert store.runs[A].labels == {"table.5b": "byol"}


def test_a_nonsense_record_does_not_stop_the_syncing(runs: Runs, record: Make) -> None:
    """Protects the thread: what is mended while a sweep runs is sent."""
    store, said = MemoryStore(), []
    heard = threading.Event()
    runs.write(record(A))
    (runs.folder(A) / "record.json").write_text("{")
    with Syncer(runs, store, [A], {}, lambda line: (said.append(line), heard.set()), every_seconds=0.01) as syncer:
        assert heard.wait(10)
        runs.write(record(A))
        for _ in range(1000):
            if A in store.runs:
                break
            syncer._stop.wait(0.01)
    assert A in store.runs
    assert len(said) == 1
