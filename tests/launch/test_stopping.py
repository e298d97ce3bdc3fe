"""A run that is asked to end: what it leaves, and how it goes on."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from harness.config.identity import plain, run_key
from harness.config.schema import Linear, Pretrain, RandomEncoder
from harness.evaluation.linear import LinearEvaluation
from harness.launch.place import Place
from harness.launch.plan import status
from harness.launch.specs import write_spec
from harness.launch.standalone import train
from harness.launch.task import execute
from harness.tracking.record import Runs
from harness.tracking.spool import Spool
from harness.training.loop import Stopped

Tiny = tuple[Pretrain, Linear]
UPDATES, SEEN = 100, 20


def curve(folder: Path) -> list[tuple[int, dict[str, float]]]:
    return [(point.step, point.metrics) for point in Spool(folder / "spool.jsonl").read()]


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_sigterm_in_the_middle(tiny: Tiny, data: Path, tmp_path: Path) -> None:
    """`harness train` ends with 143 within half a minute and says where; the same command brings the run to the end
    that it has undisturbed: results, curve and encoder, bit for bit.
    """
    spec = replace(tiny[0], schedule=replace(tiny[0].schedule, epochs=UPDATES // 10))
    (tmp_path / "spec.json").write_text(json.dumps(plain(spec)))
    folder = tmp_path / "home" / "runs" / run_key(spec)
    words = ["train", str(tmp_path / "spec.json"), "--home", str(tmp_path / "home"), "--data", str(data)]
    command = [sys.executable, "-m", "harness", *words]

    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not (folder / "spool.jsonl").exists() or len(curve(folder)) < SEEN * 50 // UPDATES:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        _, said = process.communicate(timeout=60)
    assert time.monotonic() - sent < 30
    assert process.returncode == 143, said
    (newest,) = checkpoints(folder)[-1:]
    at = int(newest.removeprefix("checkpoint-").removesuffix(".pt"))
    assert SEEN <= at < UPDATES
    assert f"stopped at update {at};" in said
    assert "the same command goes on" in said
    assert status(Runs(folder.parent), folder.name, spec) == "interrupted"
    assert not list(folder.glob("*lease*"))

    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert train(tmp_path / "spec.json", "cpu", 1, tmp_path / "whole", data) == 0
    undisturbed = tmp_path / "whole" / "runs" / folder.name
    record, whole = Runs(folder.parent).read(folder.name), Runs(undisturbed.parent).read(folder.name)
    assert record is not None
    assert whole is not None
    assert (record.state, record.results, record.flags) == ("done", whole.results, whole.flags)
    assert curve(folder) == curve(undisturbed)
    encoder = "encoder.safetensors"
    assert (folder / encoder).read_bytes() == (undisturbed / encoder).read_bytes()
    _, forgotten = Spool(folder / "spool.jsonl").history()
    assert forgotten == 0, "an update was made twice"


def test_a_file_ends_a_run(runs: Runs, place: Place, tiny: Tiny, tmp_path: Path) -> None:
    """As a sweep asks: the record goes on to say that the run was begun, the lease is free, and nothing is lost."""
    key, stop = write_spec(runs, tiny[0]), tmp_path / "stop"
    stop.touch()
    with pytest.raises(Stopped) as end:
        execute(key, replace(place, stop=str(stop), checkpoint_seconds=3600.0))
    assert end.value.step == 1
    assert checkpoints(runs.folder(key)) == ["checkpoint-000000001.pt"]
    assert status(runs, key, tiny[0]) == "interrupted"
    assert not (runs.folder(key) / "traceback.txt").exists()
    stop.unlink()
    record = execute(key, replace(place, stop=str(stop)))
    other = Runs(tmp_path / "undisturbed")
    whole = execute(write_spec(other, tiny[0]), replace(place, runs=str(other.path)))
    assert (record.state, record.results) == ("done", whole.results)
    assert curve(runs.folder(key)) == curve(other.folder(key))


def rank_main(rank: int, port: int, place: Place, key: str, told: Path) -> None:
    """One of two ranks: what ends it."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        execute(key, place)
    except Exception as error:  # whatever it is
        (told / f"rank{rank}").write_text(type(error).__name__)


def test_rank_0_stops_for_all(runs: Runs, place: Place, tiny: Tiny, tmp_path: Path) -> None:
    """It saves and goes; the other falls with its next collective, says nothing in the record, and does not hang."""
    encoder = RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=0)
    write_spec(runs, encoder)
    spec = replace(tiny[1], subject=run_key(encoder))
    key, stop = write_spec(runs, spec), tmp_path / "stop"
    stop.touch()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = replace(place, stop=str(stop), checkpoint_seconds=3600.0)
    torch.multiprocessing.spawn(rank_main, (port, place, key, tmp_path), nprocs=2)
    told = [(tmp_path / f"rank{rank}").read_text() for rank in range(2)]
    assert told[0] == "Stopped"
    assert told[1] != "Stopped"
    assert checkpoints(runs.folder(key)) == ["checkpoint-000000001.pt"]
    assert status(runs, key, spec) == "interrupted"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Becomes true when a linear evaluation makes its twelfth update."""
    given, made = [False], LinearEvaluation.update

    def update(self: LinearEvaluation, step: int, batch: Any) -> None:
        given[0] = given[0] or step == 11
        made(self, step, batch)

    monkeypatch.setattr(LinearEvaluation, "update", update)
    return given


def test_companions_stop_together(runs: Runs, place: Place, tiny: Tiny, tmp_path: Path, asked: list[bool]) -> None:
    """Both are saved at one update and free, whichever was asked; afterwards each ends as it does by itself."""
    encoder = RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=0)
    first = replace(tiny[1], subject=run_key(encoder))
    both = (first, replace(first, logit_clip=2.0, logit_penalty=0.05))
    other = Runs(tmp_path / "alone")
    for each in (runs, other):
        write_spec(each, encoder)
    keys = [write_spec(runs, spec) for spec in both]
    with pytest.raises(Stopped, match="update 12"):
        execute(keys[0], place, keys[1:], lambda: asked[0])
    for key, spec in zip(keys, both, strict=True):
        assert checkpoints(runs.folder(key))[-1] == "checkpoint-000000012.pt"
        assert status(runs, key, spec) == "interrupted"
    execute(keys[0], place, keys[1:])
    for key, spec in zip(keys, both, strict=True):
        record, alone = runs.read(key), execute(write_spec(other, spec), replace(place, runs=str(other.path)))
        assert record is not None
        assert record.results == alone.results
        last = [torch.load(max((each.folder(key) / "checkpoints").iterdir())) for each in (runs, other)]
        for mine, theirs in zip(last[0]["state"]["heads"], last[1]["state"]["heads"], strict=True):
            assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        assert curve(runs.folder(key)) == curve(other.folder(key))
