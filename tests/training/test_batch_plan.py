"""The batch plan: every way of sharing an update sees the same images in the same statistics groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.training.batch_plan import BatchPlan, BatchPlanError


@st.composite
def sharings(draw: st.DrawFn) -> list[BatchPlan]:
    """The plans of all ranks of one possible sharing: several groups a rank, or several ranks a group."""
    groups = draw(st.integers(1, 6))
    per_group = draw(st.integers(1, 4))
    world = groups * per_group
    if per_group == 1:
        world = draw(st.sampled_from([n for n in range(1, groups + 1) if groups % n == 0]))
    statistics = per_group * draw(st.integers(1, 5))
    return [BatchPlan(groups * statistics, statistics, world, rank) for rank in range(world)]


@given(sharings(), st.integers(0, 1000), st.integers(1, 3))
def test_ranks_partition_the_stream(plans: list[BatchPlan], first: int, updates: int) -> None:
    """Every image of every update is seen by exactly one rank."""
    seen = np.sort(np.concatenate([plan.positions(first, first + updates) for plan in plans]))
    batch = plans[0].update_batch
    np.testing.assert_array_equal(seen, np.arange(first * batch, (first + updates) * batch))


@given(sharings(), st.integers(0, 1000))
def test_groups_are_the_streams_own(plans: list[BatchPlan], update: int) -> None:
    """A forward pass of the ranks that share statistics sees one group of the stream, in its order."""
    for plan in plans:
        passes = [
            plans[rank].positions(update, update + 1).reshape(plan.groups_per_rank, plan.microbatch)
            for rank in plan.group_ranks
        ]
        for together in np.concatenate(passes, axis=1):
            first = together[0]
            assert first % plan.statistics_batch == 0
            np.testing.assert_array_equal(together, np.arange(first, first + plan.statistics_batch))


@given(sharings(), st.integers(0, 1000))
def test_offset_is_the_place_in_the_group(plans: list[BatchPlan], update: int) -> None:
    """InfoNCE finds an image among the group's negatives at its rank's offset."""
    for plan in plans:
        own = plan.positions(update, update + 1)
        assert plan.rank in plan.group_ranks
        assert own[0] % plan.statistics_batch == plan.offset


@given(sharings())
def test_an_update_is_the_same_stretch_whatever_it_is_asked_with(plans: list[BatchPlan]) -> None:
    """A resumed run, which asks from its own first update on, gets the positions the whole run gets."""
    for plan in plans:
        whole = plan.positions(0, 3).reshape(3, -1)
        np.testing.assert_array_equal(whole[2], plan.positions(2, 3))


@pytest.mark.parametrize(
    ("update", "statistics", "world", "problem"),
    [
        (8, 3, 1, "a statistics batch of 3 does not divide the update batch of 8"),
        (12, 4, 2, "2 ranks cannot share 3 statistics groups evenly"),
        (6, 6, 4, "4 ranks cannot share a statistics batch of 6 evenly"),
    ],
)
def test_impossible_sharing_is_refused(update: int, statistics: int, world: int, problem: str) -> None:
    """What cannot be shared evenly is said, in numbers, before anything is trained."""
    with pytest.raises(BatchPlanError, match=problem):
        BatchPlan(update, statistics, world)
