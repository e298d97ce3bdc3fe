"""What the tasks have in common that train one network, an encoder and what is new on it, on labels of any kind."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from torch import nn

from harness.config.schema import Optimizer
from harness.optim.build import build_optimizer

N = TypeVar("N", bound=nn.Module)


class Rule(Protocol):
    """The part of a spec that its optimizer is made by: SGD with Nesterov's momentum."""

    @property
    def learning_rate(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...

    @property
    def momentum(self) -> float: ...


class Reading(Protocol):
    """What feeds a task."""

    def close(self) -> None: ...


class Tuned(Generic[N]):
    """`encoder` and `head` are parts of the network, `last` a third one where there is one."""

    def __init__(
        self,
        rule: Rule,
        reading: Reading,
        network: N,
        encoder: nn.Module,
        head: nn.Module,
        last: nn.Module | None = None,
    ) -> None:
        self.network, self._reading = network, reading
        sgd = Optimizer(
            name="sgd",
            base_lr=rule.learning_rate,
            weight_decay=rule.weight_decay,
            momentum=rule.momentum,
            trust=None,
        )
        self.optimizer = build_optimizer(sgd, encoder, head, last)
        self.updates = 0

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
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state["updates"]

    def close(self) -> None:
        self._reading.close()
