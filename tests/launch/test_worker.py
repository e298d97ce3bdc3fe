"""The body of a trial on one worker: what Tune reserves for it, and the device it works on. No Ray is started."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("ray.tune")
from harness.launch import worker
from harness.launch.frontier import ELSEWHERE
from harness.launch.place import Place
from harness.launch.share import Demand
from harness.tracking.lease import BusyError

QUARTER = Demand(workers=1, cpus=2, gpu=0.25)
CORES = Demand(workers=1, cpus=2, gpu=0.0)
EIGHT = Demand(workers=8, cpus=4, gpu=1.0)


def config(demand: Demand) -> dict[str, Any]:
    """As the frontier suggests it."""
    return {"key": "k", "demand": asdict(demand), "companions": ["c"]}


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
            raise RuntimeError("it failed")
        return SimpleNamespace(state="done")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(len(places)))
    monkeypatch.setattr(worker, "execute", execute)
    monkeypatch.setattr(worker.tune, "report", reported.append)
    place = Place(runs="r", data="d", commit="c")
    worker.trial(config(demand), place, "scratch")
    worker.trial(config(demand), place, "scratch")
    with pytest.raises(RuntimeError, match="it failed"):
        worker.trial(config(demand), place, "scratch")
    assert [one["state"] for one in reported] == ["done", ELSEWHERE]
    assert {(one.device, one.threads, one.gpu_share) for one in places} == {(device, demand.cpus, demand.gpu)}
    assert emptied == ([1, 2, 3] if device == "cuda:0" else [])
