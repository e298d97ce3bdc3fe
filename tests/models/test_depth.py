"""The depth network: up-convolutions against unpooling, its size, and its geometry."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.models.depth import DepthNetwork, UpProjection, up_convolution
from harness.models.resnet import ResNet


def unpooled(x: Tensor, kernel: Tensor) -> Tensor:
    """Zeros inserted after every value, right and below, then the 5x5 convolution."""
    spread = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    spread[..., ::2, ::2] = x
    return F.conv2d(spread, kernel, padding=2)


def interleaved(x: Tensor, kernel: Tensor) -> Tensor:
    """Four convolutions of 3x3, 3x2, 2x3 and 2x2 taps, whose outputs lie beside each other."""
    out = x.new_zeros(len(x), len(kernel), 2 * x.shape[2], 2 * x.shape[3])
    padded = F.pad(x, (1, 1, 1, 1))
    for row in (0, 1):
        for column in (0, 1):
            taps = kernel[..., row::2, column::2]
            assert taps.shape[2:] == (3 - row, 3 - column)
            out[..., row::2, column::2] = F.conv2d(padded[..., row:, column:], taps)
    return out


def test_up_convolution_is_unpooling_and_a_convolution(float64: None) -> None:
    """Laina et al.'s two forms, the plain and the fast one, are ours to the last digits."""
    layer = up_convolution(3, 4)
    kernel = layer.weight.transpose(0, 1).flip(2, 3)
    x = torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(layer(x), unpooled(x, kernel), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(layer(x), interleaved(x, kernel), rtol=1e-13, atol=1e-13)


def test_an_up_projection_is_its_two_branches(float64: None) -> None:
    """5x5, 3x3 and the 5x5 projection, with a norm after each and the ReLU where the paper draws it."""
    block = UpProjection(3, 4).eval()
    for norm in (block.norm1, block.norm2, block.norm3):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 5, 4)
    first, second = (unpooled(x, up.weight.transpose(0, 1).flip(2, 3)) for up in (block.up, block.projection))
    y = F.conv2d(F.relu(block.norm1(first)), block.conv.weight, padding=1)
    torch.testing.assert_close(block(x), F.relu(block.norm2(y) + block.norm3(second)))


def test_the_initial_scale_is_that_of_the_5x5_convolution() -> None:
    """Truncated normal of 1 / sqrt(fan_in), the fan of all 25 taps."""
    weight = up_convolution(8, 64).weight
    assert weight.shape == (8, 64, 5, 5)
    assert weight.std().item() == pytest.approx(0.8796 / (8 * 25) ** 0.5, rel=0.02)


def test_parameters() -> None:
    """63.6 million, of which ResNet-50 has 23.5: filters of 512, 256, 128 and 64 on half of its 2048 channels."""
    with torch.device("meta"):
        net = DepthNetwork(ResNet("resnet50"))
    ups = [layer for layer in net.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [tuple(up.weight.shape[:2]) for up in ups[::2]] == [(1024, 512), (512, 256), (256, 128), (128, 64)]
    halving, widths = 2048 * 1024 + 2 * 1024, [1024, 512, 256, 128, 64]
    each = [2 * 25 * before * after + 9 * after**2 + 6 * after for before, after in pairwise(widths)]
    assert sum(p.numel() for p in net.parameters()) == 23_508_032 + halving + sum(each) + 9 * 64 + 1 == 63_563_009


@pytest.mark.parametrize(
    ("encoder", "positions"), [("resnet50", (128, 160)), ("resnet18", (128, 160)), ("resnet_tiny", (464, 608))]
)
def test_the_prediction_has_the_images_size(encoder: str, positions: tuple[int, int]) -> None:
    """160 x 128 positions for 304 x 228 pixels, as Laina et al. have; 16 times those of the encoder, any encoder."""
    inside: list[torch.Size] = []
    with torch.device("meta"):
        net = DepthNetwork(ResNet(encoder))
        net.prediction.register_forward_hook(lambda *args: inside.append(args[2].shape))
        assert net(torch.empty(2, 3, 228, 304)).shape == (2, 228, 304)
    assert inside == [(2, 1, *positions)]


def test_what_is_cut_is_what_lies_beyond_the_image() -> None:
    """A depth that rises by 1 a position falls on the pixels it belongs to: 2 pixels a position, from the left edge."""
    net = DepthNetwork(ResNet("resnet18")).eval()
    rising = torch.arange(160.0).expand(1, 1, 128, 160)
    net.prediction.register_forward_hook(lambda *_: rising)
    with torch.no_grad():
        depth = net(torch.zeros(1, 3, 228, 304))[0]
    pixels = torch.arange(304.0)
    torch.testing.assert_close(depth[100, 1:-1], pixels[1:-1] / 2 - 0.25)


def test_the_gradient_reaches_every_parameter() -> None:
    """Encoder, halving, up-projections and prediction are all trained."""
    net = DepthNetwork(ResNet("resnet_tiny"), filters=(8, 4))
    net(torch.rand(2, 3, 24, 20)).square().mean().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()]
