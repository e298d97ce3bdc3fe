"""Evaluations that go together are what they would be alone: records, choices, spools and checkpoints, bit for bit."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from harness.config.identity import run_key
from harness.config.schema import Linear, Pretrain, RandomEncoder
from harness.evaluation.linear import LinearEvaluation
from harness.evaluation.sealed import Seal, Selection
from harness.launch import together
from harness.launch.machines import machine_named
from harness.launch.measured import device_seconds
from harness.launch.place import Place
from harness.launch.specs import write_spec
from harness.launch.task import execute
from harness.models.resnet import ResNet
from harness.tracking.lease import Lease
from harness.tracking.record import Record, Runs
from harness.tracking.spool import Spool

UPDATES, BATCH = 17, 128


@pytest.fixture
def plain(tiny: tuple[Pretrain, Linear]) -> Linear:
    """Two epochs on an untrained encoder."""
    encoder = RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=0)
    return replace(tiny[1], subject=run_key(encoder))


@pytest.fixture
def clipped(plain: Linear) -> Linear:
    """Its companion with Table 7's loss, and other learning rates."""
    return replace(plain, logit_clip=2.0, logit_penalty=0.05, learning_rates=(1.0, 0.1))


@pytest.fixture
def alone(runs: Runs, place: Place) -> Callable[[Linear], Record]:
    """An evaluation by itself, in a folder of runs of its own."""

    def run(spec: Linear) -> Record:
        elsewhere = replace(place, runs=str(runs.path.with_name("alone")))
        return execute(put(Runs(runs.path.with_name("alone")), spec), elsewhere)

    return run


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images every call of an encoder takes."""
    seen: list[int] = []
    made = ResNet.forward

    def forward(self: ResNet, views: torch.Tensor) -> torch.Tensor:
        seen.append(len(views))
        return made(self, views)

    monkeypatch.setattr(ResNet, "forward", forward)
    return seen


def put(runs: Runs, spec: Linear) -> str:
    """Write an evaluation's spec, and that of its encoder, where a worker looks for them."""
    write_spec(runs, RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=0))
    return write_spec(runs, spec)


def told(record: Record) -> dict[str, Any]:
    """What a record says beside times."""
    choice = {name: value for name, value in record.selection.items() if name != "recorded_unix_s"}
    return {
        "state": record.state,
        "spec": record.spec,
        "results": record.results,
        "selection": choice,
        "error": record.error,
        "updates": record.cost.get("updates"),
        "notes": record.notes,
    }


def spooled(runs: Runs, key: str) -> list[tuple[int, dict[str, float]]]:
    return [(point.step, point.metrics) for point in Spool(runs.folder(key) / "spool.jsonl").read()]


def layers(runs: Runs, key: str) -> Any:
    """Of the last checkpoint."""
    return torch.load(max((runs.folder(key) / "checkpoints").iterdir()), weights_only=True)


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, tensors inside included."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def check(runs: Runs, spec: Linear, alone: Callable[[Linear], Record | None]) -> None:
    """The run of a spec is, in every number, the one that it is by itself."""
    expected, found = alone(spec), runs.read(run_key(spec))
    other = Runs(runs.path.with_name("alone"))
    assert found is not None
    assert expected is not None
    assert told(found) == told(expected)
    assert spooled(runs, found.key) == spooled(other, found.key)
    assert same(layers(runs, found.key), layers(other, found.key))
    assert not list(runs.folder(found.key).glob("*lease*")), "it gives its lease back"


def test_two_together_are_two_alone(
    runs: Runs, place: Place, plain: Linear, clipped: Linear, alone: Callable[[Linear], Record], images: list[int]
) -> None:
    """The same records, choices, curves and layers as by themselves, of half the training's encoder calls."""
    first, second = put(runs, plain), put(runs, clipped)
    record = execute(first, place, [second])
    assert record == runs.read(first)
    together_images = sum(images)
    images.clear()
    for spec in (plain, clipped):
        check(runs, spec, alone)
    assert together_images == sum(images) - UPDATES * BATCH
    assert runs.read(second) is not None
    assert execute(second, place) == runs.read(second), "it has ended; nothing is left to do"


def test_each_sees_its_choice_alone(runs: Runs, place: Place, plain: Linear, clipped: Linear) -> None:
    """The choice that a companion's record tells is the one sealed in its folder, among its own learning rates."""
    keys = [put(runs, spec) for spec in (plain, clipped)]
    execute(keys[0], place, keys[1:])
    for key, spec in zip(keys, (plain, clipped), strict=True):
        record = runs.read(key)
        assert record is not None
        assert record.selection == json.loads((runs.folder(key) / "selection.json").read_text())
        assert record.selection["candidates"] == [f"learning_rate={rate}" for rate in spec.learning_rates]


