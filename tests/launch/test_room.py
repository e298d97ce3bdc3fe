"""Seats for workers on nodes and GPUs: how many there are, and that a request which never fits is said."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.errors import ConfigError
from harness.launch.room import GRAIN, Room, Seat, check_fits
from harness.launch.share import Demand

Nodes = list[dict[str, float]]


def demand(workers: int, threads: int, gpu: float) -> Demand:
    """Of a run."""
    return Demand(workers=workers, cpus=threads, gpu=gpu)


def room_of(nodes: Nodes) -> Room:
    """Of nodes by their number."""
    return Room({str(number): node for number, node in enumerate(nodes)})


def places(nodes: Nodes, one: Demand) -> int:
    """How many runs of one demand go at once."""
    room, found = room_of(nodes), 0
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
    room = room_of([{"CPU": 16.0, "GPU": 2.0}])
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
    room = room_of([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}])
    assert room.take(demand(4, 1, 1.0)) is None
    assert room.take(demand(3, 1, 1.0)) is not None


def test_a_run_s_workers_sit_together_where_they_can() -> None:
    """On the fullest node that has room for all; over several where none has."""
    room = room_of([{"CPU": 64.0, "GPU": 8.0}, {"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 2.0}])
    pair, three = demand(2, 1, 1.0), demand(3, 1, 1.0)
    assert nodes_of(room.take(pair)) == {"1"}
    assert nodes_of(room.take(three)) == {"0"}
    assert nodes_of(room.take(demand(1, 1, 1.0))) == {"0"}
    assert nodes_of(room.take(three)) == {"0"}
    assert nodes_of(room.take(three)) == {"0", "2"}, "one and two are left"


def nodes_of(seats: Sequence[Seat] | None) -> set[str]:
    """Where they are."""
    assert seats is not None
    return {seat.node for seat in seats}


def test_nodes_come_and_go() -> None:
    """Seats of a dead node are nobody's, and what was taken of the others stays taken."""
    pair, one = demand(2, 1, 0.0), demand(1, 1, 0.0)
    room = Room({"a": {"CPU": 1.0}, "b": {"CPU": 1.0}})
    seats = room.take(pair)
    assert seats is not None
    assert room.follow({"b": {"CPU": 1.0}}) == (1, 0)
    assert room.follow({"b": {"CPU": 1.0}}) == (0, 0)
    assert not room.fits(pair)
    assert room.fits(one)
    assert room.take(one) is None, "the run that lost a worker still holds b"
    room.give(seats)
    assert room.take(one) is not None
    assert room.follow({"b": {"CPU": 1.0}, "c": {"CPU": 1.0}}) == (0, 1)
    assert room.fits(pair)
    assert nodes_of(room.take(one)) == {"c"}


SIZES = st.fixed_dictionaries({"CPU": st.integers(1, 6).map(float), "GPU": st.integers(0, 3).map(float)})
DEMANDS = st.builds(demand, st.integers(1, 4), st.integers(1, 3), st.sampled_from([0.0, 0.25, 0.5, 1.0]))


@given(data=st.data())
def test_a_model_of_room(data: st.DataObject) -> None:
    """Whatever is taken, given back, dies and comes: on each living node what is out is what it has, less what is free.

    What fits into an empty cluster is never refused by one, and what does not is never seated.
    """
    living = {f"first-{number}": size for number, size in enumerate(data.draw(st.lists(SIZES, max_size=3)))}
    room, out = Room(living), list[tuple[Seat, ...]]()
    for step in range(data.draw(st.integers(1, 12))):
        event = data.draw(st.sampled_from(["take", "give", "leave", "join"]))
        if event == "take":
            wanted = data.draw(DEMANDS)
            seats = room.take(wanted)
            assert seats is None or (len(seats) == wanted.workers and room.fits(wanted))
            out += [seats] if seats else []
        elif event == "give" and out:
            room.give(out.pop(data.draw(st.integers(0, len(out) - 1))))
        elif event == "leave" and living:
            del living[data.draw(st.sampled_from(sorted(living)))]
            assert room.follow(living) == (1, 0)
        elif event == "join":
            living[f"{step}"] = data.draw(SIZES)
            assert room.follow(living) == (0, 1)
        held = [seat for seats in out for seat in seats]
        for name, node in room._nodes.items():
            here = [seat for seat in held if seat.node == name]
            assert node.cpus == living[name]["CPU"] * GRAIN - sum(seat.cpus for seat in here) >= 0
            for device, free in enumerate(node.devices):
                assert free == GRAIN - sum(seat.gpu for seat in here if seat.device == device) >= 0
    for seats in out:
        room.give(seats)
    wanted = data.draw(DEMANDS)
    assert room.fits(wanted) == (room.take(wanted) is not None)


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
