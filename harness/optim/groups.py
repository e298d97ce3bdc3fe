"""Which parameters LARS adapts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def parameter_groups(*modules: nn.Module, multiplier: float = 1.0) -> list[dict[str, Any]]:
    """Two groups for LARS: weights of two or more dimensions, adapted; biases and norm parameters, not.

    By the number of dimensions, not by name: names miss the batch norms of shortcuts and heads. `multiplier` is a
    factor for whoever sets the groups' learning rates.
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "adapt": True, "multiplier": multiplier},
        {"params": [p for p in parameters if p.ndim <= 1], "adapt": False, "multiplier": multiplier},
    ]