def rank_main(rank: int, port: int, place: Place, specs: list[Linear]) -> None:
    """One of two ranks: all together, then each by itself."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    keys = [run_key(spec) for spec in specs]
    execute(keys[0], place, keys[1:])
    for key in keys:
        execute(key, replace(place, runs=str(Path(place.runs).with_name("alone"))))
    dist.destroy_process_group()


def test_on_two_ranks(runs: Runs, place: Place, plain: Linear, clipped: Linear) -> None:
    """Three that share a pass on two ranks, of which one diverges, are three alone on two ranks, and none waits."""
    specs = [plain, replace(plain, learning_rates=(1e38,)), clipped]
    other = Runs(runs.path.with_name("alone"))
    for spec in specs:
        put(runs, spec)
        put(other, spec)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(rank_main, (port, place, specs), nprocs=2)
    for spec in (plain, clipped):
        check(runs, spec, lambda spec: other.read(run_key(spec)))
    states = [getattr(runs.read(run_key(spec)), "state", None) for spec in specs]
    assert states == ["done", "diverged", "done"]


@pytest.mark.parametrize("leads", [True, False], ids=["the first one", "its companion"])
def test_one_that_diverges_ends_alone(
    runs: Runs, place: Place, plain: Linear, clipped: Linear, alone: Callable[[Linear], Record], leads: bool
) -> None:
    """Its record is that of a lone divergence, and the other does not notice, whichever of the two it is."""
    wild = replace(plain, learning_rates=(1e38, 2e38))
    order = (wild, clipped) if leads else (clipped, wild)
    keys = [put(runs, spec) for spec in order]
    execute(keys[0], place, keys[1:])
    check(runs, clipped, alone)
    expected, found = alone(wild), runs.read(run_key(wild))
    assert found is not None
    assert found.state == "diverged"
    assert told(found) == told(expected)


def test_where_all_diverge_the_pass_ends(runs: Runs, place: Place, plain: Linear, images: list[int]) -> None:
    """Nothing is encoded for nobody."""
    wild = [replace(plain, learning_rates=(1e38,), logit_penalty=penalty) for penalty in (0.0, 0.1)]
    keys = [put(runs, spec) for spec in wild]
    execute(keys[0], place, keys[1:])
    assert [getattr(runs.read(key), "state", None) for key in keys] == ["diverged", "diverged"]
    assert sum(images) < UPDATES * BATCH


class Killed(BaseException):
    """As a signal would: nothing in the task catches it."""


@pytest.fixture
def interrupted(runs: Runs, place: Place, plain: Linear, clipped: Linear, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of two that were killed together, in the middle of their updates."""
    keys, made = [put(runs, spec) for spec in (plain, clipped)], LinearEvaluation.update

    def update(self: LinearEvaluation, step: int, batch: Any) -> None:
        if step == 11 and self.spec == clipped:
            raise Killed
        made(self, step, batch)

    with monkeypatch.context() as patch:
        patch.setattr(LinearEvaluation, "update", update)
        with pytest.raises(Killed):
            execute(keys[0], replace(place, checkpoint_seconds=0.0), keys[1:])
    return keys


@pytest.mark.parametrize("leader", [0, 1])
def test_what_was_killed_together_goes_on_together(
    runs: Runs, place: Place, interrupted: list[str], alone: Callable[[Linear], Record], images: list[int],
    plain: Linear, clipped: Linear, leader: int,
) -> None:  # fmt: skip
    """Whichever is met first, both end as if nothing had happened, and what is left is encoded once."""
    at, its = (layers(runs, key)["step"] for key in interrupted)
    assert 0 < at == its
    execute(interrupted[leader], place, [interrupted[1 - leader]])
    assert images.count(BATCH) == UPDATES - at
    for spec in (plain, clipped):
        check(runs, spec, alone)


def test_one_of_a_pair_may_go_on_alone(
    runs: Runs, place: Place, interrupted: list[str], alone: Callable[[Linear], Record], plain: Linear, clipped: Linear
) -> None:
    """Its checkpoint is its own; the other, at an earlier update by then, is not drawn in and ends by itself."""
    for key in reversed(interrupted):
        execute(key, place)
    for spec in (plain, clipped):
        check(runs, spec, alone)


