"""Which images of the stream each rank sees in an update, and with whom it shares statistics.

The paper's facts are the update batch and the statistics batch; everything here follows from them and the world size,
so that any number of ranks makes the same update.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


class BatchPlanError(ValueError):
    """The ranks cannot share the update evenly."""


@dataclass(frozen=True)
class BatchPlan:
    """Statistics group g of update k is the stream's positions k*U + g*S ... k*U + (g+1)*S, whatever the ranks.

    Fewer ranks than groups: each rank takes whole groups one after the other (accumulation). More ranks than groups:
    each group is spread over several ranks, which share batch-norm statistics and negatives.
    """

    update_batch: int
    statistics_batch: int
    world: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        if self.update_batch % self.statistics_batch:
            raise BatchPlanError(
                f"a statistics batch of {self.statistics_batch} does not divide the update batch of {self.update_batch}"
            )
        if self.groups % self.world and self.world % self.groups:
            raise BatchPlanError(f"{self.world} ranks cannot share {self.groups} statistics groups evenly")
        if self.statistics_batch % self.ranks_per_group:
            raise BatchPlanError(
                f"{self.ranks_per_group} ranks cannot share a statistics batch of {self.statistics_batch} evenly"
            )

    @property
    def groups(self) -> int:
        return self.update_batch // self.statistics_batch

    @property
    def ranks_per_group(self) -> int:
        return max(1, self.world // self.groups)

    @property
    def groups_per_rank(self) -> int:
        """Accumulation steps."""
        return max(1, self.groups // self.world)

    @property
    def microbatch(self) -> int:
        """Images a rank sees in one forward pass."""
        return self.statistics_batch // self.ranks_per_group

    @property
    def group_ranks(self) -> tuple[int, ...]:
        """The ranks that share this rank's statistics."""
        first = self.rank - self.rank % self.ranks_per_group
        return tuple(range(first, first + self.ranks_per_group))

    @property
    def offset(self) -> int:
        """Where this rank's images start inside its statistics group."""
        return (self.rank % self.ranks_per_group) * self.microbatch

    @cached_property
    def _within_update(self) -> np.ndarray:
        first_group = self.rank // self.ranks_per_group * self.groups_per_rank
        groups = np.arange(first_group, first_group + self.groups_per_rank, dtype=np.int64)
        return (groups[:, None] * self.statistics_batch + self.offset + np.arange(self.microbatch)).reshape(-1)

    def positions(self, first: int, stop: int) -> np.ndarray:
        """This rank's stream positions of updates first ... stop-1, microbatch after microbatch."""
        updates = np.arange(first, stop, dtype=np.int64)
        return (updates[:, None] * self.update_batch + self._within_update).reshape(-1)
