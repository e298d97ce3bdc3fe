"""The optimizer that a run declares, over its networks' parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.optim import SGD, Adam
from torch.optim import Optimizer as TorchOptimizer

from harness.optim.groups import parameter_groups
from harness.optim.lars import LARS

if TYPE_CHECKING:
    from torch import nn

    from harness.config.schema import Optimizer


def build_optimizer(
    spec: Optimizer, encoder: nn.Module, projector: nn.Module, predictor: nn.Module | None
) -> TorchOptimizer:
    """LARS; SGD with Nesterov's momentum, whose weight decay spares biases and norm parameters as LARS's does; or Adam
    with torch's L2 weight decay on every parameter.

    The learning rate is 0 until each group is given the update's, times the group's `multiplier`. A module whose
    multiplier is 0 is frozen: its parameters get no gradient and are in no group.
    """
    parts = [(encoder, 1.0), (projector, spec.projector_multiplier)]
    if predictor is not None:
        parts.append((predictor, spec.predictor_multiplier))
    groups = []
    for multiplier in dict.fromkeys(multiplier for _, multiplier in parts):
        modules = [module for module, own in parts if own == multiplier]
        if multiplier == 0:
            for module in modules:
                module.requires_grad_(False)
        else:
            groups += parameter_groups(*modules, multiplier=multiplier)
    if spec.name == "sgd":
        decayed = [{**group, "weight_decay": spec.weight_decay if group["adapt"] else 0.0} for group in groups]
        return SGD(decayed, lr=0.0, momentum=spec.momentum, nesterov=True)
    if spec.name == "adam":
        return Adam(groups, lr=0.0, betas=(spec.momentum, 0.999), eps=1e-8, weight_decay=spec.weight_decay)
    assert spec.trust is not None, "LARS has a trust coefficient"
    return LARS(groups, lr=0.0, weight_decay=spec.weight_decay, momentum=spec.momentum, trust=spec.trust)
