"""The body of a trial: the run in this very process, or in Ray Train workers of its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import ray.train
import ray.train.torch
from ray import tune

from harness.launch.task import Place, execute


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many processes share one pretraining, and whether each has a GPU."""

    number: int = 1
    gpu: bool = False

    @property
    def in_trial(self) -> bool:
        """One worker on the CPU trains in the trial's own process, which Tune reuses: no start-up cost for each run."""
        return self.number == 1 and not self.gpu


def trial(config: dict[str, Any], place: Place, workers: Workers) -> None:
    """One run, as Tune calls it. Tune's retry of a raised error finds the run's checkpoint."""
    if workers.in_trial:
        tune.report({"state": execute(config["key"], place).state})
        return
    result = ray.train.torch.TorchTrainer(
        _train_worker,
        train_loop_config={"key": config["key"], "place": asdict(place)},
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if workers.gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.number,
            use_gpu=workers.gpu,
            resources_per_worker={"CPU": place.threads} | ({"GPU": 1} if workers.gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=f"train-{config['key']}",
            storage_path=place.runs,
            failure_config=ray.train.FailureConfig(max_failures=2),
        ),
    ).fit()
    if result.error is not None:
        raise result.error
    tune.report({"state": result.return_value})


def _train_worker(config: dict[str, Any]) -> str:
    """One rank. Ray Train has joined the process group; our own checkpoints hold the state."""
    place = Place(**config["place"])
    device = ray.train.torch.get_device()
    return execute(config["key"], replace(place, device=str(device))).state
