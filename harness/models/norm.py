"""Normalisation: by the batch, over one process or a group of them, or within each image.

Running statistics of batch normalisation move once per update. Models without it have nothing to commit or share.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from harness.models.gather import gather

Norm = Literal["batch", "group"]


class BatchNorm(nn.Module):
    """y = weight * (x - E[x]) / sqrt(Var[x] + eps) + bias over every dimension but the second.

    `momentum` is torch's: the share of a new value in the running statistics, 1 - what haiku calls decay rate.

    In train mode the statistics are those of the batch, or of the whole `group`'s batch where a process group
    is set. Forward leaves the running statistics alone: train forwards add their mean and biased variance
    (haiku's; torch's own is unbiased) to pending sums, and `commit` moves the running statistics once, by the
    mean over the forwards since the last commit: an update's statistics groups and views are one step.
    """

    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.group: dist.ProcessGroup | None = None
        self.pending: tuple[Tensor, Tensor] | None = None  # sums; never in the state_dict
        self.forwards = 0

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C) or (B, C, H, W)."""
        if not self.training:
            mean, variance = self.running_mean, self.running_var
            return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
        return self._local(x) if self.group is None else self._grouped(x, self.group)

    def commit(self) -> None:
        """Move the running statistics by the mean over the forwards since the last commit."""
        if self.pending is None:
            return
        mean, variance = self.pending
        self.running_mean.lerp_(mean / self.forwards, self.momentum)
        self.running_var.lerp_(variance / self.forwards, self.momentum)
        self.pending, self.forwards = None, 0

    def _local(self, x: Tensor) -> Tensor:
        mean = torch.zeros_like(self.running_mean)
        variance = torch.zeros_like(self.running_var)
        # momentum 1: the kernel hands back this batch's own statistics
        y = F.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        count = x.numel() // x.shape[1]
        self._add(mean, variance * ((count - 1) / count))  # unbiased to biased
        return y

    def _grouped(self, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        wide = x.to(self.weight.dtype)
        dimensions = [0, *range(2, x.ndim)]
        variance, mean = torch.var_mean(wide, dimensions, correction=0)
        count = x.numel() // x.shape[1]
        statistics = torch.cat([mean, variance, mean.new_tensor([count])])
        parts = gather(statistics[None], group)
        share = parts[:, -1:] / parts[:, -1].sum()
        means, variances = parts[:, :-1].chunk(2, dim=1)
        # Chan's merge: exact, and without the cancellation of E[x^2] - E[x]^2
        mean = (share * means).sum(0)
        variance = (share * (variances + (means - mean).square())).sum(0)
        self._add(mean.detach(), variance.detach())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shape = (-1, *[1] * (x.ndim - 2))
        # one multiply-add keeps x alone for the backward pass, as the fused kernel does
        offset = -mean * scale if self.bias is None else self.bias - mean * scale
        y = torch.addcmul(offset.view(shape), wide, scale.view(shape))
        return y.to(x.dtype)

    def _add(self, mean: Tensor, variance: Tensor) -> None:
        if self.pending is not None:
            # not in place: the kernel keeps its statistics for the backward pass
            mean, variance = self.pending[0] + mean, self.pending[1] + variance
        self.pending = (mean, variance)
        self.forwards += 1

    def extra_repr(self) -> str:
        """What print(module) shows."""
        return f"{self.weight.numel()}, momentum={self.momentum}, eps={self.eps}"


class StandardisedConv2d(nn.Conv2d):
    """A convolution with w_hat = (w - E[w]) / sqrt(Var[w] + eps), over each output channel's own weights.

    Weight standardisation (Qiao et al. 2019, arXiv 1903.10520). Gradients go through it to w.
    """

    eps = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Conv2d."""
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        return self._conv_forward(x, (self.weight - mean) * torch.rsqrt(variance + self.eps), self.bias)


def normalisation(features: int, norm: Norm, *, offset: bool = True) -> BatchNorm | nn.GroupNorm:
    """The layer that normalises `features` channels; without `offset` it scales alone.

    Group norm has 16 groups (arXiv 2010.10241), and fewer where they would hold less than four features: in a head,
    where an image has one value of each, a group of one feature would be zero whatever the image.
    """
    groups = math.gcd(16, max(1, features // 4), features)
    layer = BatchNorm(features) if norm == "batch" else nn.GroupNorm(groups, features)
    if not offset:
        layer.register_parameter("bias", None)
    return layer


def norms(module: nn.Module) -> list[BatchNorm]:
    """Every BatchNorm in `module`, itself included, in order."""
    return [m for m in module.modules() if isinstance(m, BatchNorm)]


def commit(module: nn.Module, across: dist.ProcessGroup | None = None) -> None:
    """Commit every BatchNorm below; call once per update.

    `across` averages the pending statistics over its ranks first: needed where the ranks form several
    statistics groups, each of which saw its own share of the update (every rank having run as many forwards).
    """
    waiting = [m for m in norms(module) if m.pending is not None]
    if across is not None and waiting:
        sums = [tensor for m in waiting if m.pending is not None for tensor in m.pending]
        flat = torch.cat(sums)
        dist.all_reduce(flat, group=across)
        flat /= dist.get_world_size(across)
        parts = torch.split(flat, [t.numel() for t in sums])
        for tensor, part in zip(sums, parts, strict=True):
            tensor.copy_(part)
    for m in waiting:
        m.commit()


def set_momentum(module: nn.Module, momentum: float) -> None:
    """Give the running statistics of every BatchNorm below this share of each update's."""
    for m in norms(module):
        m.momentum = momentum


def set_group(module: nn.Module, group: dist.ProcessGroup | None) -> None:
    """Share the batch statistics of every BatchNorm below over `group`; None is this process alone."""
    for m in norms(module):
        m.group = group
