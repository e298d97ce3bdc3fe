"""LARS (You et al. 2017) in the form of the release."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """Layer-wise adaptive rates. For each weight w with gradient g:

        u = g + weight_decay w
        u = u * trust |w| / |u|        (as it is where either norm is 0)
        m = momentum m + u
        w = w - lr m

    The order matters: others divide by |g| + weight_decay |w|, or fold lr into m. Groups with `adapt` False
    (biases and norm parameters, see `parameter_groups`) get neither weight decay nor scaling. A weight decay
    of 0 leaves the scaling on.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float,
        momentum: float = 0.9,
        trust: float = 1e-3,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "trust": trust,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if weights:
                self._update(group, weights)

    def _update(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        updates = [w.grad for w in weights if w.grad is not None]
        if group["adapt"]:
            updates = _adapted(weights, updates, group["weight_decay"], group["trust"])
        for w in weights:
            if not self.state[w]:
                self.state[w]["momentum"] = torch.zeros_like(w)
        momenta = [self.state[w]["momentum"] for w in weights]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, updates)
        torch._foreach_add_(weights, momenta, alpha=-group["lr"])


def _adapted(weights: list[Tensor], gradients: list[Tensor], weight_decay: float, trust: float) -> list[Tensor]:
    """Scale u = g + weight_decay w by trust |w| / |u|, all on the device: no norm is read back."""
    updates = list(torch._foreach_add(gradients, weights, alpha=weight_decay))
    w_norms = torch.stack(torch._foreach_norm(weights))
    u_norms = torch.stack(torch._foreach_norm(updates))
    ratios = torch.where((w_norms > 0) & (u_norms > 0), trust * w_norms / u_norms, 1.0)
    torch._foreach_mul_(updates, list(ratios.unbind()))
    return updates
