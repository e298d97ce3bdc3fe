"""What must hold in every pretraining, looked at during its first updates: a broken invariant trains without complaint.

Each is a mistake that has cost others whole runs: a target that is the online network itself, a moving average that
misses updates, ranks that read the same images, batch statistics over another batch than the recipe's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch.distributed as dist
from torch import Tensor

from harness.config.datasets import DATASETS
from harness.config.schema import Pretrain
from harness.objectives.supervised import least_loss
from harness.training.ranks import Ranks
from harness.training.state import State, SupervisedState

UPDATES = 500  # no update after these is looked at
SLACK = 1e-3  # of the bounds of a loss, for rounding


class InvariantError(RuntimeError):
    """A pretraining is not what its spec says. Training on would waste the run."""


def inspect(state: State | SupervisedState, spec: Pretrain, loss: Tensor, ranks: Ranks) -> None:
    """Raise InvariantError with the first thing that is wrong after an update."""
    broken = next(_broken(state, spec, float(loss), ranks), None)
    if broken:
        raise InvariantError(f"update {state.updates}: {broken}")


def inspect_images(seen: Tensor, wanted: np.ndarray, ranks: Ranks) -> None:
    """All ranks together must have read the update's images, each once; `wanted` are their numbers."""
    found = np.sort(ranks.gather_all(seen).cpu().numpy())
    if not np.array_equal(found, np.sort(wanted)):
        twice = len(found) - len(np.unique(found)) - (len(wanted) - len(np.unique(wanted)))
        raise InvariantError(
            f"the ranks read {len(found)} images of an update of {len(wanted)}, "
            + (f"{twice} of them twice" if twice > 0 else "and not those of the stream")
        )


def _broken(state: State | SupervisedState, spec: Pretrain, loss: float, ranks: Ranks) -> Iterator[str]:
    if isinstance(state, State):
        yield from _target(state, spec)
        yield from _counts(state, spec)
    yield from _statistics(spec, ranks)
    low, high = loss_range(spec)
    if math.isfinite(loss) and not low - SLACK <= loss <= high + SLACK:  # a loss that is no number is a divergence
        yield f"the loss is {loss:g}, and {spec.objective.name} has none outside {low:g} to {high:g}"


def _target(state: State, spec: Pretrain) -> Iterator[str]:
    own, network = spec.objective.target in ("ema", "constant"), state.target.network
    if own != (network is not None):
        yield f"a target of the kind {spec.objective.target} {'needs' if own else 'has no'} network of its own"
    if network is None:
        return
    if {p.data_ptr() for p in network.parameters()} & {p.data_ptr() for p in state.online.parameters()}:
        yield "the target shares parameters with the online network"
    if any(p.requires_grad or p.grad is not None for p in network.parameters()):
        yield "a gradient reaches the target network"


def _counts(state: State, spec: Pretrain) -> Iterator[str]:
    wanted = state.updates if spec.objective.target == "ema" else 0
    if state.ema_updates != wanted:
        yield f"the target has moved {state.ema_updates} times, not {wanted}"


def _statistics(spec: Pretrain, ranks: Ranks) -> Iterator[str]:
    sharing = dist.get_world_size(ranks.group) if ranks.group is not None else 1
    images = sharing * ranks.plan.microbatch
    if images != spec.schedule.statistics_batch:
        yield f"batch statistics are over {images} images, not {spec.schedule.statistics_batch}"


def loss_range(spec: Pretrain) -> tuple[float, float]:
    """The least and the largest value that the loss can have.

    A squared distance on the sphere is at most 4, and the loss has two. Each of InfoNCE's two terms is 2 a beta times
    the logarithm of a sum of exp(cosine / a) over 2B - 1 others. Not scaled, it is all less 4, over 2 a. Supervised, it
    is at least the entropy of the smoothed labels.
    """
    objective = spec.objective
    if objective.name == "supervised":
        return least_loss(DATASETS[spec.data.dataset].classes, objective.label_smoothing), math.inf
    if objective.name == "align":
        weight = objective.cross_model or 0.0
        return min(0.0, 4 * weight), 4 + max(0.0, 4 * weight)
    if objective.normalization != "l2":
        return 0.0, math.inf
    if objective.beta == 0 or objective.temperature is None:
        return 0.0, 8.0
    negatives, furthest = math.log(2 * spec.schedule.statistics_batch - 1), 1 / objective.temperature
    pull = 2 * 2 * objective.temperature * objective.beta
    low, high = pull * (negatives - furthest), 8 + pull * (negatives + furthest)
    if objective.scaled:
        return low, high
    return (low - 4) / (2 * objective.temperature), (high - 4) / (2 * objective.temperature)
