"""The preflight: what must hold in the first updates, each broken on purpose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from small import BYOL, IMAGES, SIMCLR, STOPPED, mechanism, noise, pretrain, supervised

from harness.config.schema import Pretrain
from harness.data.prepare import Dataset
from harness.training.batch_plan import BatchPlan
from harness.training.feed import Fed
from harness.training.preflight import InvariantError, inspect, inspect_images, loss_range
from harness.training.pretraining import Pretraining
from harness.training.ranks import Ranks
from harness.training.state import State, build_state, build_supervised
from harness.training.step import Plan, update, update_supervised

CPU = torch.device("cpu")
COLLAPSING: dict[str, Any] = {**STOPPED, "target": "online", "predictor": False}


def begun(objective: dict[str, Any]) -> tuple[State, Pretrain, torch.Tensor, Ranks]:
    """A pretraining after one update, and the update's loss."""
    spec, ranks = pretrain(objective), Ranks.join(8, 8)
    state = build_state(spec, CPU, ranks)
    loss, *_ = update(state, Plan(spec, IMAGES), 0, [noise(8)], ranks)
    return state, spec, loss, ranks


@pytest.mark.parametrize(
    "objective", [BYOL, SIMCLR, STOPPED, COLLAPSING, {**BYOL, "target": "constant", "tau_base": None}]
)
def test_a_sound_pretraining_passes(objective: dict[str, Any]) -> None:
    """Protects every kind of target from false alarms."""
    inspect(*begun(objective))


def test_labels_are_looked_at_too() -> None:
    """Protects supervised runs: what is sound passes; a loss that no logits have, and others' statistics, are found."""
    spec, ranks = supervised(), Ranks.join(8, 8)
    state = build_supervised(spec, 10, CPU, ranks)
    loss, _ = update_supervised(state, Plan(spec, IMAGES), 0, [(noise(8)[0], torch.arange(8))], ranks)
    inspect(state, spec, loss, ranks)
    with pytest.raises(InvariantError, match=r"update 1: the loss is 0\.49, and supervised has none outside 0\.50"):
        inspect(state, spec, torch.tensor(0.49), ranks)
    with pytest.raises(InvariantError, match="batch statistics are over 4 images, not 8"):
        inspect(state, spec, loss, Ranks.join(8, 4))


def test_a_target_that_is_the_online_network_is_found() -> None:
    """Protects against the copy that is none: BYOL would train as its collapsing variant."""
    state, *rest = begun(BYOL)
    state.target.network = state.online
    with pytest.raises(InvariantError, match="update 1: the target shares parameters with the online network"):
        inspect(state, *rest)


@pytest.mark.parametrize(("objective", "words"), [(BYOL, "needs network"), (STOPPED, "has no network")])
def test_a_target_of_the_wrong_kind_is_found(objective: dict[str, Any], words: str) -> None:
    """Protects the modes of Table 5a from each other."""
    state, *rest = begun(objective)
    other, *_ = begun(STOPPED if objective is BYOL else BYOL)
    state.target = other.target
    with pytest.raises(InvariantError, match=words):
        inspect(state, *rest)


def test_a_gradient_that_reaches_the_target_is_found() -> None:
    """Protects the stop-gradient of BYOL."""
    state, *rest = begun(BYOL)
    assert state.target.network is not None
    next(state.target.network.parameters()).requires_grad_(True)
    with pytest.raises(InvariantError, match="gradient reaches the target"):
        inspect(state, *rest)


@pytest.mark.parametrize("objective", [BYOL, STOPPED])
def test_a_missed_or_surplus_move_of_the_target_is_found(objective: dict[str, Any]) -> None:
    """Protects one move an update (with accumulation, others move once a microbatch)."""
    state, *rest = begun(objective)
    state.ema_updates += 1
    with pytest.raises(InvariantError, match="the target has moved"):
        inspect(state, *rest)


@pytest.mark.parametrize(("objective", "loss"), [(BYOL, 8.1), (BYOL, -0.1), (SIMCLR, -9.0), (SIMCLR, 20.0)])
def test_a_loss_outside_its_range_is_found(objective: dict[str, Any], loss: float) -> None:
    """Protects against a factor or a missing normalisation."""
    state, spec, _, ranks = begun(objective)
    with pytest.raises(InvariantError, match="has none outside"):
        inspect(state, spec, torch.tensor(loss), ranks)
    inspect(state, spec, torch.tensor(math.nan), ranks)  # a divergence, which the loop reports as such


def test_ranges_hold_what_losses_can_be() -> None:
    """Protects the ranges: views all alike and views all opposed are their ends, or within."""
    assert loss_range(pretrain(BYOL)) == (0.0, 8.0)
    low, high = loss_range(pretrain(SIMCLR))
    negatives = math.log(15)
    assert low == pytest.approx(0.4 * (negatives - 10))
    assert high == pytest.approx(8 + 0.4 * (negatives + 10))
    assert loss_range(mechanism("raft")) == (-4.0, 4.0)
    assert loss_range(mechanism("byol'")) == (0.0, 8.0)
    assert loss_range(mechanism("original simclr")) == pytest.approx(((low - 4) / 0.2, (high - 4) / 0.2))


def test_statistics_over_the_wrong_batch_are_found() -> None:
    """Protects Table 16, whose rows differ in nothing else."""
    state, spec, loss, _ = begun(BYOL)
    half = Ranks(BatchPlan(8, 4))
    with pytest.raises(InvariantError, match="statistics are over 4 images, not 8"):
        inspect(state, spec, loss, half)


def test_images_read_twice_are_found() -> None:
    """Protects against shards that overlap: each rank drawing the first images of the epoch."""
    ranks, wanted = Ranks.join(8, 8), np.array([5, 9, 2, 7])
    inspect_images(torch.tensor([9, 5, 7, 2]), wanted, ranks)
    inspect_images(torch.tensor([9, 9, 5, 2]), np.array([9, 9, 5, 2]), ranks)  # the seam of two epochs
    with pytest.raises(InvariantError, match="1 of them twice"):
        inspect_images(torch.tensor([5, 5, 9, 2]), wanted, ranks)
    with pytest.raises(InvariantError, match="not those of the stream"):
        inspect_images(torch.tensor([5, 9, 2, 8]), wanted, ranks)


def test_a_run_stops_at_its_first_wrong_batch(digits: Dataset) -> None:
    """Protects the wiring: what the loader really read is held against the stream."""
    task = Pretraining(pretrain(BYOL), digits, CPU, Ranks.join(8, 8), 1)
    feed = task.feed(0)
    first = next(feed)
    task.update(0, first)
    with pytest.raises(InvariantError, match="not those of the stream"):
        task.update(1, Fed(first.groups, first.images, first.labels))
    task.close()
