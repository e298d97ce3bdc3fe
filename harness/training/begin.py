"""The task that a pretraining's objective asks for."""

from __future__ import annotations

import torch

from harness.config.schema import Pretrain
from harness.data.prepare import Dataset
from harness.training.pretraining import Pretraining
from harness.training.ranks import Ranks
from harness.training.supervision import Supervised


def begin(
    spec: Pretrain,
    dataset: Dataset,
    device: torch.device,
    ranks: Ranks,
    threads: int,
    online_classifier: bool = False,
) -> Pretraining | Supervised:
    """A supervised network is its own classifier: `online_classifier` is for the others."""
    if spec.objective.name == "supervised":
        return Supervised(spec, dataset, device, ranks, threads)
    return Pretraining(spec, dataset, device, ranks, threads, online_classifier)
