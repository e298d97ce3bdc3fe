"""One update: its gradient, its order, and what moves."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from small import BYOL, IMAGES, MECHANISMS, SIMCLR, mechanism, noise, pretrain
from torch import Tensor

from harness.training.preflight import inspect
from harness.training.ranks import Ranks
from harness.training.state import State, build_state
from harness.training.step import Plan, group_loss, update

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("float64")


def start(objective: dict[str, Any], update_batch: int = 8, statistics: int = 8) -> tuple[State, Plan, Ranks]:
    """A fresh pretraining."""
    spec = pretrain(objective, update=update_batch, statistics=statistics)
    ranks = Ranks.join(update_batch, statistics)
    return build_state(spec, CPU, ranks), Plan(spec, IMAGES), ranks


def groups(images: int, statistics: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """The views of one update, cut into statistics groups."""
    first, second = noise(images, seed)
    return list(zip(first.split(statistics), second.split(statistics), strict=True))


@pytest.mark.parametrize("objective", [BYOL, SIMCLR])
def test_accumulation_is_the_mean_of_the_groups(objective: dict[str, Any]) -> None:
    """An update over N statistics groups uses the mean of the gradients that each group gives by itself."""
    state, plan, ranks = start(objective, update_batch=12, statistics=4)
    batch = groups(12, 4)
    expected = [torch.zeros_like(parameter) for parameter in state.parameters()]
    losses = []
    for view1, view2 in batch:
        alone = copy.deepcopy(state)
        loss, _ = group_loss(alone, plan.spec, view1, view2, ranks)
        gradients = torch.autograd.grad(loss, alone.parameters())
        expected = [total + gradient / 3 for total, gradient in zip(expected, gradients, strict=True)]
        losses.append(float(loss.detach()))
    loss, seen = update(state, plan, 0, batch, ranks)
    for parameter, gradient in zip(state.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-12)
    assert float(loss) == pytest.approx(sum(losses) / 3, rel=1e-12)
    assert len(seen.projections) == 12, "diagnostics see the whole update"


def test_groups_do_not_share_statistics() -> None:
    """Smaller statistics groups are another training: batch norm and negatives stay within each."""
    whole, plan, ranks = start(SIMCLR, 8, 8)
    halves, half_plan, half_ranks = start(SIMCLR, 8, 4)
    one, _ = update(whole, plan, 0, groups(8, 8), ranks)
    other, _ = update(halves, half_plan, 0, groups(8, 4), half_ranks)
    assert abs(float(one) - float(other)) > 0.01


@pytest.mark.parametrize("step", [0, 3])
def test_target_moves_by_the_tau_of_the_step_before(step: int) -> None:
    """Xi <- tau_k xi + (1 - tau_k) theta, k counted from 0, theta after the optimizer's step."""
    state, plan, ranks = start(BYOL)
    assert state.target.network is not None
    before = [xi.clone() for xi in state.target.network.parameters()]
    theta0 = [theta.clone() for theta in state.online.parameters()]
    update(state, plan, step, groups(8, 8), ranks)
    total = 2 * IMAGES // 8
    tau = 1 - (1 - 0.9) * (math.cos(math.pi * step / total) + 1) / 2
    assert any(not torch.equal(a, b) for a, b in zip(theta0, state.online.parameters(), strict=True))
    moved = zip(before, state.online.parameters(), state.target.network.parameters(), strict=True)
    for xi, theta, now in moved:
        torch.testing.assert_close(now, tau * xi + (1 - tau) * theta, rtol=1e-12, atol=1e-15)


def test_one_target_move_an_update() -> None:
    """The target moves once per update, however many statistics groups it accumulates."""
    state, plan, ranks = start(BYOL, update_batch=8, statistics=2)
    for step in range(3):
        update(state, plan, step, groups(8, 2, seed=step), ranks)
    assert state.updates == state.ema_updates == 3


