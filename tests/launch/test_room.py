"""Seats for workers on nodes and GPUs: how many there are, and that a request which never fits is said."""

from __future__ import annotations

import pytest

from harness.config.errors import ConfigError
from harness.launch.room import Room, check_fits
from harness.launch.share import Demand

Nodes = list[dict[str, float]]


def demand(workers: int, threads: int, gpu: float) -> Demand:
    """Of a run."""
    return Demand(workers=workers, cpus=threads, gpu=gpu)


def places(nodes: Nodes, one: Demand) -> int:
    """How many runs of one demand go at once."""
    room, found = Room(nodes), 0
    while room.take(one) is not None:
        found += 1
    return found


def test_how_many_runs_fit() -> None:
    """Workers are placed whole, each on one node: what is left over on a node serves nobody."""
    assert places([{"CPU": 2.0}], demand(1, 1, 0)) == 2
    assert places([{"CPU": 3.0}, {"CPU": 3.0}], demand(1, 2, 0)) == 2
    assert places([{"CPU": 64.0, "GPU": 8.0}] * 2, demand(8, 4, 1)) == 2
    assert places([{"CPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}], demand(1, 16, 1)) == 4


def test_how_many_share_a_gpu() -> None:
    """A part is of one GPU, and the CPUs must be there too; Ray's parts are ten-thousandths, not binary fractions."""
    assert places([{"CPU": 64.0, "GPU": 2.0}], demand(1, 1, 0.25)) == 8
    assert places([{"CPU": 64.0, "GPU": 2.0}], demand(1, 1, 0.4)) == 4, "a third on each GPU would be 1.2"
    assert places([{"CPU": 64.0, "GPU": 1.0}], demand(1, 1, 0.1)) == 10
    assert places([{"CPU": 3.0, "GPU": 2.0}], demand(1, 1, 0.25)) == 3


def test_small_runs_leave_whole_gpus_free() -> None:
    """Four quarters are on one GPU: another is there for a run that needs it whole. What is given back counts."""
    room = Room([{"CPU": 16.0, "GPU": 2.0}])
    quarters = [room.take(demand(1, 1, 0.25)) for _ in range(4)]
    whole = room.take(demand(1, 4, 1.0))
    assert whole is not None
    assert room.take(demand(1, 1, 0.25)) is None
    assert quarters[0] is not None
    room.give(quarters[0])
    assert room.take(demand(1, 1, 1.0)) is None
    assert room.take(demand(1, 1, 0.25)) is not None


def test_all_workers_of_a_run_or_none() -> None:
    """A run whose last worker finds no seat leaves the others' free."""
    room = Room([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}])
    assert room.take(demand(4, 1, 1.0)) is None
    assert room.take(demand(3, 1, 1.0)) is not None


@pytest.mark.parametrize(
    ("nodes", "number", "threads", "gpu"),
    [
        ([{"CPU": 2.0}], 3, 1, 0),
        ([{"CPU": 2.0}], 1, 3, 0),
        ([{"CPU": 32.0, "GPU": 4.0}], 8, 1, 1),
        ([{"CPU": 32.0}] * 4, 1, 64, 0),  # 128 in all, but a worker needs 64 on one node
        ([], 1, 1, 0),
    ],
)
def test_what_never_fits_is_refused(nodes: Nodes, number: int, threads: int, gpu: float) -> None:
    """Ray would wait for ever for resources that no node has, and small runs that fit do not help."""
    asked = [demand(1, 1, gpu / 4)] * bool(nodes) + [demand(number, threads, gpu)]
    with pytest.raises(ConfigError, match=rf"asks for {number} workers? .* lower HARNESS_WORKERS or HARNESS_THREADS"):
        check_fits(nodes, asked)


def test_the_refusal_counts() -> None:
    """One sentence with what is asked, what is there and for how many it is enough."""
    asked = [demand(8, 4, 1.0), demand(1, 1, 0.25)]
    with pytest.raises(ConfigError) as refusal:
        check_fits([{"CPU": 32.0, "GPU": 4.0}, {"CPU": 8.0}], asked)
    assert str(refusal.value) == (
        "a run asks for 8 workers of 4 CPU and 1 GPU each, but Ray's nodes have 32 CPU and 4 GPU; 8 CPU and 0 GPU: "
        "room for 4; lower HARNESS_WORKERS or HARNESS_THREADS"
    )
    check_fits([{"CPU": 32.0, "GPU": 8.0}], asked)
