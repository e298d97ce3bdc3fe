"""The residual encoders: ResNet version 1 (post-activation), of several depths and widths.

Parameters carry torchvision's names, so state dicts map one to one (but for `num_batches_tracked` and `fc`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.models.initial import initialise
from harness.models.norm import Norm, StandardisedConv2d, normalisation


class Basic(nn.Module):
    """relu(x + norm(conv3x3(relu(norm(conv3x3(x)))))), the shortcut projected where the shape changes."""

    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, channels, 3, stride, norm=norm)
        self.bn1 = normalisation(channels, norm)
        self.conv2 = convolution(channels, channels, 3, norm=norm)
        self.bn2 = normalisation(channels, norm)
        self.downsample = shortcut(inputs, channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Residual first, then the shortcut."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions to 4 * `channels`. The stride is on the 3x3, as in haiku's BlockV1."""

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        outputs = channels * self.expansion
        self.conv1 = convolution(inputs, channels, 1, norm=norm)
        self.bn1 = normalisation(channels, norm)
        self.conv2 = convolution(channels, channels, 3, stride, norm=norm)
        self.bn2 = normalisation(channels, norm)
        self.conv3 = convolution(channels, outputs, 1, norm=norm)
        # gamma starts at 1, as in the paper's runs; the release starts it at 0, which its README says differs
        self.bn3 = normalisation(outputs, norm)
        self.downsample = shortcut(inputs, outputs, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Residual first, then the shortcut."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x), inplace=True)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What tells one encoder from another. `channels` is the first stage's; each further stage doubles it.

    stem: `imagenet` is a 7x7 convolution and a 3x3 max-pool, both of stride 2; `small` one 3x3 convolution of
    stride 2, for images of 16 to 32 pixels.
    """

    block: type[Basic] | type[Bottleneck]
    depths: tuple[int, ...]
    channels: int
    stem: Literal["imagenet", "small"]


ENCODERS: dict[str, Encoder] = {
    "resnet_tiny": Encoder(block=Basic, depths=(1, 1, 1), channels=16, stem="small"),
    "resnet18": Encoder(block=Basic, depths=(2, 2, 2, 2), channels=64, stem="imagenet"),
    "resnet34": Encoder(block=Basic, depths=(3, 4, 6, 3), channels=64, stem="imagenet"),
    "resnet50": Encoder(block=Bottleneck, depths=(3, 4, 6, 3), channels=64, stem="imagenet"),
    "resnet101": Encoder(block=Bottleneck, depths=(3, 4, 23, 3), channels=64, stem="imagenet"),
    "resnet152": Encoder(block=Bottleneck, depths=(3, 8, 36, 3), channels=64, stem="imagenet"),
    "resnet200": Encoder(block=Bottleneck, depths=(3, 24, 36, 3), channels=64, stem="imagenet"),
}


class ResNet(nn.Module):
    """Images (B, 3, H, W) to representations (B, features). `width` multiplies every layer's channels.

    norm: `group` is group norm and weight-standardised convolutions: no image sees another. The names stay.
    """

    def __init__(self, encoder: str, width: int = 1, norm: Norm = "batch") -> None:
        super().__init__()
        if encoder not in ENCODERS:
            raise ValueError(f"no encoder named {encoder!r}: choose one of {', '.join(ENCODERS)}")
        plan = ENCODERS[encoder]
        base = plan.channels * width
        self.conv1 = convolution(3, base, 7 if plan.stem == "imagenet" else 3, 2, norm=norm)
        self.bn1 = normalisation(base, norm)
        self.pool = nn.MaxPool2d(3, 2, 1) if plan.stem == "imagenet" else nn.Identity()
        self.stages = [f"layer{i}" for i in range(1, len(plan.depths) + 1)]
        inputs = base
        for i, (name, depth) in enumerate(zip(self.stages, plan.depths, strict=True)):
            channels = base * 2**i
            blocks: list[nn.Module] = []
            for j in range(depth):
                blocks.append(plan.block(inputs, channels, 2 if i > 0 and j == 0 else 1, norm))
                inputs = channels * plan.block.expansion
            self.add_module(name, nn.Sequential(*blocks))
        self.features = inputs
        # in pixels, from one position of the last stage's output to the next
        self.stride = 2 ** (len(plan.depths) + (plan.stem == "imagenet"))
        # a quarter faster on the CPU here, and what tensor cores want
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub

    def forward(self, x: Tensor) -> Tensor:
        """The output of the final average pooling: the paper's representation y."""
        return self.maps(x, self.stages).mean((2, 3))

    def maps(self, x: Tensor, stages: Sequence[str]) -> Tensor:
        """The output (B, channels, height, width) of the last of `stages`, which are the encoder's first ones."""
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.pool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        for name in stages:
            x = self.get_submodule(name)(x)
        return x


def convolution(inputs: int, outputs: int, size: int, stride: int = 1, *, norm: Norm) -> nn.Conv2d:
    """A convolution without bias, padded by size // 2 on each side; before group norm, of standardised weights."""
    kind = nn.Conv2d if norm == "batch" else StandardisedConv2d
    layer = kind(inputs, outputs, size, stride, padding=size // 2, bias=False)
    initialise(layer)
    return layer


def shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Module:
    """The identity, or a strided 1x1 convolution and a norm where the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(convolution(inputs, outputs, 1, stride, norm=norm), normalisation(outputs, norm))


def parameter_count(encoder: str, width: int = 1) -> int:
    """How many parameters an encoder has, without allocating one; the same with either norm."""
    with torch.device("meta"):
        return sum(p.numel() for p in ResNet(encoder, width).parameters())
