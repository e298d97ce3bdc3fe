"""A run that two workers began and one goes on with, because a node is gone: the numbers stay. Without Ray."""

from __future__ import annotations

import itertools
import shutil
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from harness.config.identity import run_key
from harness.config.schema import Linear, Pretrain
from harness.launch.place import Place
from harness.launch.specs import write_spec
from harness.launch.task import execute
from harness.tracking.record import Runs
from harness.tracking.spool import Spool
from harness.training.loop import Stopped

EPOCHS, HALF, ALL = 4, 20, 1000  # 40 updates, every one of them reported
WITHIN = 1e-4  # in float32; tests/training/test_ranks.py holds float64 to 1e-8
TOP1 = "linear_imagenet.top1"


def spec_of(tiny: tuple[Pretrain, Linear], seed: int) -> tuple[Pretrain, Linear]:
    """A pretraining long enough to be interrupted in the middle, and its evaluation."""
    schedule = replace(tiny[0].schedule, epochs=EPOCHS)
    subject = replace(tiny[0], seed=seed, schedule=schedule)
    return subject, replace(tiny[1], subject=run_key(subject), seed=seed)


def place_of(home: Path, data: Path) -> Place:
    """Runs of their own for each history."""
    return Place(runs=str(home), data=str(data), commit="test")


def bring(home: Path, data: Path, *specs: Pretrain | Linear) -> dict[str, float]:
    """Runs to their ends on one worker; the results of the last."""
    results: dict[str, float] = {}
    for spec in specs:
        results = dict(execute(write_spec(Runs(home), spec), place_of(home, data)).results)
    return results


def rank_main(rank: int, port: int, key: str, place: Place, updates: int) -> None:
    """One of two ranks, of which the first is asked to end after some updates."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    asked = itertools.count(1)
    with suppress(Stopped if rank == 0 else RuntimeError):  # the other falls with its next collective
        execute(key, place, asked=lambda: next(asked) == updates)


def on_two(home: Path, data: Path, spec: Pretrain | Linear, updates: int = ALL) -> str:
    """Begin a run on two workers, or go on with it, for so many updates."""
    key = write_spec(Runs(home), spec)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(rank_main, (port, key, place_of(home, data), updates), nprocs=2)
    return key


def losses(home: Path, key: str, kind: str) -> dict[int, float]:
    """By update."""
    points = Spool(home / key / "spool.jsonl").read()
    return {point.step: point.metrics[f"{kind}.loss"] for point in points}


def worlds(*homes: Path, key: str) -> list[object]:
    """On how many workers each of them ended the run."""
    records = [Runs(home).read(key) for home in homes]
    return [record and record.state == "done" and record.environment["world"] for record in records]


def test_one_worker_goes_on_with_what_two_began(tmp_path: Path, data: Path, tiny: tuple[Pretrain, Linear]) -> None:
    """The 20 updates after the change agree with those of two workers, and the accuracy lies among the seeds'.

    So do the updates of an evaluation of one encoder, on two workers and on one.
    """
    alone = {seed: bring(tmp_path / "alone", data, *spec_of(tiny, seed))[TOP1] for seed in range(3)}
    seed = sorted(alone, key=alone.__getitem__)[1]  # the middle one: rounding must not bring it out of the range
    subject, evaluation = spec_of(tiny, seed)
    two, changed, both = tmp_path / "two", tmp_path / "changed", tmp_path / "both"
    key = on_two(two, data, subject, HALF)
    shutil.copytree(two, changed)
    assert max(path.name for path in (two / key / "checkpoints").iterdir()) == f"checkpoint-{HALF:09d}.pt"
    on_two(two, data, subject)
    bring(changed, data, subject)
    shutil.copytree(changed, both)
    evaluated = on_two(both, data, evaluation)
    top1 = bring(changed, data, evaluation)[TOP1]
    assert worlds(two, changed, key=key) == worlds(both, changed, key=evaluated) == [2, 1]

    stayed, went_on = losses(two, key, "pretrain"), losses(changed, key, "pretrain")
    after = range(HALF + 1, 2 * HALF + 1)
    assert stayed.keys() == went_on.keys() >= set(after)
    assert [went_on[step] for step in after] == pytest.approx([stayed[step] for step in after], rel=WITHIN)
    assert losses(both, evaluated, "linear") == pytest.approx(losses(changed, evaluated, "linear"), rel=WITHIN)
    assert min(alone.values()) <= top1 <= max(alone.values())
