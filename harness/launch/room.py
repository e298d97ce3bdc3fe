"""What is free of a cluster while a sweep goes: the CPUs of each node, and each of its GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.config.errors import ConfigError
from harness.launch.share import Demand

GRAIN = 10_000  # Ray counts parts of a CPU or a GPU in ten-thousandths


class Seat(NamedTuple):
    """What one worker takes, in grains: CPUs of a node, and a part of one of its GPUs, None where it has none."""

    node: int
    cpus: int
    device: int | None
    gpu: int


@dataclass
class _Node:
    """What is free of it, in grains."""

    cpus: int
    devices: list[int]


class Room:
    """Seats for workers, each on one node and one GPU: the fullest GPU that has room, which is Ray's own choice."""

    def __init__(self, nodes: Sequence[dict[str, float]]) -> None:
        """`nodes` are the resources of each, as Ray names them."""
        self._nodes = [_Node(_grains(node.get("CPU", 0.0)), [GRAIN] * int(node.get("GPU", 0.0))) for node in nodes]

    def take(self, demand: Demand) -> tuple[Seat, ...] | None:
        """A seat for each of the workers; None, and nothing taken, where not all find one."""
        seats: list[Seat] = []
        while len(seats) < demand.workers:
            seat = self._seat(_grains(demand.cpus), _grains(demand.gpu))
            if seat is None:
                self.give(seats)
                return None
            seats.append(seat)
        return tuple(seats)

    def give(self, seats: Iterable[Seat]) -> None:
        """Seats that were taken are free again."""
        for seat in seats:
            self._move(seat, +1)

    def _seat(self, cpus: int, gpu: int) -> Seat | None:
        fitting = [
            (left, number, device)
            for number, node in enumerate(self._nodes)
            if node.cpus >= cpus
            for device, left in (enumerate(node.devices) if gpu else [(-1, 0)])
            if left >= gpu
        ]
        if not fitting:
            return None
        _, number, device = min(fitting)
        seat = Seat(number, cpus, device if gpu else None, gpu)
        self._move(seat, -1)
        return seat

    def _move(self, seat: Seat, sign: int) -> None:
        node = self._nodes[seat.node]
        node.cpus += sign * seat.cpus
        if seat.device is not None:
            node.devices[seat.device] += sign * seat.gpu


def check_fits(nodes: Sequence[dict[str, float]], asked: Iterable[Demand]) -> None:
    """ConfigError for a demand that never fits: said now, not waited for."""
    for demand in sorted(set(asked), key=lambda one: (one.workers, one.gpu)):
        if Room(nodes).take(demand) is not None:
            continue
        one, room, places = replace(demand, workers=1), Room(nodes), 0
        while room.take(one) is not None:
            places += 1
        names = ("CPU", "GPU") if demand.gpu else ("CPU",)
        wanted = " and ".join(
            f"{amount:g} {name}" for name, amount in zip(names, (demand.cpus, demand.gpu), strict=False)
        )
        has = "; ".join(" and ".join(f"{node.get(name, 0):g} {name}" for name in names) for node in nodes)
        raise ConfigError(
            f"a run asks for {demand.workers} workers of {wanted} each, but Ray's nodes have {has}: room for {places}; "
            "lower HARNESS_WORKERS or HARNESS_THREADS"
        )


def _grains(amount: float) -> int:
    return round(amount * GRAIN)
