"""The FCN: its strides and dilations, whose weights it has, and what its logits are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.models.conventions import DEEPMIND
from harness.models.resnet import ResNet
from harness.models.segmentation import FCN, dilate
from harness.models.shape import build


def hooked(net: FCN) -> list[Tensor]:
    """Where the coarse logits of the next forward will be put."""
    coarse: list[Tensor] = []
    net.classifier.register_forward_hook(lambda *args: coarse.append(args[2]))
    return coarse


@pytest.mark.parametrize(("encoder", "stride"), [("resnet50", 16), ("resnet18", 16), ("resnet_tiny", 4)])
def test_the_total_stride_is_half_the_encoders(encoder: str, stride: int) -> None:
    """FCN-16s on crops of 513: 33 x 33 positions, and one logit a pixel and class."""
    with torch.device("meta"):
        plain = ResNet(encoder)
        assert plain.stride == 2 * stride
        net = FCN(plain, 21)
        coarse = hooked(net)
        assert net(torch.empty(2, 3, 513, 385)).shape == (2, 21, 513, 385)
    assert coarse[0].shape == (2, 21, 512 // stride + 1, 384 // stride + 1)


def test_dilations_are_where_the_paper_puts_them() -> None:
    """2 in every 3x3 of conv5, 6 in the head's two, with 256 channels, and none anywhere else."""
    with torch.device("meta"):
        net = FCN(ResNet("resnet50"), 21)
    found = {name: layer for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)}
    dilated = {name: layer.dilation[0] for name, layer in found.items() if layer.dilation != (1, 1)}
    assert dilated == {**{f"encoder.layer4.{i}.conv2": 2 for i in range(3)}, "head.0": 6, "head.3": 6}
    assert all(layer.padding == layer.dilation for name, layer in found.items() if name in dilated)
    assert [found[name].stride for name in ("encoder.layer4.0.conv2", "encoder.layer4.0.downsample.0")] == [(1, 1)] * 2
    assert found["encoder.layer3.0.conv2"].stride == (2, 2)
    assert [found[f"head.{i}"].weight.shape for i in (0, 3)] == [(256, 2048, 3, 3), (256, 256, 3, 3)]


def test_parameters() -> None:
    """28,822,869: ResNet-50's 23,508,032 and the head's; the encoder gets none, and its names stay."""
    with torch.device("meta"):
        encoder = ResNet("resnet50")
        names = [f"encoder.{name}" for name in encoder.state_dict()]
        net = FCN(encoder, 21)
    assert sum(p.numel() for p in encoder.parameters()) == 23_508_032
    weights, norms, classifier = 9 * 256 * (2048 + 256), 2 * 2 * 256, 21 * (256 + 1)
    total = sum(p.numel() for p in net.parameters())
    assert total == 23_508_032 + weights + norms + classifier == 28_822_869
    assert [name for name in net.state_dict() if name.startswith("encoder.")] == names


@pytest.mark.parametrize("padding", ["torch", "same"])
def test_dilation_is_taps_with_zeros_between(padding: str) -> None:
    """The stage's own weights, spread over 5x5 with zeros between them and stride 1, on an even and an odd side."""
    encoder = ResNet("resnet_tiny").double() if padding == "torch" else build("resnet_tiny", 1, DEEPMIND).double()
    stage = encoder.get_submodule("layer3").eval()
    convolutions = [copy.deepcopy(stage[0].conv1).weight, copy.deepcopy(stage[0].conv2).weight]
    dilate(stage, 2)
    x = torch.randn(2, 32, 8, 7, dtype=torch.float64)
    spread = []
    for weight in convolutions:
        kernel = weight.new_zeros(*weight.shape[:2], 5, 5)
        kernel[..., ::2, ::2] = weight
        spread.append(kernel)
    block = stage[0]
    y = block.bn2(F.conv2d(F.relu(block.bn1(F.conv2d(x, spread[0], padding=2))), spread[1], padding=2))
    shortcut = block.downsample[1](F.conv2d(x, block.downsample[0].weight))
    torch.testing.assert_close(stage(x), F.relu(y + shortcut), rtol=1e-12, atol=1e-12)


def test_logits_at_the_maps_positions_are_theirs() -> None:
    """The enlargement is bilinear and exact: every fourth pixel is a position's own, the one between is the mean."""
    net = FCN(ResNet("resnet_tiny"), 5).double().eval()
    coarse = hooked(net)
    logits = net(torch.randn(1, 3, 33, 25, dtype=torch.float64))
    torch.testing.assert_close(logits[..., ::4, ::4], coarse[0])
    torch.testing.assert_close(logits[..., 2::4, ::4], (coarse[0][..., 1:, :] + coarse[0][..., :-1, :]) / 2)


def test_the_gradient_reaches_every_parameter() -> None:
    """Fine-tuning trains all of it, the first convolution too; batch statistics wait for their commit."""
    net = FCN(ResNet("resnet_tiny"), 5)
    net(torch.randn(2, 3, 33, 33)).square().mean().backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not still
    assert net.head[1].pending is not None
