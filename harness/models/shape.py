"""The shape of a ResNet: told from the tensors of a file, named where it has a name, built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from harness.config.errors import ConfigError
from harness.models.conventions import TORCH, Conventions
from harness.models.norm import BatchNorm
from harness.models.resnet import ENCODERS, Basic, Bottleneck, ResNet, convolution

_TEXT = re.compile(r"(basic|bottleneck)-(\d+)((?:-\d+x\d+){4})")
_LEFT_OUT = re.compile(r"fc\..*|.*\.num_batches_tracked")  # torchvision's classifier, and counters that nothing reads


class MismatchError(ConfigError):
    """The first tensor that is not that of a ResNet: what was found, what is wanted."""


@dataclass(frozen=True)
class Shape:
    """`stages` are (blocks, channels) of each; a bottleneck block puts out four times its channels.

    As text `bottleneck-64-3x64-4x128-6x256-3x512`: the block, the stem's channels, the stages.
    """

    block: Literal["basic", "bottleneck"]
    stem: int
    stages: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return "-".join([self.block, str(self.stem), *(f"{blocks}x{channels}" for blocks, channels in self.stages)])


def fit(tensors: Mapping[str, Tensor]) -> tuple[str, int, dict[str, Tensor]]:
    """(encoder, width, its state dict) of tensors in torchvision's names, in single precision.

    The encoder is one of ENCODERS, or a shape's text. Raises MismatchError.
    """
    encoder, width = _named(shape_of(tensors))
    state = {}
    with torch.device("meta"):
        wanted = build(encoder, width).state_dict()
    for name, want in wanted.items():
        if name not in tensors:
            raise MismatchError(f"{name} is missing; {encoder} of width {width} wants {_size(want)}")
        if tensors[name].shape != want.shape or not tensors[name].is_floating_point():
            found = f"found {_size(tensors[name])} of {str(tensors[name].dtype).removeprefix('torch.')}"
            raise MismatchError(f"{name}: {found}; {encoder} of width {width} wants {_size(want)} of float32")
        state[name] = tensors[name].detach().float().clone(memory_format=torch.contiguous_format)
    for name, tensor in tensors.items():
        if name not in wanted and not _LEFT_OUT.fullmatch(name):
            raise MismatchError(f"{name}: found {_size(tensor)}; {encoder} of width {width} has none of that name")
    return encoder, width, state


def shape_of(tensors: Mapping[str, Tensor]) -> Shape:
    """What the names and the first convolutions say; `fit` holds the rest against it."""
    stem = _first_of("conv1.weight", tensors)
    stages: list[tuple[int, int]] = []
    while (first := f"layer{len(stages) + 1}.0.conv1.weight") in tensors or not stages:
        channels = _first_of(first, tensors)
        blocks = 1
        while first.replace(".0.", f".{blocks}.") in tensors:
            blocks += 1
        stages.append((blocks, channels))
    return Shape("bottleneck" if "layer1.0.conv3.weight" in tensors else "basic", stem, tuple(stages))


def build(encoder: str, width: int, conventions: Conventions = TORCH) -> ResNet:
    """The network of an imported encoder, with weights as initialised."""
    unnamed = _TEXT.fullmatch(encoder)
    net = ResNet(encoder, width) if unnamed is None else _shaped(unnamed)
    conventions.adopt(net)
    return net


def _shaped(text: re.Match[str]) -> ResNet:
    """A ResNet of four stages, every layer replaced by one of the shape."""
    block, stem, stages = text.groups()
    kind = Basic if block == "basic" else Bottleneck
    with torch.device("meta"):
        net = ResNet("resnet18")
    net.conv1, net.bn1 = convolution(3, int(stem), 7, 2, norm="batch"), BatchNorm(int(stem))
    inputs = int(stem)
    for name, stage in zip(net.stages, stages.removeprefix("-").split("-"), strict=True):
        depth, channels = map(int, stage.split("x"))
        blocks: list[nn.Module] = []
        for j in range(depth):
            blocks.append(kind(inputs, channels, 2 if name != net.stages[0] and j == 0 else 1, "batch"))
            inputs = channels * kind.expansion
        net.add_module(name, nn.Sequential(*blocks))
    net.features = inputs
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub


def _named(shape: Shape) -> tuple[str, int]:
    """(encoder, width) of ENCODERS that has this shape; else its text, of width 1."""
    for name, plan in ENCODERS.items():
        width = shape.stem // plan.channels
        if width and plan.depths == tuple(blocks for blocks, _ in shape.stages):
            with torch.device("meta"):
                if shape_of(ResNet(name, width).state_dict()) == shape:
                    return name, width
    if len(shape.stages) != 4:
        raise MismatchError(f"layer{len(shape.stages)} is the last of {len(shape.stages)} stages; a ResNet has 4")
    return str(shape), 1


def _first_of(name: str, tensors: Mapping[str, Tensor]) -> int:
    """The output channels of a convolution."""
    if name not in tensors:
        raise MismatchError(f"{name} is missing; every ResNet has one")
    if tensors[name].ndim != 4 or not tensors[name].numel():
        raise MismatchError(f"{name}: found {_size(tensors[name])}; a ResNet wants outputs x inputs x height x width")
    return len(tensors[name])


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"
