"""The body of a trial: the run in this very process, or in Ray Train workers of its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
from ray import tune

from harness.launch.frontier import ELSEWHERE
from harness.launch.place import Place
from harness.launch.task import execute, fail
from harness.tracking.lease import BusyError
from harness.tracking.record import Runs


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many processes share one pretraining, and whether each has a GPU."""

    number: int = 1
    gpu: bool = False

    @property
    def in_trial(self) -> bool:
        """One worker on the CPU trains in the trial's own process, which Tune reuses: no start-up cost for each run."""
        return self.number == 1 and not self.gpu


def trial(config: dict[str, Any], place: Place, workers: Workers, scratch: str) -> None:
    """One run, as Tune calls it. Tune's retry of a raised error finds the run's checkpoint."""
    key = config["key"]
    state = _attempt(key, place) if workers.in_trial else _together(key, place, workers, scratch)
    tune.report({"state": state})


def _attempt(key: str, place: Place) -> str:
    """How the run ended, or that another sweep has it."""
    try:
        return execute(key, place).state
    except BusyError:
        return ELSEWHERE


def _together(key: str, place: Place, workers: Workers, scratch: str) -> str:
    """The run on several ranks, or on one with a GPU. Retries are Tune's alone: two kinds would multiply."""
    trainer = ray.train.torch.TorchTrainer(
        _train_worker,
        train_loop_config={"key": key, "place": asdict(place)},
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if workers.gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.number,
            use_gpu=workers.gpu,
            resources_per_worker={"CPU": place.threads} | ({"GPU": 1} if workers.gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=f"train-{key}",
            storage_path=scratch,  # our own checkpoints hold the state
            failure_config=ray.train.FailureConfig(max_failures=0),
        ),
    )
    try:
        result = trainer.fit()
    except Exception as error:
        # Where rank 0 did not fail itself, nobody has said so yet.
        failures = getattr(error, "worker_failures", None) or {0: error}
        fail(Runs(Path(place.runs)), key, str(next(iter(failures.values()))).strip().splitlines()[-1])
        raise
    state: str = result.return_value
    return state


def _train_worker(config: dict[str, Any]) -> str:
    """One rank. Ray Train has joined the process group."""
    place = Place(**config["place"])
    device = ray.train.torch.get_device()
    return _attempt(config["key"], replace(place, device=str(device)))
