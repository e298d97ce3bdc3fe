"""Conventions of an encoder's training that no tensor shows, for encoders that were trained elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from harness.config.datasets import IMAGENET_MEAN, IMAGENET_STD
from harness.models.padding import pad_same
from harness.models.resnet import ResNet

Padding = Literal["torch", "same", "same_pool"]
Inputs = Literal["normalised", "unit"]


@dataclass(frozen=True)
class Conventions:
    """padding: of strided convolutions and max-pools, torch's symmetric one, TensorFlow's SAME (DeepMind's release), or
    SAME for max-pools alone (SimCLR's). inputs: images less ImageNet's mean, over its deviation; or `unit`, the
    values between 0 and 1 themselves (SimCLR's).
    """

    padding: Padding = "torch"
    inputs: Inputs = "normalised"

    def __str__(self) -> str:
        return f"{self.padding} padding and {self.inputs} inputs"

    def adopt(self, encoder: ResNet) -> None:
        """Make `encoder`, which every caller gives normalised images, compute by these; its parameters stay."""
        if self.inputs == "unit":
            # before the convolution pads: a border of zeros is black to these encoders, not ImageNet's mean
            encoder.conv1.register_forward_pre_hook(_unit)
        if self.padding == "same":
            pad_same(encoder)
        elif self.padding == "same_pool":
            pad_same(encoder.pool)


TORCH = Conventions()
DEEPMIND = Conventions(padding="same")
SIMCLR = Conventions(padding="same_pool", inputs="unit")


def _unit(_conv: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Images x std + mean: the images as they were before they were normalised."""
    (x,) = inputs
    mean, std = (x.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return x * std + mean
