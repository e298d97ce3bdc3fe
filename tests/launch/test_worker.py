"""The body of a trial: what Tune reserves for it, its device, and what it makes of how ranks end. No Ray is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("ray.tune")
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError, WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from harness.config.schema import Linear, Pretrain
from harness.launch import worker
from harness.launch.attempts import LostError, UnplacedError
from harness.launch.frontier import ELSEWHERE, STOPPED
from harness.launch.place import Place
from harness.launch.share import Demand
from harness.tracking.lease import BusyError, LeaseLostError
from harness.tracking.record import Record, Runs
from harness.training.loop import Stopped

QUARTER = Demand(workers=1, cpus=2, gpu=0.25)
CORES = Demand(workers=1, cpus=2, gpu=0.0)
EIGHT = Demand(workers=8, cpus=4, gpu=1.0)


def config(demand: Demand) -> dict[str, Any]:
    """As the frontier suggests it."""
    return {"key": "k", "demand": asdict(demand), "one_node": False, "companions": ["c"]}


def test_what_tune_reserves() -> None:
    """One worker's cores and share are the trial's own; several have theirs from Ray Train, beside the trial's."""
    assert worker.resources(config(QUARTER)).required_resources == {"CPU": 2, "GPU": 0.25}
    assert worker.resources(config(CORES)).required_resources == {"CPU": 2}
    assert set(worker.resources(config(EIGHT)).required_resources) == {"memory"}
    assert worker.resources(config(QUARTER)) == worker.resources(config(QUARTER)), "else Tune would reuse no process"
    assert worker.resources(config(QUARTER)) != worker.resources(config(CORES))


@pytest.mark.parametrize(
    ("demand", "cuda", "device"),
    [(QUARTER, True, "cuda:0"), (QUARTER, False, "cpu"), (CORES, True, "cpu"), (CORES, False, "cpu")],
)
def test_the_device_is_the_one_that_was_given(
    monkeypatch: pytest.MonkeyPatch, demand: Demand, cuda: bool, device: str
) -> None:
    """A share of a GPU is the first that the process sees, and its memory is given back, by a failed run too."""
    places: list[Place] = []
    emptied: list[int] = []
    reported: list[dict[str, str]] = []

    def execute(key: str, place: Place, companions: list[str]) -> SimpleNamespace:
        assert (key, companions) == ("k", ["c"])
        places.append(place)
        if len(places) == 2:
            raise BusyError("another process")
        if len(places) == 3:
            raise Stopped(7)
        if len(places) == 4:
            raise RuntimeError("it failed")
        return SimpleNamespace(state="done")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(len(places)))
    monkeypatch.setattr(worker, "execute", execute)
    monkeypatch.setattr(worker.tune, "report", reported.append)
    place = Place(runs="r", data="d", commit="c")
    for _ in range(3):
        worker.trial(config(demand), place, "scratch")
    with pytest.raises(RuntimeError, match="it failed"):
        worker.trial(config(demand), place, "scratch")
    assert [one["state"] for one in reported] == ["done", ELSEWHERE, STOPPED]
    assert {(one.device, one.threads, one.gpu_share) for one in places} == {(device, demand.cpus, demand.gpu)}
    assert emptied == ([1, 2, 3, 4] if device == "cuda:0" else [])


class Trainer:
    """Stands for Ray Train's: keeps what it is asked for, and ends as it is told to."""

    asked: dict[str, Any]
    ends: BaseException | None = None

    def __init__(self, body: object, **asked: Any) -> None:
        Trainer.asked = asked

    def fit(self) -> SimpleNamespace:
        if Trainer.ends is not None:
            raise Trainer.ends
        return SimpleNamespace(return_value="done")


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What trials on several workers tell Tune, with Ray Train out of the way."""
    told: list[dict[str, str]] = []
    monkeypatch.setattr(Trainer, "ends", None)
    monkeypatch.setattr(worker.ray.train.torch, "TorchTrainer", Trainer)
    monkeypatch.setattr(worker.tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: "id"))
    monkeypatch.setattr(worker.tune, "report", told.append)
    return told


@pytest.mark.parametrize(("one_node", "strategy"), [(True, "STRICT_PACK"), (False, "PACK")])
def test_workers_sit_on_one_node_where_that_has_room(
    reported: list[dict[str, str]], one_node: bool, strategy: str
) -> None:
    """The frontier knows the nodes, and Ray Train is told; it tries once, because the frontier counts."""
    worker.trial(config(EIGHT) | {"one_node": one_node}, Place(runs="r", data="d", commit="c"), "/scratch")
    assert reported == [{"state": "done"}]
    scaling, run = Trainer.asked["scaling_config"], Trainer.asked["run_config"]
    assert (scaling.placement_strategy, scaling.num_workers) == (strategy, 8)
    assert (run.failure_config.max_failures, run.failure_config.controller_failure_limit) == (0, 0)


GLOO = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
DEAD = WorkerHealthCheckFailedError("gone", ActorDiedError())


@pytest.mark.parametrize(
    ("ends", "comes_to"),
    [
        (WorkerGroupError("", {0: Stopped(7), 1: GLOO}), STOPPED),
        (WorkerGroupError("", {0: LeaseLostError("taken"), 1: GLOO}), ELSEWHERE),
        (WorkerGroupError("", {0: GLOO, 1: DEAD}), LostError),
        (ControllerError(WorkerGroupStartupTimeoutError(8)), UnplacedError),
        (WorkerGroupError("", {0: GLOO, 1: ValueError("a batch of 3")}), TrainingFailedError),
    ],
)
def test_how_ranks_end(
    reported: list[dict[str, str]],
    runs: Runs,
    tiny: tuple[Pretrain, Linear],
    write: Callable[..., Record],
    monkeypatch: pytest.MonkeyPatch,
    ends: TrainingFailedError,
    comes_to: Any,
) -> None:
    """Rank 0 gone in good order is a state, a lost rank none of the run's failures; its own error is in its record."""
    key = write(tiny[0], "running").key
    monkeypatch.setattr(Trainer, "ends", ends)
    asked, place = config(EIGHT) | {"key": key}, Place(runs=str(runs.path), data="d", commit="c")
    if isinstance(comes_to, str):
        worker.trial(asked, place, "/scratch")
        assert reported == [{"state": comes_to}]
    else:
        with pytest.raises(comes_to):
            worker.trial(asked, place, "/scratch")
    record = runs.read(key)
    assert record is not None
    own = comes_to is TrainingFailedError
    assert (record.state, record.error) == (("failed", "ValueError: a batch of 3") if own else ("running", None))
