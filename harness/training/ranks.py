"""What ranks exchange: gradients, and the negatives of a statistics group. With one rank, nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from harness.models.gather import gather
from harness.training.batch_plan import BatchPlan, BatchPlanError

T = TypeVar("T")


def world_and_rank() -> tuple[int, int]:
    """How many ranks torch.distributed holds, and which this process is; (1, 0) where it is not initialised."""
    return (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)


def from_rank_0(act: Callable[[], T]) -> T:
    """`act` on rank 0 alone, its value on every rank."""
    world, rank = world_and_rank()
    if world == 1:
        return act()
    value = [act() if rank == 0 else None]
    dist.broadcast_object_list(value)
    return value[0]  # type: ignore[return-value]  # rank 0's, which is a T


@dataclass(frozen=True)
class Ranks:
    """This process among the world. `group` is the process group of its statistics group, None where it is alone."""

    plan: BatchPlan
    group: dist.ProcessGroup | None = None

    @classmethod
    def join(cls, update_batch: int, statistics_batch: int) -> Ranks:
        """Take the place torch.distributed gives this process; alone where it is not initialised."""
        plan = BatchPlan(update_batch, statistics_batch, *world_and_rank())
        if plan.ranks_per_group == 1:
            return cls(plan)
        own = None
        for first in range(0, plan.world, plan.ranks_per_group):  # every rank must create every group
            ranks = tuple(range(first, first + plan.ranks_per_group))
            group = dist.new_group(list(ranks))
            own = group if ranks == plan.group_ranks else own
        return cls(plan, own)

    @classmethod
    def split(cls, batch: int) -> Ranks:
        """For a training without shared statistics: equal parts of the batch."""
        world, _ = world_and_rank()
        if batch % world:
            raise BatchPlanError(f"{world} ranks cannot share a batch of {batch} evenly")
        return cls.join(batch, batch // world)

    @property
    def gather(self) -> Callable[[Tensor], Tensor]:
        """Concatenate over the statistics group, with gradient."""
        if self.group is None:
            return lambda local: local
        return partial(gather, group=self.group)

    def gather_all(self, value: Tensor) -> Tensor:
        """Concatenate a detached value over all ranks, for reports."""
        return value if self.everyone is None else gather(value, self.everyone)

    @property
    def everyone(self) -> dist.ProcessGroup | None:
        """The group of all ranks; None for one rank."""
        return dist.group.WORLD if self.plan.world > 1 else None

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Each rank's loss is a mean over its own images: the update's gradient is the mean over the ranks."""
        if self.plan.world == 1:
            return
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        dist.all_reduce(flat)
        flat /= self.plan.world
        for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def average(self, value: Tensor) -> Tensor:
        """The mean of a detached value over the ranks, for reports."""
        if self.plan.world > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
            value /= self.plan.world
        return value

    def total(self, counts: Tensor) -> Tensor:
        """The sum of counts over the ranks."""
        if self.plan.world > 1:
            dist.all_reduce(counts)
        return counts

    def agree(self, step: int) -> None:
        """Raise on every rank unless all go on from the same update: storage may show them different checkpoints."""
        if self.everyone is None:
            return
        steps: list[int | None] = [None] * self.plan.world
        dist.all_gather_object(steps, step)
        if len(set(steps)) > 1:
            raise RuntimeError(
                f"the ranks find checkpoints of different updates: {steps}; storage must show all the same"
            )

    def first_alone(self, act: Callable[[], T]) -> T:
        """`act` on rank 0 and, when that is done, on the others: for files that one writes and all read."""
        if self.everyone is None:
            return act()
        if self.plan.rank == 0:
            result = act()
            dist.barrier()
            return result
        dist.barrier()
        return act()
