"""One update of a pretraining: gradients over this rank's statistics groups, one optimizer step, one EMA move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.config.schema import Pretrain
from harness.models import norm
from harness.objectives.bootstrap import bootstrap_loss
from harness.optim.schedules import learning_rate, peak_learning_rate, tau, total_updates
from harness.training.ranks import Ranks
from harness.training.state import State


@dataclass(frozen=True)
class Plan:
    """The schedule of a pretraining in updates."""

    spec: Pretrain
    images: int

    def __post_init__(self) -> None:
        if self.total < 1:
            schedule = self.spec.schedule
            shape = f"{schedule.epochs} epochs of {self.images} images with an update batch of {schedule.update_batch}"
            raise ValueError(f"{shape} make no update")

    @property
    def total(self) -> int:
        return total_updates(self.spec.schedule.epochs, self.images, self.spec.schedule.update_batch)

    def learning_rate(self, step: int) -> float:
        schedule = self.spec.schedule
        warmup = total_updates(schedule.warmup_epochs, self.images, schedule.update_batch)
        peak = peak_learning_rate(self.spec.optimizer.base_lr, schedule.update_batch)
        return learning_rate(step, self.total, warmup, peak)

    def tau(self, step: int) -> float | None:
        """None where the target is no moving average."""
        base = self.spec.objective.tau_base
        return None if base is None else tau(step, self.total, base)


def update(
    state: State, plan: Plan, step: int, groups: Iterable[tuple[Tensor, Tensor]], ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """Make update `step` from the two views of each statistics group; return this rank's loss and projections.

    The update's gradient is the mean over its statistics groups (the paper's accumulation), the learning rate and tau
    are those of the step before it is counted, and the target moves after the optimizer, once.
    """
    state.optimizer.zero_grad(set_to_none=True)
    losses, projections = [], []
    for view1, view2 in groups:
        loss, projection = group_loss(state, plan.spec, view1, view2, ranks)
        (loss / ranks.plan.groups_per_rank).backward()
        losses.append(loss.detach())
        projections.append(projection)
    ranks.average_gradients(state.parameters())
    for group in state.optimizer.param_groups:
        group["lr"] = plan.learning_rate(step)
    state.optimizer.step()
    for module in state.networks:
        norm.commit(module, across=ranks.everyone)
    state.updates += 1
    moved = plan.tau(step)
    if moved is not None:
        state.target.update(state.online, moved)
        state.ema_updates += 1
    return torch.stack(losses).mean(), torch.cat(projections)


def group_loss(state: State, spec: Pretrain, view1: Tensor, view2: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """The loss of one statistics group; each view goes through each network in a forward pass of its own."""
    online1, online2 = state.online(view1)[1], state.online(view2)[1]
    target1, target2 = state.target.project((view1, view2), (online1, online2))
    phi1, phi2 = (online1, online2) if state.predictor is None else (state.predictor(online1), state.predictor(online2))
    loss = bootstrap_loss(
        phi1,
        phi2,
        target1,
        target2,
        beta=spec.objective.beta,
        temperature=spec.objective.temperature,
        gather=ranks.gather,
        offset=ranks.plan.offset,
    )
    return loss, online1.detach()
