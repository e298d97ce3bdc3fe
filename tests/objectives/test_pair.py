"""Every objective a run can declare: its loss, and that ranks make no difference."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from ranks import split
from torch import Tensor

from harness.config.schema import Objective
from harness.objectives.align import align_loss
from harness.objectives.bootstrap import bootstrap_loss
from harness.objectives.distance import distance_loss
from harness.objectives.pair import pair_loss

DECLARED: dict[str, dict[str, Any]] = {
    "byol": {},
    "tan_byol": {"tangential": True},
    "contrastive": {"beta": 0.5, "temperature": 0.3},
    "nt_xent": {"beta": 1.0, "temperature": 0.1, "scaled": False},
    "layer": {"normalization": "layer"},
    "batch": {"normalization": "batch"},
    "none": {"normalization": "none"},
    "raft": {"name": "align", "cross_model": -1.0},
    "tan_byol_prime": {"name": "align", "cross_model": 1.0, "tangential": True},
}


def objective(**changes: Any) -> Objective:
    """BYOL's, changed."""
    byol: dict[str, Any] = {"name": "bootstrap", "beta": 0.0, "temperature": None}
    return Objective(**{**byol, "predictor": True, "target": "ema", "tau_base": 0.99, **changes})


def draw(batch: int = 6, features: int = 4) -> list[Tensor]:
    """p1, p2, z1, z2 in float64."""
    generator = torch.Generator().manual_seed(0)
    return list(torch.randn(4, batch, features, dtype=torch.float64, generator=generator))


def whole_loss(views: list[Tensor], **changes: Any) -> Tensor:
    """The loss of one rank that holds the whole batch."""
    p1, p2, z1, z2 = views
    return pair_loss(objective(**changes), (p1, p2), (z1, z2), gather=lambda x: x, offset=0)


def test_each_declaration_gives_its_own_loss() -> None:
    """No knob is lost on the way: the loss that each name stands for."""
    views = draw()
    for name in ("layer", "batch", "none"):
        expected = distance_loss(*views, normalization=name, gather=lambda x: x)
        assert torch.equal(whole_loss(views, normalization=name), expected)
    assert torch.equal(whole_loss(views), bootstrap_loss(*views, beta=0.0, temperature=None))
    expected = bootstrap_loss(*views, beta=0.5, temperature=0.3)
    assert torch.equal(whole_loss(views, **DECLARED["contrastive"]), expected)
    assert torch.equal(whole_loss(views, **DECLARED["raft"]), align_loss(*views, cross_model=-1.0))


def test_unscaled_is_the_nt_xent_of_simclr() -> None:
    """A double loop over 2B views: the sum of both directions, which is twice the mean over the 2B views."""
    alpha = 0.1
    z1, z2, _, _ = draw()
    z = torch.nn.functional.normalize(torch.cat([z1, z2]))
    mean = 0.0
    for i in range(12):
        others = [j for j in range(12) if j != i]
        scores = {j: math.exp(float(z[i] @ z[j]) / alpha) for j in others}
        mean -= math.log(scores[(i + 6) % 12] / sum(scores.values())) / 12
    loss = whole_loss([z1, z2, z1, z2], beta=1.0, temperature=alpha, scaled=False)
    assert loss.item() == pytest.approx(2 * mean, abs=1e-12)


@pytest.mark.parametrize("declared", DECLARED)
def test_gradcheck(declared: str) -> None:
    """The gradient of every objective, also where it is projected, agrees with finite differences."""
    views = [view.requires_grad_() for view in draw(4, 3)]
    assert torch.autograd.gradcheck(lambda *v: whole_loss(list(v), **DECLARED[declared]), views)


@pytest.mark.parametrize("declared", DECLARED)
def test_two_ranks_equal_one(declared: str) -> None:
    """The mean over ranks of what each computes on its share, with what it gathers, is the whole batch's loss."""
    whole = [view.requires_grad_() for view in draw()]
    expected = whole_loss(whole, **DECLARED[declared])
    losses = []
    for (p1, p2, z1, z2), gather, offset in split(whole, 2):
        losses.append(pair_loss(objective(**DECLARED[declared]), (p1, p2), (z1, z2), gather=gather, offset=offset))
    loss = torch.stack(losses).mean()
    torch.testing.assert_close(loss, expected)
    wanted = torch.autograd.grad(expected, whole)
    for got, want in zip(torch.autograd.grad(loss, whole), wanted, strict=True):
        torch.testing.assert_close(got, want)


def test_radial_gradients_are_dropped() -> None:
    """Where nothing else drops them: without a normalisation, the tangential gradient is orthogonal to p."""
    views = [view.requires_grad_() for view in draw()]
    plain, kept = (
        torch.autograd.grad(whole_loss(views, normalization="none", tangential=on), views[0])[0] for on in (False, True)
    )
    assert (plain * views[0]).sum(1).abs().max() > 0.1
    torch.testing.assert_close((kept * views[0]).sum(1), torch.zeros(6, dtype=torch.float64))
