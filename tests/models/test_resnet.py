"""The encoders against torchvision's, and their known sizes and costs."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import nn

from harness.models.flops import multiply_adds
from harness.models.norm import BatchNorm
from harness.models.resnet import ENCODERS, ResNet, parameter_count


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50"])
def test_torchvision_weights_load_and_agree(encoder: str) -> None:
    """Names, strides, padding and order of operations are the standard ones."""
    theirs = torchvision.models.get_model(encoder, weights=None)
    with torch.no_grad():
        for name, buffer in theirs.named_buffers():  # other than 0 and 1, or buffers would go untested
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.8, 1.2)
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    ours = ResNet(encoder)
    ours.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    theirs.fc = nn.Identity()
    x = torch.randn(2, 3, 65, 65, dtype=torch.float64)  # float32 kernels differ in the order they add
    with torch.no_grad():
        torch.testing.assert_close(ours.double().eval()(x), theirs.double().eval()(x), rtol=1e-10, atol=1e-10)


def test_sizes_are_the_known_ones() -> None:
    """Table 1's parameter counts, in millions: 24 (1x), 94 (2x), 375 (4x) for ResNet-50."""
    assert parameter_count("resnet50") == 23_508_032
    assert parameter_count("resnet18") == 11_176_512
    assert round(parameter_count("resnet50", 2) / 1e6) == 94
    assert round(parameter_count("resnet50", 4) / 1e6) == 375


def test_costs_are_the_known_ones() -> None:
    """ResNet-50 at 224 is 4.09e9 multiply-adds (stride on the 3x3), ResNet-18 1.81e9."""
    shape = (1, 3, 224, 224)
    with torch.device("meta"):
        assert multiply_adds(ResNet("resnet50"), shape) == pytest.approx(4.09e9, rel=1e-3)
        assert multiply_adds(ResNet("resnet18"), shape) == pytest.approx(1.81e9, rel=5e-3)


def test_costs_count_batch_groups_and_linear_layers_and_leave_the_module() -> None:
    """The count is exact on layers that can be counted by hand, and touches neither weights nor mode."""
    net = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.Flatten(), nn.Linear(6 * 25, 7))
    assert multiply_adds(net, (2, 4, 5, 5)) == 2 * (6 * 25 * 2 * 9 + 150 * 7)
    assert net.training
    assert net[2].weight.device.type == "cpu"


@pytest.mark.parametrize("encoder", list(ENCODERS))
@pytest.mark.parametrize("width", [1, 2])
def test_shapes(encoder: str, width: int) -> None:
    """`features` is the width of the representation, for every encoder and width."""
    with torch.device("meta"):
        net = ResNet(encoder, width)
        assert net(torch.empty(2, 3, 32, 32)).shape == (2, net.features)
        assert net.features == width * ResNet(encoder).features


def test_small_stem_halves_once() -> None:
    """On 16-pixel images the last stage still sees 2 x 2 positions."""
    net = ResNet("resnet_tiny").eval()
    shapes = []
    net.layer3.register_forward_hook(lambda *args: shapes.append(args[2].shape))
    net(torch.randn(1, 3, 16, 16))
    assert shapes == [(1, 64, 2, 2)]


def test_initial_weights_are_haikus() -> None:
    """Truncated normal of scale 1/sqrt(fan_in), every gamma 1 (also the residual ones), every beta 0."""
    net = ResNet("resnet18")
    weight = net.layer4[0].conv2.weight
    scale = 1 / math.sqrt(512 * 9)
    assert weight.abs().max() <= 2 * scale
    assert weight.std().item() == pytest.approx(0.8796 * scale, rel=0.01)
    for module in net.modules():
        if isinstance(module, BatchNorm):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert torch.equal(module.bias, torch.zeros_like(module.bias))


def test_unknown_encoders_are_named() -> None:
    """The message says what there is."""
    with pytest.raises(ValueError, match=r"resnet34.*resnet18"):
        ResNet("resnet34")
