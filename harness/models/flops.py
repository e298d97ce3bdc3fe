"""The arithmetic a forward pass costs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def multiply_adds(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-adds of the convolutions and linear layers in one evaluation-mode forward pass.

    Shapes alone are run (the meta device), so no input is needed and any size is instant. `input_shape`
    includes the batch.
    """
    shadow = copy.deepcopy(module).to("meta").eval()
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        # each output value is one inner product with a weight[i], whatever its kernel and groups; a transposed
        # convolution adds each input value times a weight[i]
        values = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        total += values.numel() * layer.get_parameter("weight")[0].numel()

    for layer in shadow.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        shadow(torch.empty(input_shape, device="meta"))
    return total
