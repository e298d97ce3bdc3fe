"""Processes that report runs as fast as a store takes them, two of them sending each run: what concurrency can break.

A pair stands for two sweeps of one table. Each trains runs of its own, resumes some from a checkpoint, and sends those
of both. All touch a new database at the same moment, as processes on several nodes do: none sees another's lock files.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

from harness.tracking.mlflow_store import MlflowStore
from harness.tracking.record import Record, Runs
from harness.tracking.spool import Spool
from harness.tracking.store import Stored, StoreError
from harness.tracking.sync import sync

METRICS = ("pretrain.loss", "pretrain.spread", "pretrain.alignment", "learning_rate")
POINTS = 25  # between two syncs, each of all metrics
ROUNDS = 8  # of a run
RESUMED = 4  # the round after which every second run goes on from an earlier checkpoint
START_SECONDS = 240  # importing MLflow in many processes at once
END_SECONDS = 120  # for the rest to arrive


@dataclass(frozen=True)
class Told:
    """What one writer has done: `puts` in seconds, and how often the store did not answer."""

    puts: tuple[float, ...]
    refused: int


class Timed(MlflowStore):
    """It keeps how long each run took to send."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.puts: list[float] = []

    def put(self, *told: Any, **more: Any) -> Stored:
        began = time.monotonic()
        stored = super().put(*told, **more)
        self.puts.append(time.monotonic() - began)
        return stored


class Writer:
    """One process of a pair."""

    def __init__(self, uri: str, folder: Path, number: int) -> None:
        self._runs, self._store = Runs(folder), Timed(uri)
        self._number = number
        self._made = 0
        self.refused = 0

    def train(self, ends: float) -> None:
        """One run from its beginning to its end."""
        key = f"{self._number:04x}{self._made:012x}"
        record = Record(
            key=key,
            kind="pretrain",
            state="running",
            spec={"kind": "pretrain", "seed": self._made, "model": {"encoder": "resnet50"}},
            commit="c0ffee",
            environment={},
            started_unix_s=time.time(),
        )
        self._made += 1
        self._runs.write(record)
        spool = Spool(self._runs.folder(key) / "spool.jsonl")
        step = 0
        for done in range(ROUNDS):
            for _ in range(POINTS):
                step += 1
                spool.append(step, {name: step / (place + 3) for place, name in enumerate(METRICS)})
            if done == RESUMED and self._made % 2:
                step -= POINTS // 2
                spool.drop_after(step)
            self.send([key, self._latest_of_the_other()])
            if time.monotonic() > ends:
                break
        self._runs.write(record.ended("done", time.time(), results={"top1": step / 7}, cost={"wall_s": 1.5}))

    def send(self, keys: list[str]) -> bool:
        try:
            sync(self._runs, self._store, keys)
        except StoreError:
            self.refused += 1
            time.sleep(0.2)
            return False
        return True

    def send_the_rest(self) -> Told:
        ends = time.monotonic() + END_SECONDS
        while not self.send(self._keys(self._number)):
            assert time.monotonic() < ends, "the store does not come back"
        return Told(tuple(self._store.puts), self.refused)

    def _latest_of_the_other(self) -> str:
        return max(self._keys(self._number ^ 1), default="none")

    def _keys(self, number: int) -> list[str]:
        return [path.parent.name for path in self._runs.path.glob(f"{number:04x}*/record.json")]


def _write(uri: str, folder: Path, number: int, seconds: float, begin: Any, told: Any) -> None:
    tempfile.tempdir = tempfile.mkdtemp(dir=folder.parent)  # where MLflow locks what it makes
    writer = Writer(uri, folder, number)
    begin.wait(START_SECONDS)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        writer.train(ends)
    told.put(writer.send_the_rest())


def write_all(
    uri: str, folder: Path, writers: int, seconds: float, meanwhile: Callable[[], None] = lambda: None
) -> list[Told]:
    """Let them write into `folder` and to the store at `uri`; all has arrived when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    context = get_context("spawn")
    begin, told = context.Barrier(writers + 1), context.Queue()
    processes = [
        context.Process(target=_write, args=(uri, folder, number, seconds, begin, told)) for number in range(writers)
    ]
    for process in processes:
        process.start()
    try:
        begin.wait(START_SECONDS)
        meanwhile()
        ends = time.monotonic() + seconds + END_SECONDS + 60
        said: list[Told] = []
        while len(said) < writers:
            assert time.monotonic() < ends, "a writer does not end"
            assert not any(process.exitcode for process in processes), "a writer failed"
            with suppress(Empty):
                said.append(told.get(timeout=1))
        for process in processes:
            process.join(60)
    finally:
        for process in processes:
            process.kill()
    return said
