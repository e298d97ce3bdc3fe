"""One update of a pretraining: gradients over this rank's statistics groups, one optimizer step, one EMA move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from harness.config.schema import Pretrain
from harness.models import norm
from harness.objectives.least_squares import least_squares_prediction
from harness.objectives.pair import pair_loss
from harness.objectives.supervised import supervised_loss
from harness.optim.schedules import learning_rate, peak_learning_rate, tau, total_updates
from harness.training.ranks import Ranks
from harness.training.state import Learner, State, SupervisedState


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
        optimizer = self.spec.optimizer
        peak = peak_learning_rate(optimizer.base_lr, schedule.update_batch, optimizer.name)
        return learning_rate(step, self.total, warmup, peak, schedule.decay)

    def tau(self, step: int) -> float | None:
        """None where the target is no moving average."""
        objective = self.spec.objective
        base = objective.tau_base
        return None if base is None else tau(step, self.total, base, objective.tau_schedule)


@dataclass(frozen=True)
class Seen:
    """What diagnostics look at: representations and projections of the first view, predictions of both; no gradient."""

    representations: Tensor
    projections: Tensor
    predictions: tuple[Tensor, Tensor]

    @classmethod
    def joined(cls, parts: Sequence[Seen]) -> Seen:
        """Of all statistics groups of an update."""
        first, second = (torch.cat([part.predictions[view] for part in parts]) for view in (0, 1))
        representations = torch.cat([part.representations for part in parts])
        return cls(representations, torch.cat([part.projections for part in parts]), (first, second))


def update(
    state: State, plan: Plan, step: int, groups: Iterable[tuple[Tensor, ...]], ranks: Ranks
) -> tuple[Tensor, Seen]:
    """Make update `step` from the two views of each statistics group; return this rank's loss and what it has seen.

    Tau is that of the step before it is counted, and the target moves after the optimizer, once.
    """
    seen = []

    def losses() -> Iterator[Tensor]:
        for view1, view2 in groups:
            loss, part = group_loss(state, plan.spec, view1, view2, ranks)
            seen.append(part)
            yield loss

    loss = descend(state, plan, step, losses(), ranks)
    moved = plan.tau(step)
    if moved is not None:
        state.target.update(state.online, moved)
        state.ema_updates += 1
    return loss, Seen.joined(seen)


def update_supervised(
    state: SupervisedState, plan: Plan, step: int, groups: Iterable[tuple[Tensor, Tensor]], ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """Make update `step` from the view and the labels of each statistics group; return this rank's loss and logits."""
    seen = []

    def losses() -> Iterator[Tensor]:
        for view, labels in groups:
            logits = state.network(view)
            seen.append(logits.detach())
            yield supervised_loss(logits, labels, plan.spec.objective.label_smoothing)

    return descend(state, plan, step, losses(), ranks), torch.cat(seen)


class Rates(Protocol):
    """The learning rate of each update."""

    def learning_rate(self, step: int) -> float: ...


def descend(state: Learner, plan: Rates, step: int, losses: Iterable[Tensor], ranks: Ranks) -> Tensor:
    """One step of the optimizer on the losses of this rank's statistics groups, each made when the last is done with.

    The update's gradient is the mean over its statistics groups (the paper's accumulation), and the learning rate is
    that of the step before it is counted.
    """
    state.optimizer.zero_grad(set_to_none=True)
    found = []
    for loss in losses:
        (loss / ranks.plan.groups_per_rank).backward()
        found.append(loss.detach())
    ranks.average_gradients(state.parameters())
    for group in state.optimizer.param_groups:
        group["lr"] = plan.learning_rate(step) * group["multiplier"]
    state.optimizer.step()
    for module in state.networks:
        norm.commit(module, across=ranks.everyone)
    state.updates += 1
    return torch.stack(found).mean()


def group_loss(state: State, spec: Pretrain, view1: Tensor, view2: Tensor, ranks: Ranks) -> tuple[Tensor, Seen]:
    """The loss of one statistics group; each view goes through each network in a forward pass of its own."""
    (representations, online1), (_, online2) = state.online(view1), state.online(view2)
    target1, target2 = state.target.project((view1, view2), (online1, online2))
    phi1, phi2 = _predictions(state, spec, (online1, online2), (target1, target2), ranks)
    loss = pair_loss(spec.objective, (phi1, phi2), (target1, target2), gather=ranks.gather, offset=ranks.plan.offset)
    return loss, Seen(representations.detach(), online1.detach(), (phi1.detach(), phi2.detach()))


def _predictions(
    state: State, spec: Pretrain, online: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """Q of both online projections; the projections themselves where there is no predictor."""
    if spec.objective.predictor_fit == "least_squares":  # each view's, fitted to the other view's target
        first = least_squares_prediction(online[0], target[1], gather=ranks.gather)
        return first, least_squares_prediction(online[1], target[0], gather=ranks.gather)
    return online if state.predictor is None else (state.predictor(online[0]), state.predictor(online[1]))
