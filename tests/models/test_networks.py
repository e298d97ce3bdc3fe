"""The four targets: what moves, what is copied, and where the gradient goes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from harness.config.schema import Model
from harness.models.networks import Network, Target, classifier, predictor
from harness.models.norm import BatchNorm, commit, norms

MODEL = Model(encoder="resnet_tiny", width=1, norm="batch", projector=(16, 8), predictor=(16, 8))


@pytest.fixture
def online() -> Network:
    """A small online network, the same one in every test."""
    torch.manual_seed(0)
    return Network(MODEL)


@pytest.fixture
def views() -> list[torch.Tensor]:
    """Two views of four images."""
    torch.manual_seed(1)
    return [torch.randn(4, 3, 16, 16) for _ in range(2)]


def move(network: Network) -> None:
    """Stand in for an optimizer's update."""
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn_like(p))


@pytest.mark.parametrize("mode", ["ema", "constant"])
def test_own_copy_starts_equal_and_apart(mode: str, online: Network, views: list[torch.Tensor]) -> None:
    """The target starts as a copy of the online network, shares no tensor with it, uses batch statistics."""
    target = Target(online, mode)
    projections = [online(view)[1] for view in views]
    for got, want in zip(target.project(views, projections), projections, strict=True):
        assert torch.equal(got, want.detach())
    pointers = {t.data_ptr() for t in online.state_dict().values()}
    assert pointers.isdisjoint(t.data_ptr() for t in target.state_dict().values())


@pytest.mark.parametrize("mode", ["ema", "constant", "stop_gradient"])
def test_no_gradient_reaches_the_target(mode: str, online: Network, views: list[torch.Tensor]) -> None:
    """Neither parameters of an own copy nor, through the target side, the online network get a gradient."""
    target = Target(online, mode)
    projections = [online(view)[1] for view in views]
    assert not any(t.requires_grad for t in target.project(views, projections))
    assert not any(p.requires_grad for p in target.parameters())


def test_online_target_keeps_its_gradient(online: Network, views: list[torch.Tensor]) -> None:
    """SimCLR's gradient flows through both sides."""
    projections = [online(view)[1] for view in views]
    targets = Target(online, "online").project(views, projections)
    assert all(t is z for t, z in zip(targets, projections, strict=True))


