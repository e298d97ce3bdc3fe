"""How long a cluster takes for the runs of a plan: list scheduling, as the sweep itself goes about it."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harness.config.errors import ConfigError
from harness.launch.plan import Planned, needs


@dataclass(frozen=True)
class Cluster:
    """Devices, and how many of them work on one run. A run on n of them is assumed to take an n-th of the time."""

    gpus: int
    gpus_per_run: int = 1

    def __post_init__(self) -> None:
        if self.gpus < self.gpus_per_run:
            raise ConfigError(f"--gpus {self.gpus}: a run alone takes {self.gpus_per_run} (--gpus-per-run); give more")

    @property
    def places(self) -> int:
        """How many runs go at once."""
        return self.gpus // self.gpus_per_run


def wall_hours(todo: Sequence[Planned], cluster: Cluster) -> float:
    """Whenever a place is free it takes the first run in `todo` that waits for nothing.

    A run waits for those of its needs that are in `todo` too, and is never split or interrupted.
    """
    here = {run.key for run in todo}
    followers: defaultdict[str, list[int]] = defaultdict(list)
    waits_for = [here.intersection(needs(run.spec)) for run in todo]
    for number, keys in enumerate(waits_for):
        for key in keys:
            followers[key].append(number)
    ready = [number for number, keys in enumerate(waits_for) if not keys]
    going: list[tuple[float, int]] = []
    now = 0.0
    while ready or going:
        while ready and len(going) < cluster.places:
            number = heapq.heappop(ready)
            heapq.heappush(going, (now + todo[number].cost.device_hours / cluster.gpus_per_run, number))
        now, number = heapq.heappop(going)
        for follower in followers[todo[number].key]:
            waits_for[follower].remove(todo[number].key)
            if not waits_for[follower]:
                heapq.heappush(ready, follower)
    return now
