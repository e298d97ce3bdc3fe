"""LARS against the release's own trajectory, and the traps that other copies fall into."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.models.heads import MLP
from harness.models.resnet import ResNet
from harness.optim.groups import parameter_groups
from harness.optim.lars import LARS

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "reference_lars.npz")


def one_step(w: torch.Tensor, g: torch.Tensor, **options: float) -> torch.Tensor:
    """The weights after one update of a single adapted parameter, with learning rate 1."""
    weight = nn.Parameter(w.clone())
    weight.grad = g.clone()
    LARS([weight], lr=1.0, **{"weight_decay": 0.0, **options}).step()
    return weight.detach()


def test_five_updates_equal_the_release() -> None:
    """Order of decay, trust ratio, momentum and rate; 1-D parameters excluded; zero weights and gradients."""
    names = [key.split(":", 1)[1] for key in GOLDEN.files if key.startswith("lars_init:")]
    net = nn.ParameterList(torch.from_numpy(GOLDEN[f"lars_init:{name}"]).clone() for name in names)
    optimizer = LARS(parameter_groups(net), lr=0.0, weight_decay=float(GOLDEN["lars_weight_decay"]))
    for step, lr in enumerate(GOLDEN["lars_lr"]):
        for name, weight in zip(names, net, strict=True):
            weight.grad = torch.from_numpy(GOLDEN[f"lars_grad{step}:{name}"]).clone()
        for group in optimizer.param_groups:
            group["lr"] = float(lr)
        optimizer.step()
        for name, weight in zip(names, net, strict=True):
            expected = torch.from_numpy(GOLDEN[f"lars_param{step}:{name}"])
            torch.testing.assert_close(weight.detach(), expected, rtol=1e-5, atol=1e-6, msg=f"{name}, {step}")


def test_no_weight_decay_still_adapts() -> None:
    """A weight decay of 0 must not turn LARS into SGD: Table 15b's cell at 0 depends on it."""
    w, g = torch.randn(7, 5), torch.randn(7, 5)
    torch.testing.assert_close(one_step(w, g), w - 1e-3 * w.norm() / g.norm() * g)


def test_denominator_is_the_norm_of_the_sum() -> None:
    """|g + wd w|, not |g| + wd |w|: they differ most where gradient and weight point apart."""
    w = torch.randn(7, 5)
    g = -0.4 * w + 0.01 * torch.randn(7, 5)
    u = g + 0.5 * w
    torch.testing.assert_close(one_step(w, g, weight_decay=0.5), w - 1e-3 * w.norm() / u.norm() * u)


@pytest.mark.parametrize(("weight", "gradient"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_zero_norms_leave_the_update_unscaled(weight: float, gradient: float) -> None:
    """No division by zero, and a zero weight can leave zero."""
    w, g = torch.full((3, 2), weight), torch.full((3, 2), gradient)
    torch.testing.assert_close(one_step(w, g), w - g)


def test_gradients_are_left_as_they_are() -> None:
    """The foreach kernels must not write into gradients that a log may still read."""
    weight = nn.Parameter(torch.randn(4, 4))
    weight.grad = torch.randn(4, 4)
    before = weight.grad.clone()
    LARS([weight], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(weight.grad, before)


def test_resumes_from_its_state_dict() -> None:
    """A checkpoint holds the momentum and the groups: two updates equal one, a reload, and one."""

    def step(net: nn.Module, optimizer: LARS, gradients: list[torch.Tensor]) -> None:
        for p, g in zip(net.parameters(), gradients, strict=True):
            p.grad = g.clone()
        optimizer.step()

    first, second = MLP(4, (8, 3)), MLP(4, (8, 3))
    before = LARS(parameter_groups(first), lr=0.3, weight_decay=1e-2)
    gradients = [[torch.randn_like(p) for p in first.parameters()] for _ in range(2)]
    step(first, before, gradients[0])
    second.load_state_dict(first.state_dict())
    after = LARS(parameter_groups(second), lr=9.0, weight_decay=9.0)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    step(first, before, gradients[1])
    step(second, after, gradients[1])
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_groups_split_by_dimension_and_keep_every_parameter() -> None:
    """Batch norms of shortcuts and heads are excluded though no name says so; nothing is lost or doubled."""
    net, head = ResNet("resnet_tiny"), MLP(64, (16, 8))
    adapted, plain = parameter_groups(net, head)
    assert adapted["adapt"] is True
    assert plain["adapt"] is False
    assert all(p.ndim in (2, 4) for p in adapted["params"])
    assert all(p.ndim == 1 for p in plain["params"])
    every = [*net.parameters(), *head.parameters()]
    assert {id(p) for g in (adapted, plain) for p in g["params"]} == {id(p) for p in every}
    assert len(adapted["params"]) + len(plain["params"]) == len(every)
