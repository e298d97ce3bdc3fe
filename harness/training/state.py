"""Everything a pretraining holds between two updates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from harness.config.schema import Pretrain
from harness.models import norm
from harness.models.heads import MLP
from harness.models.networks import Classifier, Network, Target, classifier, predictor
from harness.optim.build import build_optimizer
from harness.training.ranks import Ranks


class Learner(Protocol):
    """What an optimizer step needs of a state."""

    optimizer: torch.optim.Optimizer
    updates: int

    @property
    def networks(self) -> list[nn.Module]:
        """Every module with batch norm in it."""

    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""


@dataclass
class State:
    """Online network, predictor, target and optimizer; `ema_updates` counts the target's moves."""

    online: Network
    predictor: MLP | None
    target: Target
    optimizer: torch.optim.Optimizer
    updates: int = 0
    ema_updates: int = 0
    history: list[dict[str, float]] = field(default_factory=list)  # the last diagnostics, for the collapse flag
    tail: dict[str, float] = field(default_factory=dict)  # sums over the updates of the last epochs

    @property
    def trained(self) -> list[nn.Module]:
        return [self.online] if self.predictor is None else [self.online, self.predictor]

    @property
    def networks(self) -> list[nn.Module]:
        """Every module with batch norm in it, the target's own copy included."""
        return self.trained if self.target.network is None else [*self.trained, self.target.network]

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for module in self.trained for parameter in module.parameters()]

    def state_dict(self) -> dict[str, Any]:
        return {
            "networks": [module.state_dict() for module in self.networks],
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "ema_updates": self.ema_updates,
            "history": self.history,
            "tail": self.tail,
            "rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for module, saved in zip(self.networks, state["networks"], strict=True):
            module.load_state_dict(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state["updates"]
        self.ema_updates = state["ema_updates"]
        self.history = list(state["history"])
        self.tail = dict(state["tail"])
        torch.set_rng_state(state["rng"].cpu())


@dataclass
class SupervisedState:
    """Of a network that is trained on labels."""

    network: Classifier
    optimizer: torch.optim.Optimizer
    updates: int = 0
    history: list[dict[str, float]] = field(default_factory=list)  # the last diagnostics

    @property
    def networks(self) -> list[nn.Module]:
        return [self.network]

    def parameters(self) -> list[nn.Parameter]:
        return list(self.network.parameters())

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state["updates"]
        self.history = list(state["history"])


def build_state(spec: Pretrain, device: torch.device, ranks: Ranks) -> State:
    """Networks initialised from the seed alone, the same on every rank; the target starts as a copy of the online."""
    torch.manual_seed(spec.seed)
    dtype = getattr(torch, spec.precision)
    online = Network(spec.model).to(device, dtype)
    head = predictor(spec.model)
    head = None if head is None else head.to(device, dtype)
    assert spec.objective.target is not None, "labels are trained on by a state of their own"
    target = Target(online, spec.objective.target)
    optimizer = build_optimizer(spec.optimizer, online.encoder, online.projector, head)
    state = State(online, head, target, optimizer)
    for module in state.networks:
        module.train()
        norm.set_group(module, ranks.group)
    return state


def build_supervised(spec: Pretrain, classes: int, device: torch.device, ranks: Ranks) -> SupervisedState:
    """As build_state: initialised from the seed alone, the same on every rank."""
    torch.manual_seed(spec.seed)
    network = classifier(spec.model, classes).to(device, getattr(torch, spec.precision)).train()
    norm.set_group(network, ranks.group)
    return SupervisedState(network, build_optimizer(spec.optimizer, network.encoder, network.classifier, None))
