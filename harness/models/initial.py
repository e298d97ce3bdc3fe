"""Initial weights, as the release draws them."""

from __future__ import annotations

import math

import torch
from torch import nn


def initialise(layer: nn.Conv2d | nn.Linear) -> None:
    """Draw a layer's weights from N(0, 1 / fan_in) cut at two of its standard deviations; its bias is zero.

    That is haiku's default for linear layers and convolutions, and the release overrides neither. Cutting
    leaves a standard deviation of 0.88 / sqrt(fan_in), which haiku does not correct for.
    """
    deviation = 1 / math.sqrt(layer.weight[0].numel())
    nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


@torch.no_grad()
def rescale(module: nn.Module, factor: float) -> None:
    """Multiply the weights of every convolution and linear layer below; no random number is drawn."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.mul_(factor)
