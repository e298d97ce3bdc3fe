"""The encoders against torchvision's, and their known sizes and costs."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import nn

from harness.models.flops import multiply_adds
from harness.models.norm import BatchNorm
from harness.models.resnet import ResNet, parameter_count


def adopting(encoder: str, theirs: nn.Module, norm: str = "batch") -> ResNet:
    """Our encoder with copies of torchvision's tensors: every name and shape must be the same."""
    state = {k: v.clone() for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    with torch.device("meta"):
        ours = ResNet(encoder, norm=norm)
    ours.load_state_dict({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, assign=True)
    return ours.to(memory_format=torch.channels_last)


def assert_same_features(ours: nn.Module, theirs: nn.Module) -> None:
    """At float64, since float32 kernels differ in the order they add."""
    theirs.fc = nn.Identity()
    x = torch.randn(2, 3, 65, 65, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours.double().eval()(x), theirs.double().eval()(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("encoder", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_torchvision_weights_load_and_agree(encoder: str) -> None:
    """Names, shapes, depths, strides, padding and order of operations are the standard ones."""
    theirs = torchvision.models.get_model(encoder, weights=None)
    with torch.no_grad():
        for name, buffer in theirs.named_buffers():  # other than 0 and 1, or buffers would go untested
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.8, 1.2)
    assert_same_features(adopting(encoder, theirs), theirs)


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50"])
def test_group_norm_is_torchvisions_with_standardised_weights(encoder: str) -> None:
    """16 groups everywhere, and every convolution standardised before use, the stored weights being the raw ones."""
    theirs = torchvision.models.get_model(encoder, weights=None, norm_layer=lambda width: nn.GroupNorm(16, width))
    with torch.no_grad():
        for module in theirs.double().modules():
            if isinstance(module, nn.GroupNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
        ours = adopting(encoder, theirs, "group")
        for module in theirs.modules():
            if isinstance(module, nn.Conv2d):
                flat = module.weight.flatten(1)
                centred = flat - flat.mean(1, keepdim=True)
                flat = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
                module.weight.copy_(flat.view_as(module.weight))
    assert_same_features(ours, theirs)


TABLE_9 = {  # millions of parameters, as printed
    ("resnet50", 1): 24,
    ("resnet101", 1): 43,
    ("resnet152", 1): 58,
    ("resnet200", 1): 63,
    ("resnet50", 2): 94,
    ("resnet101", 2): 170,
    ("resnet50", 3): 211,
    ("resnet152", 2): 232,
    ("resnet200", 2): 250,
    ("resnet50", 4): 375,
    ("resnet101", 3): 382,
    ("resnet152", 3): 522,
}


@pytest.mark.parametrize(("encoder", "width"), TABLE_9)
def test_sizes_are_the_papers(encoder: str, width: int) -> None:
    """Table 9 counts the encoder alone: with a classifier of 1000 classes eleven of its twelve figures would differ."""
    assert round(parameter_count(encoder, width) / 1e6) == TABLE_9[encoder, width]


def test_either_norm_has_the_same_parameters_and_cost() -> None:
    """One figure in the cost table serves both."""
    with torch.device("meta"):
        batch, group = ResNet("resnet18", 2), ResNet("resnet18", 2, "group")
    shapes = [{name: p.shape for name, p in net.named_parameters()} for net in (batch, group)]
    assert shapes[0] == shapes[1]
    assert multiply_adds(batch, (1, 3, 96, 96)) == multiply_adds(group, (1, 3, 96, 96))


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


@pytest.mark.parametrize("encoder", ["resnet_tiny", "resnet18", "resnet50"])
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


@pytest.mark.parametrize("encoder", ["resnet_tiny", "resnet18", "resnet50"])
def test_maps_are_what_the_stages_put_out(encoder: str) -> None:
    """The last stage's maps, one position every `stride` pixels, average to the representation; fewer stages, fewer."""
    net = ResNet(encoder).eval()
    x = torch.randn(1, 3, 2 * net.stride, 3 * net.stride)
    with torch.no_grad():
        last, before = net.maps(x, net.stages), net.maps(x, net.stages[:-1])
        torch.testing.assert_close(last.mean((2, 3)), net(x))
        torch.testing.assert_close(net.get_submodule(net.stages[-1])(before), last)
    assert last.shape == (1, net.features, 2, 3)
    assert before.shape == (1, net.features // 2, 4, 6)


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
    with pytest.raises(ValueError, match=r"resnet35.*resnet18.*resnet200"):
        ResNet("resnet35")
