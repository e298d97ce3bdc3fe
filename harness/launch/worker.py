"""The body of a trial: the run in this very process, or in Ray Train workers of its own."""

from __future__ import annotations

import gc
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray import tune
from ray.tune import PlacementGroupFactory

from harness.launch.frontier import ELSEWHERE
from harness.launch.place import Place
from harness.launch.share import Demand
from harness.launch.task import execute, fail
from harness.tracking.lease import BusyError
from harness.tracking.record import Runs

DRIVER = {"memory": 2.0**20}  # of a trial whose workers do the work: no share of a core that they may need


def resources(config: dict[str, Any]) -> PlacementGroupFactory:
    """What Tune reserves for a trial."""
    demand = Demand(**config["demand"])
    return PlacementGroupFactory([DRIVER if demand.workers > 1 else {"CPU": demand.cpus, "GPU": demand.gpu}])


def trial(config: dict[str, Any], place: Place, scratch: str) -> None:
    """One run, as Tune calls it. Tune's retry of a raised error finds the run's checkpoint."""
    demand = Demand(**config["demand"])
    state = _together(config, place, demand, scratch) if demand.workers > 1 else _alone(config, place, demand)
    tune.report({"state": state})


def _alone(config: dict[str, Any], place: Place, demand: Demand) -> str:
    """The run in the trial's own process, which Tune keeps for the next that asks for as much: no start-up for each.

    Of the GPUs it sees the one that Ray gave it a share of.
    """
    on_gpu = demand.gpu > 0 and torch.cuda.is_available()
    try:
        device = "cuda:0" if on_gpu else "cpu"
        return _attempt(config, replace(place, threads=demand.cpus, device=device, gpu_share=demand.gpu))
    finally:
        if on_gpu:  # Torch would keep the memory, which is now others'
            gc.collect()
            torch.cuda.empty_cache()


def _attempt(config: dict[str, Any], place: Place) -> str:
    """How the run ended, or that another sweep has it."""
    try:
        return execute(config["key"], place, config["companions"]).state
    except BusyError:
        return ELSEWHERE


def _together(config: dict[str, Any], place: Place, demand: Demand, scratch: str) -> str:
    """The run on several ranks. Retries are Tune's alone: two kinds would multiply."""
    trainer = ray.train.torch.TorchTrainer(
        _train_worker,
        train_loop_config=config | {"place": asdict(replace(place, threads=demand.cpus))},
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if demand.gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=demand.workers,
            use_gpu=demand.gpu > 0,
            resources_per_worker={"CPU": demand.cpus} | ({"GPU": demand.gpu} if demand.gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=f"train-{config['key']}",
            storage_path=scratch,  # our own checkpoints hold the state
            failure_config=ray.train.FailureConfig(max_failures=0),
        ),
    )
    try:
        result = trainer.fit()
    except Exception as error:
        # Where rank 0 did not fail itself, nobody has said so yet.
        failures = getattr(error, "worker_failures", None) or {0: error}
        fail(Runs(Path(place.runs)), config["key"], str(next(iter(failures.values()))).strip().splitlines()[-1])
        raise
    state: str = result.return_value
    return state


def _train_worker(config: dict[str, Any]) -> str:
    """One rank. Ray Train has joined the process group."""
    place = Place(**config["place"])
    device = ray.train.torch.get_device()
    return _attempt(config, replace(place, device=str(device)))
