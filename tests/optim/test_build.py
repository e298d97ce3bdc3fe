"""The declared optimizer: which module moves how fast, Adam's rule and Nesterov's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer as TorchOptimizer

from harness.config.schema import Optimizer
from harness.models.heads import MLP
from harness.models.resnet import ResNet
from harness.optim.build import build_optimizer
from harness.optim.groups import parameter_groups
from harness.optim.lars import LARS

RATE = 0.3


def lars(**changes: Any) -> Optimizer:
    """A declaration of LARS with a weight decay that shows."""
    return Optimizer(**{"name": "lars", "base_lr": 1.0, "weight_decay": 0.1, "momentum": 0.9, "trust": 1e-3, **changes})


def adam(**changes: Any) -> Optimizer:
    """A declaration of Adam."""
    return lars(**{"name": "adam", "trust": None, **changes})


def sgd(**changes: Any) -> Optimizer:
    """A declaration of SGD."""
    return lars(**{"name": "sgd", "trust": None, **changes})


def networks() -> tuple[nn.Module, nn.Module, nn.Module]:
    """Encoder, projector and predictor, the same each time."""
    torch.manual_seed(0)
    return ResNet("resnet_tiny"), MLP(64, (16, 8)), MLP(8, (16, 8))


def gradients(modules: tuple[nn.Module, ...], updates: int = 3) -> Iterator[None]:
    """Give every parameter that wants one a gradient, once per update."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(updates):
        for module in modules:
            for p in module.parameters():
                gradient = torch.randn(p.shape, generator=generator)  # drawn for frozen ones too: the others' stay
                p.grad = gradient if p.requires_grad else None
        yield


def train(optimizer: TorchOptimizer, modules: tuple[nn.Module, ...]) -> list[list[torch.Tensor]]:
    """Three updates at the rate times each group's multiplier; the parameters of each module."""
    for _ in gradients(modules):
        for group in optimizer.param_groups:
            group["lr"] = RATE * group["multiplier"]
        optimizer.step()
    return [[p.detach() for p in module.parameters()] for module in modules]


def test_defaults_are_lars_over_two_groups_bit_for_bit() -> None:
    """The declared optimizer is the one that the recorded trajectories were made with, checkpoints' order included."""
    parts, others = networks(), networks()
    optimizer = build_optimizer(lars(), *parts)
    plain = LARS(parameter_groups(*others), lr=0.0, weight_decay=0.1)
    shapes = [[[p.shape for p in group["params"]] for group in o.param_groups] for o in (optimizer, plain)]
    assert shapes[0] == shapes[1]
    for ours, theirs in zip(train(optimizer, parts), train(plain, others), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("declare", [lars, sgd, adam])
def test_a_multiplier_is_a_rate_of_that_part_alone(declare: Any) -> None:
    """Tables 21 and 22: lambda moves the predictor as a rate times lambda would, mu the projector, the rest stays."""
    base = train(build_optimizer(declare(), *(parts := networks())), parts)
    spec = declare(predictor_multiplier=10.0, projector_multiplier=1.5)
    found = train(build_optimizer(spec, *(parts := networks())), parts)
    assert all(torch.equal(a, b) for a, b in zip(found[0], base[0], strict=True))
    for part, multiplier in ((1, 1.5), (2, 10.0)):
        alone = networks()[part]
        optimizer = build_optimizer(declare(), nn.Identity(), nn.Identity(), alone)
        modules = networks()
        modules = (*modules[:part], alone, *modules[part + 1 :])  # so that the gradients are the same
        for _ in gradients(modules):
            for group in optimizer.param_groups:
                group["lr"] = RATE * multiplier
            optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(found[part], alone.parameters(), strict=True))
        assert not torch.equal(found[part][0], base[part][0])


@pytest.mark.parametrize("declare", [lars, sgd, adam])
def test_a_multiplier_of_0_freezes(declare: Any) -> None:
    """Table 21's lambda = 0: no rate, no weight decay, no momentum, and not even a gradient."""
    parts = networks()
    before = [p.detach().clone() for p in parts[2].parameters()]
    optimizer = build_optimizer(declare(predictor_multiplier=0.0), *parts)
    train(optimizer, parts)
    assert all(torch.equal(a, b) for a, b in zip(parts[2].parameters(), before, strict=True))
    parts[2](torch.randn(4, 8, requires_grad=True)).sum().backward()
    assert all(p.grad is None and p not in optimizer.state for p in parts[2].parameters())


@pytest.mark.parametrize("multiplier", [1.0, 0.5, 0.0])
def test_every_parameter_is_in_one_group_or_frozen(multiplier: float) -> None:
    """Nothing is lost or doubled, whether parts share a multiplier or not, and without a predictor."""
    spec = lars(predictor_multiplier=multiplier, projector_multiplier=0.5)
    for encoder, projector, predictor in (networks(), (*networks()[:2], None)):
        groups = build_optimizer(spec, encoder, projector, predictor).param_groups
        held = [id(p) for group in groups for p in group["params"]]
        modules = [module for module in (encoder, projector, predictor) if module is not None]
        every = {id(p) for module in modules for p in module.parameters() if p.requires_grad}
        assert len(held) == len(set(held))
        assert set(held) == every
        assert all(p.requires_grad for p in encoder.parameters())


def test_adam_follows_its_paper() -> None:
    """Two updates of Kingma and Ba's Algorithm 1 with the decay in the gradient, biases included."""
    head = nn.Linear(3, 2)
    parts = (head, nn.Identity(), nn.Identity())
    optimizer = build_optimizer(adam(), *parts)
    expected = []
    for p in head.parameters():
        w, m, v = p.detach().double().clone(), 0.0, 0.0
        expected.append((w, m, v))
    for t, _ in enumerate(gradients(parts, 2), start=1):
        for k, p in enumerate(head.parameters()):
            w, m, v = expected[k]
            g = p.grad.double() + 0.1 * w
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            w = w - RATE * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
            expected[k] = (w, m, v)
        for group in optimizer.param_groups:
            group["lr"] = RATE * group["multiplier"]
        optimizer.step()
    for (w, _, _), p in zip(expected, head.parameters(), strict=True):
        torch.testing.assert_close(p.detach().double(), w, rtol=1e-5, atol=1e-6)


def test_sgd_follows_nesterov() -> None:
    """Steps m = 0.9 m + g, w = w - rate (g + 0.9 m): weights with their decay in g, biases and norms without."""
    parts = networks()
    optimizer = build_optimizer(sgd(), *parts)
    every = [p for module in parts for p in module.parameters()]
    expected = [(p.detach().double().clone(), torch.zeros_like(p, dtype=torch.float64)) for p in every]
    for _ in gradients(parts):
        for k, p in enumerate(every):
            w, m = expected[k]
            g = p.grad.double() + (0.1 * w if p.ndim > 1 else 0)
            m = 0.9 * m + g
            expected[k] = (w - RATE * (g + 0.9 * m), m)
        for group in optimizer.param_groups:
            group["lr"] = RATE * group["multiplier"]
        optimizer.step()
    for (w, _), p in zip(expected, every, strict=True):
        torch.testing.assert_close(p.detach().double(), w, rtol=1e-5, atol=1e-5)


def test_nothing_moves_before_a_rate_is_set() -> None:
    """The rate is the schedule's to give: a forgotten one is 0, not torch's default."""
    for spec in (lars(), sgd(), adam()):
        parts = networks()
        before = [p.detach().clone() for module in parts for p in module.parameters()]
        optimizer = build_optimizer(spec, *parts)
        next(gradients(parts))
        optimizer.step()
        after = [p for module in parts for p in module.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