def test_learning_rate_is_that_of_the_update() -> None:
    """The cosine is taken at the update being made: the peak at update 0, half of it half way."""
    state, plan, ranks = start(BYOL)
    peak = 1.0 * 8 / 256
    for step, expected in ((0, peak), (plan.total // 2, peak / 2)):
        update(state, plan, step, groups(8, 8), ranks)
        for group in state.optimizer.param_groups:
            assert group["lr"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("predictor", [True, False])
@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("target", ["ema", "constant", "stop_gradient", "online"])
def test_every_variant_trains(predictor: bool, target: str, beta: float) -> None:
    """Every combination of Tables 5a, 5b and 19 makes updates, and its target moves only where it is an average."""
    objective = {
        "predictor": predictor,
        "target": target,
        "tau_base": 0.9 if target == "ema" else None,
        "beta": beta,
        "temperature": 0.1 if beta else None,
    }
    state, plan, ranks = start(objective)
    before = [parameter.clone() for parameter in state.parameters()]
    frozen = copy.deepcopy(state.target.state_dict())
    for step in range(2):
        loss, _ = update(state, plan, step, groups(8, 8, seed=step), ranks)
        assert math.isfinite(float(loss))
    assert all(not torch.equal(a, b) for a, b in zip(before, state.parameters(), strict=True) if b.ndim > 1)
    assert state.ema_updates == (2 if target == "ema" else 0)
    assert bool(frozen) == (target in ("ema", "constant"))
    if target == "constant":
        weights = [name for name in frozen if not name.split(".")[-1].startswith("running")]
        assert all(torch.equal(frozen[name], state.target.state_dict()[name]) for name in weights)


@pytest.mark.parametrize("name", MECHANISMS)
def test_every_mechanism_trains(name: str) -> None:
    """Every knob of Tables 14 to 22 and of RAFT's: finite, moving what it should, and unlike plain BYOL or SimCLR."""
    spec, ranks = mechanism(name), Ranks.join(8, 8)
    state, plan = build_state(spec, CPU, ranks), Plan(spec, IMAGES)
    assert {id(parameter) for group in state.optimizer.param_groups for parameter in group["params"]} == {
        id(parameter) for parameter in state.parameters() if parameter.requires_grad
    }
    before = [parameter.clone() for parameter in state.parameters()]
    losses = []
    for step in range(3):
        loss, _ = update(state, plan, step, groups(8, 8, seed=step), ranks)
        inspect(state, spec, loss, ranks)
        losses.append(float(loss))
    assert all(math.isfinite(loss) for loss in losses)
    for old, parameter in zip(before, state.parameters(), strict=True):
        if parameter.ndim > 1:
            assert torch.equal(old, parameter) != parameter.requires_grad
    assert any(not parameter.requires_grad for parameter in state.parameters()) == (name == "frozen predictor")


def test_multipliers_scale_the_step_of_their_head_alone() -> None:
    """Tables 21 and 22: lambda is the predictor's and mu the projector's, on the first update to the last digit."""
    moves = {}
    for name in ("plain", "multipliers"):
        spec = mechanism("multipliers")
        if name == "plain":
            optimizer = replace(spec.optimizer, predictor_multiplier=1.0, projector_multiplier=1.0)
            spec = replace(spec, optimizer=optimizer)
        state, ranks = build_state(spec, CPU, Ranks.join(8, 8)), Ranks.join(8, 8)
        assert state.predictor is not None
        parts = (state.online.encoder, state.online.projector, state.predictor)
        before = [[parameter.clone() for parameter in part.parameters()] for part in parts]
        update(state, Plan(spec, IMAGES), 0, groups(8, 8), ranks)
        moves[name] = [
            [new - old for old, new in zip(olds, part.parameters(), strict=True)]
            for olds, part in zip(before, parts, strict=True)
        ]
    for factor, plain, scaled in zip((1.0, 2.0, 10.0), moves["plain"], moves["multipliers"], strict=True):
        for a, b in zip(plain, scaled, strict=True):
            torch.testing.assert_close(b, factor * a, rtol=1e-9, atol=1e-12)


def test_running_statistics_move_once_an_update() -> None:
    """Two views of three groups are one move of the running mean: 0.9 of it stays, though six forwards were made."""
    state, plan, ranks = start(BYOL, update_batch=12, statistics=4)
    norm = state.online.encoder.bn1
    norm.running_mean.fill_(1e6)
    update(state, plan, 0, groups(12, 4), ranks)
    torch.testing.assert_close(norm.running_mean, torch.full_like(norm.running_mean, 0.9e6), rtol=1e-5, atol=0)