def test_killed_between_two_records(
    runs: Runs, place: Place, plain: Linear, clipped: Linear, alone: Callable[[Linear], Record], images: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The one that was not written yet is scored from its last checkpoint, without another update."""
    keys, made = [put(runs, spec) for spec in (plain, clipped)], LinearEvaluation.score

    def score(self: LinearEvaluation, seal: Seal) -> Any:
        if self.spec == clipped:
            raise Killed
        return made(self, seal)

    with monkeypatch.context() as patch:
        patch.setattr(LinearEvaluation, "score", score)
        with pytest.raises(Killed):
            execute(keys[0], place, keys[1:])
    assert [getattr(runs.read(key), "state", None) for key in keys] == ["done", "running"]
    images.clear()
    execute(keys[1], place, keys[:1])
    assert BATCH not in images
    for spec in (plain, clipped):
        check(runs, spec, alone)


def test_what_goes_wrong_with_one_is_its_own(runs: Runs, place: Place, plain: Linear, clipped: Linear) -> None:
    """A choice that does not fit the one on record fails the companion; the first one is done by then."""
    keys = [put(runs, spec) for spec in (plain, clipped)]
    Seal(runs.folder(keys[1])).record(Selection(metric="m", candidates=("x",), scores=(1.0,)))
    with pytest.raises(RuntimeError, match="another choice"):
        execute(keys[0], place, keys[1:])
    records = [runs.read(key) for key in keys]
    assert [getattr(record, "state", None) for record in records] == ["done", "failed"]
    assert "another choice" in str(getattr(records[1], "error", None))
    assert execute(keys[0], place, keys[1:]) == records[0], "another try finds it done"


def test_an_error_of_the_pass_is_told_of_all(
    runs: Runs, place: Place, plain: Linear, clipped: Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both say what happened, both give their leases back, and the next try takes both."""
    keys = [put(runs, spec) for spec in (plain, clipped)]
    with monkeypatch.context() as patch:
        patch.setattr(together, "encoder_of", lambda *_: (_ for _ in ()).throw(FileNotFoundError("no encoder")))
        with pytest.raises(FileNotFoundError):
            execute(keys[0], place, keys[1:])
    for key in keys:
        record = runs.read(key)
        assert record is not None
        assert (record.state, record.error) == ("failed", "FileNotFoundError: no encoder")
        assert "encoder_of" in (runs.folder(key) / "traceback.txt").read_text()
    execute(keys[0], place, keys[1:])
    assert [getattr(runs.read(key), "state", None) for key in keys] == ["done", "done"]


def in_other_hands(runs: Runs, key: str, place: Place) -> None:
    assert Lease(runs.folder(key)).acquire()


def done(runs: Runs, key: str, place: Place) -> None:
    execute(key, place)


def further(runs: Runs, key: str, place: Place) -> None:
    """Its updates are made, its record is not written."""
    execute(key, place)
    record = runs.read(key)
    assert record is not None
    runs.write(replace(record, state="running"))


def damaged(runs: Runs, key: str, place: Place) -> None:
    (runs.folder(key) / "record.json").write_text("{")


@pytest.mark.parametrize("state", [in_other_hands, done, further, damaged])
def test_who_stays_behind(
    runs: Runs, place: Place, plain: Linear, clipped: Linear, state: Callable[[Runs, str, Place], None]
) -> None:
    """Held by another process, ended, at another update, or with nonsense for a record: it is left as it is."""
    keys = [put(runs, spec) for spec in (plain, clipped)]
    state(runs, keys[1], place)
    files = {path: path.read_bytes() for path in runs.folder(keys[1]).rglob("*") if path.is_file()}
    record = execute(keys[0], place, keys[1:])
    assert record.state == "done"
    assert "companions_worker_s" not in record.cost
    assert {path: path.read_bytes() for path in runs.folder(keys[1]).rglob("*") if path.is_file()} == files


def test_another_stream_stays_behind(runs: Runs, place: Place, plain: Linear) -> None:
    """What sees other views would be trained on the wrong ones: whoever asks for that, it does not go along."""
    keys = [put(runs, spec) for spec in (plain, replace(plain, data=replace(plain.data, flip=0.25)))]
    assert execute(keys[0], place, keys[1:]).state == "done"
    assert runs.read(keys[1]) is None


def test_a_retired_companion_begins_anew(
    runs: Runs, place: Place, plain: Linear, clipped: Linear, alone: Callable[[Linear], Record]
) -> None:
    """What it left is put aside first, whatever its update was."""
    keys = [put(runs, spec) for spec in (plain, clipped)]
    before = execute(keys[1], place)
    runs.write(replace(before, state="retired", error="a mistake"))
    execute(keys[0], place, keys[1:])
    assert (runs.folder(keys[1]) / "retired-1" / "record.json").exists()
    for spec in (plain, clipped):
        check(runs, spec, alone)


def test_a_shared_pass_is_paid_once(runs: Runs, place: Place, plain: Linear, clipped: Linear) -> None:
    """The costs of two add up to the time that passed; alone, each would have taken what both have paid."""
    keys = [put(runs, spec) for spec in (plain, clipped)]
    execute(keys[0], place, keys[1:])
    first, second = (record for key in keys if (record := runs.read(key)) is not None)
    passed_s = max(r.ended_unix_s or 0 for r in (first, second)) - min(r.started_unix_s for r in (first, second))
    assert 0.5 * passed_s < first.cost["worker_s"] + second.cost["worker_s"] < 1.05 * passed_s
    assert first.cost["companions_worker_s"] == pytest.approx(first.cost["worker_s"], rel=0.2)
    took_s = device_seconds(first, machine_named("cpu", "here"))
    assert took_s == first.cost["worker_s"] + first.cost["companions_worker_s"]
