"""The online classifier of the release: how good the representation is while it is trained, at next to no cost.

It learns from labels, which the encoder must not: no gradient leaves it, and nothing is ever selected by its accuracy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.config.schema import Optimizer
from harness.models.initial import initialise
from harness.optim.build import build_optimizer
from harness.training.ranks import Ranks


class Probe:
    """A linear layer on the first view's representation, trained along by an optimizer like the encoder's."""

    def __init__(self, features: int, classes: int, spec: Optimizer, device: torch.device, dtype: torch.dtype) -> None:
        layer = nn.Linear(features, classes)
        initialise(layer)
        self.layer = layer.to(device, dtype)
        self.optimizer = build_optimizer(spec, self.layer, nn.Identity(), None)
        self.correct = torch.zeros((), device=device)

    def update(self, representations: Tensor, labels: Tensor, learning_rate: float, ranks: Ranks) -> None:
        """One step on this update's images; `correct` is the share that was named rightly before it."""
        logits = self.layer(representations.detach())
        self.correct = (logits.argmax(1) == labels).float().mean()
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits, labels).backward()
        ranks.average_gradients(self.layer.parameters())
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()

    def top1(self, ranks: Ranks) -> float:
        """Percent of the last update's images that were named rightly."""
        return 100 * float(ranks.average(self.correct))

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"layer": self.layer.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.layer.load_state_dict(state["layer"])
        self.optimizer.load_state_dict(state["optimizer"])