def test_stop_gradient_equals_a_hard_copy(online: Network, views: list[torch.Tensor]) -> None:
    """Table 5a's tau = 0: a target overwritten after every update projects what the online network does."""
    hard, stopped = Target(online, "ema"), Target(online, "stop_gradient")
    move(online)
    hard.update(online, 0.0)
    projections = [online(view)[1] for view in views]
    pairs = zip(hard.project(views, projections), stopped.project(views, projections), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_ema_moves_parameters_by_its_formula(online: Network) -> None:
    """The target's parameters become tau xi + (1 - tau) theta; the online network stays."""
    target = Target(online, "ema")
    move(online)
    assert target.network is not None
    xi = copy.deepcopy(list(target.network.parameters()))
    theta = copy.deepcopy(list(online.parameters()))
    target.update(online, 0.9)
    for now, was, then in zip(target.network.parameters(), xi, theta, strict=True):
        torch.testing.assert_close(now, 0.9 * was + 0.1 * then)
    assert all(torch.equal(a, b) for a, b in zip(online.parameters(), theta, strict=True))
    kept = copy.deepcopy(list(target.network.parameters()))
    target.update(online, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(target.network.parameters(), kept, strict=True))


def test_ema_leaves_running_statistics_to_the_target(online: Network, views: list[torch.Tensor]) -> None:
    """The target's running statistics come from its own forwards and are never averaged."""
    target = Target(online, "ema")
    online(views[0])
    commit(online)
    before = copy.deepcopy(list(target.buffers()))
    target.update(online, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(target.buffers(), before, strict=True))
    target.project([views[0]], [])
    commit(target)
    assert all(torch.equal(a, b) for a, b in zip(target.buffers(), online.buffers(), strict=True))


def test_constant_target_never_moves(online: Network) -> None:
    """Table 5a's tau = 1 keeps the initial network."""
    target = Target(online, "constant")
    before = copy.deepcopy(target.state_dict())
    move(online)
    target.update(online, 0.0)
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


@pytest.mark.parametrize("mode", ["stop_gradient", "online"])
def test_targets_without_a_copy_hold_nothing(mode: str, online: Network) -> None:
    """No second network is stored or moved where the online projections serve."""
    target = Target(online, mode)
    target.update(online, 0.5)
    assert target.state_dict() == {}


def test_copy_shares_the_process_group(online: Network) -> None:
    """A target made after the group was set normalises over the same group; groups cannot be copied."""

    class Group:
        def __deepcopy__(self, memo: dict) -> Group:
            raise TypeError

    group = Group()
    for norm in norms(online):
        norm.group = group
    assert all(norm.group is group for norm in norms(Target(online, "ema")))


def test_predictor_maps_projections_to_projections() -> None:
    """The predictor has the projector's output as input, and a model without one has none."""
    head = predictor(MODEL)
    assert head is not None
    assert head(torch.randn(4, 8)).shape == (4, 8)
    assert predictor(Model(encoder="resnet_tiny", width=1, norm="batch", projector=(8,), predictor=None)) is None


def test_network_returns_representation_and_projection(online: Network, views: list[torch.Tensor]) -> None:
    """(B, features) and (B, projector's last width), with every batch norm our own."""
    representation, projection = online(views[0])
    assert representation.shape == (4, online.encoder.features)
    assert projection.shape == (4, 8)
    names = {type(m).__name__ for m in online.modules() if "Norm" in type(m).__name__}
    assert names == {BatchNorm.__name__}


def build(model: Model) -> nn.ModuleList:
    """Online network and predictor from one seed."""
    torch.manual_seed(5)
    head = predictor(model)
    assert head is not None
    return nn.ModuleList([head, Network(model)])


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_an_image_is_alone_with_group_norm(norm: str) -> None:
    """In train mode one image's prediction does not depend on the rest of its batch; with batch norm it does."""
    head, network = build(replace(MODEL, norm=norm, projector=(64, 32), predictor=(64, 32), output_norm=True)).double()
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    first = head(network(x)[1])[0]
    x[1:] = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    distance = (head(network(x)[1])[0] - first).abs().max().item()
    assert distance < 1e-12 if norm == "group" else distance > 1e-3


def test_predictor_starts_as_the_identity() -> None:
    """RAFT's start: the first predictions are the projections."""
    head = predictor(replace(MODEL, predictor=(8,), predictor_start="identity"))
    assert head is not None
    x = torch.randn(4, 8)
    assert torch.equal(head(x), x)
    other = predictor(replace(MODEL, predictor=(8,)))
    assert other is not None
    assert not torch.equal(other(x), x)


def test_initial_scale_is_on_weights_alone() -> None:
    """Every convolution and linear layer starts at the factor times the same draw; the target copies it."""
    plain, scaled = (build(replace(MODEL, initial_scale=factor)) for factor in (1.0, 0.5))
    after = torch.get_rng_state()
    build(MODEL)
    assert torch.equal(torch.get_rng_state(), after)
    for (name, a), (_, b) in zip(plain.state_dict().items(), scaled.state_dict().items(), strict=True):
        assert torch.equal(b, 0.5 * a if a.ndim > 1 else a), name
    target = Target(scaled[1], "ema").network
    assert target is not None
    assert torch.equal(target.encoder.conv1.weight, 0.5 * plain[1].encoder.conv1.weight)


def test_a_classifier_starts_with_the_untrained_encoder() -> None:
    """The encoder of a seed is that of BYOL's, and the logits are a linear layer on the representation."""
    torch.manual_seed(3)
    model = replace(MODEL, projector=(), predictor=None, initial_scale=0.5)
    network = classifier(model, 7)
    torch.manual_seed(3)
    online = Network(replace(MODEL, initial_scale=0.5))
    for (name, a), b in zip(network.encoder.state_dict().items(), online.encoder.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    x = torch.randn(4, 3, 16, 16)
    y, layer = network.encoder(x), network.classifier
    torch.testing.assert_close(network(x), y @ layer.weight.T + layer.bias)
    assert layer.weight.shape == (7, 64)


def test_default_draws_are_as_ever() -> None:
    """The same seed gives the networks that earlier runs started from: sums recorded before the knobs existed."""
    torch.manual_seed(3)
    online, head = Network(MODEL), predictor(MODEL)
    assert head is not None
    sums = [sum(p.detach().double().abs().sum().item() for p in module.parameters()) for module in (online, head)]
    assert sums == pytest.approx([3718.569261554512, 72.23600482055917], rel=1e-6)


def test_output_norm_is_the_projectors_alone() -> None:
    """SimCLR's head: its projections are normalised over the batch, and no prediction is."""
    head, network = build(replace(MODEL, output_norm=True))
    z = network(torch.randn(32, 3, 16, 16))[1]
    torch.testing.assert_close(z.mean(0), torch.zeros(8), rtol=0, atol=1e-5)
    assert isinstance(network.projector.layers[-1], BatchNorm)
    assert isinstance(head.layers[-1], nn.Linear)
