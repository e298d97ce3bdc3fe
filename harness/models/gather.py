"""Tensors of a process group put together, with gradient: batch-norm statistics, and the negatives of InfoNCE."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """Backward: the sum over the ranks of the gradient of one's own part."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group, ctx.size = group, local.shape[0]
        everyone = local.new_empty(dist.get_world_size(group) * local.shape[0], *local.shape[1:])
        dist.all_gather_into_tensor(everyone, local.contiguous(), group=group)
        return everyone

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient, group=ctx.group)
        first = dist.get_rank(ctx.group) * ctx.size
        return gradient[first : first + ctx.size], None


def gather(local: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Every rank's `local` (of one shape) along the first dimension, in the order of the ranks."""
    return _Gather.apply(local, group)
