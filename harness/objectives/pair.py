"""The loss of a pair of views, as the objective of a run declares it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from harness.config.schema import Objective
from harness.objectives.align import align_loss
from harness.objectives.bootstrap import bootstrap_loss
from harness.objectives.distance import distance_loss
from harness.objectives.sphere import tangential


def pair_loss(
    objective: Objective,
    predictions: tuple[Tensor, Tensor],
    targets: tuple[Tensor, Tensor],
    *,
    gather: Callable[[Tensor], Tensor],
    offset: int,
) -> Tensor:
    """This rank's loss; the loss of the statistics group is the mean over its ranks.

    `predictions` are the online projections where there is no predictor. `gather` and `offset` are as in
    bootstrap_loss. Without `scaled`, (loss - 4) / (2 temperature): at beta = 1 the loss of SimCLR's release, which is
    the sum over both directions, that is twice the NT-Xent averaged over 2B views.
    """
    p1, p2 = predictions
    if objective.tangential:
        p1, p2 = tangential(p1), tangential(p2)
    if objective.name == "align":
        assert objective.cross_model is not None, "align has a weight of the cross-model loss"
        return align_loss(p1, p2, *targets, cross_model=objective.cross_model)
    if objective.normalization != "l2":
        return distance_loss(p1, p2, *targets, normalization=objective.normalization, gather=gather)
    beta, temperature = objective.beta, objective.temperature
    loss = bootstrap_loss(p1, p2, *targets, beta=beta, temperature=temperature, gather=gather, offset=offset)
    if objective.scaled or temperature is None:
        return loss
    return (loss - 4) / (2 * temperature)
