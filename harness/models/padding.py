"""Padding as TensorFlow's SAME does it, for encoders that were trained with it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


def pad_same(encoder: nn.Module) -> None:
    """Make every strided convolution and max-pool of `encoder` pad as SAME does; parameters and names stay.

    With stride 1 and an odd kernel that is what they do already. With stride 2 on an even side it is not: SAME pads
    a 3x3 kernel by (0, 1), torch by (1, 1), so the windows lie one pixel apart.
    """
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d) and _first(layer.stride) > 1 and _first(layer.kernel_size) > 1:
            layer.padding = (0, 0)
            layer.register_forward_pre_hook(_pad)


def _pad(layer: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """ceil(side / stride) windows; the odd pixel goes to the right and the bottom. Max-pools follow a ReLU: 0 pads."""
    (x,) = inputs
    # a stage may have been dilated since, in place of its stride
    kernel, stride = 1 + _first(layer.dilation) * (_first(layer.kernel_size) - 1), _first(layer.stride)
    top, bottom = _sides(x.shape[-2], kernel, stride)
    left, right = _sides(x.shape[-1], kernel, stride)
    return F.pad(x, (left, right, top, bottom))


def _sides(side: int, kernel: int, stride: int) -> tuple[int, int]:
    windows = -(-side // stride)
    missing = max((windows - 1) * stride + kernel - side, 0)
    return missing // 2, missing - missing // 2


def _first(value: Any) -> int:
    """The encoders' kernels and strides are square; a pool has one number, a convolution a pair."""
    return int(value[0] if isinstance(value, tuple) else value)
