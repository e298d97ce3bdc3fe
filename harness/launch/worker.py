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
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.tune import PlacementGroupFactory

from harness.launch.attempts import LostError, UnplacedError, is_loss, loss_among
from harness.launch.frontier import ELSEWHERE, STOPPED
from harness.launch.place import Place
from harness.launch.share import Demand
from harness.launch.task import execute, fail
from harness.tracking.lease import BusyError
from harness.tracking.record import Runs
from harness.training.loop import Stopped

DRIVER = {"memory": 2.0**20}  # of a trial whose workers do the work: no share of a core that they may need


def resources(config: dict[str, Any]) -> PlacementGroupFactory:
    """What Tune reserves for a trial."""
    demand = Demand(**config["demand"])
    return PlacementGroupFactory([DRIVER if demand.workers > 1 else {"CPU": demand.cpus, "GPU": demand.gpu}])


def trial(config: dict[str, Any], place: Place, scratch: str) -> None:
    """One attempt at a run, as Tune calls it; the frontier makes another one, which finds the run's checkpoint."""
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
    """How the run ended, that another sweep has it, or that an end was asked for."""
    try:
        return execute(config["key"], place, config["companions"]).state
    except BusyError:
        return ELSEWHERE
    except Stopped:
        return STOPPED


def _together(config: dict[str, Any], place: Place, demand: Demand, scratch: str) -> str:
    """The run on several ranks. Ray Train tries once: two kinds of retries would multiply."""
    trainer = ray.train.torch.TorchTrainer(
        _train_worker,
        train_loop_config=config | {"place": asdict(replace(place, threads=demand.cpus))},
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if demand.gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=demand.workers,
            use_gpu=demand.gpu > 0,
            resources_per_worker={"CPU": demand.cpus} | ({"GPU": demand.gpu} if demand.gpu else {}),
            placement_strategy="STRICT_PACK" if config["one_node"] else "PACK",
        ),
        run_config=ray.train.RunConfig(
            name=f"train-{tune.get_context().get_trial_id()}",
            storage_path=scratch,  # our own checkpoints hold the state
            failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    )
    try:
        state: str = trainer.fit().return_value
    except TrainingFailedError as error:
        state = _fallen(error, config["key"], place)
    return state


def _fallen(error: TrainingFailedError, key: str, place: Place) -> str:
    """What the failures of some ranks come to: a state where rank 0 has gone in good order, else an error."""
    failures = getattr(error, "worker_failures", None) or {0: getattr(error, "controller_failure", error)}
    for failure in failures.values():
        if isinstance(failure, Stopped):
            return STOPPED
        if isinstance(failure, BusyError):
            return ELSEWHERE
        if isinstance(failure, WorkerGroupStartupTimeoutError):
            raise UnplacedError("no room was found for its workers") from None
    lost = loss_among(failures)
    if lost is not None:
        raise LostError(lost) from None
    own = next(failure for failure in failures.values() if not is_loss(failure))
    # Where rank 0 did not fail itself, nobody has said so yet.
    fail(Runs(Path(place.runs)), key, f"{type(own).__name__}: {own}".strip().splitlines()[-1])
    raise error


def _train_worker(config: dict[str, Any]) -> str:
    """One rank. Ray Train has joined the process group; what rank 0 raises ends the others too."""
    place = Place(**config["place"])
    device = ray.train.torch.get_device()
    return execute(config["key"], replace(place, device=str(device)), config["companions"]).state
