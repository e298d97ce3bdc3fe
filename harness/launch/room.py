"""What is free of a cluster while a sweep goes: the CPUs of each living node, and each of its GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.config.errors import ConfigError
from harness.launch.share import Demand

GRAIN = 10_000  # Ray counts parts of a CPU or a GPU in ten-thousandths
Resources = Mapping[str, float]  # of a node, as Ray names them


class Seat(NamedTuple):
    """What one worker takes, in grains: CPUs of a node, and a part of one of its GPUs, None where it has none."""

    node: str
    cpus: int
    device: int | None
    gpu: int


@dataclass
class _Node:
    """What it has, and what is free of that in grains."""

    has: Resources
    cpus: int
    devices: list[int]

    @classmethod
    def empty(cls, has: Resources) -> _Node:
        return cls(has, _grains(has.get("CPU", 0.0)), [GRAIN] * int(has.get("GPU", 0.0)))


class Room:
    """Seats for workers, each on one node and one GPU: the fullest GPU that has room, which is Ray's own choice.

    All workers of a run sit on one node where one has room for them.
    """

    def __init__(self, nodes: Mapping[str, Resources]) -> None:
        """`nodes` are the resources of each, by an id that no later node has."""
        self._nodes = {name: _Node.empty(has) for name, has in nodes.items()}

    def follow(self, nodes: Mapping[str, Resources]) -> tuple[int, int]:
        """These live now: the seats of the others are gone, and new ones are free. How many nodes are gone and new."""
        gone, new = len(self._nodes.keys() - nodes.keys()), len(nodes.keys() - self._nodes.keys())
        self._nodes = {name: self._nodes.get(name) or _Node.empty(has) for name, has in nodes.items()}
        return gone, new

    def fits(self, demand: Demand) -> bool:
        """Whether there is room once everything is given back."""
        return Room({name: node.has for name, node in self._nodes.items()}).take(demand) is not None

    def take(self, demand: Demand) -> tuple[Seat, ...] | None:
        """A seat for each of the workers; None, and nothing taken, where not all find one."""
        if demand.workers > 1:
            for name in sorted(self._nodes, key=self._free):
                seats = self._seats(demand, [name])
                if seats is not None:
                    return seats
        return self._seats(demand, list(self._nodes))

    def give(self, seats: Iterable[Seat]) -> None:
        """Seats that were taken are free again, unless their node is gone."""
        for seat in seats:
            if seat.node in self._nodes:
                self._move(seat, +1)

    def _free(self, name: str) -> tuple[int, int]:
        node = self._nodes[name]
        return sum(node.devices), node.cpus

    def _seats(self, demand: Demand, among: Sequence[str]) -> tuple[Seat, ...] | None:
        seats: list[Seat] = []
        while len(seats) < demand.workers:
            seat = self._seat(_grains(demand.cpus), _grains(demand.gpu), among)
            if seat is None:
                self.give(seats)
                return None
            seats.append(seat)
        return tuple(seats)

    def _seat(self, cpus: int, gpu: int, among: Sequence[str]) -> Seat | None:
        fitting = [
            (left, name, device)
            for name in among
            if self._nodes[name].cpus >= cpus
            for device, left in (enumerate(self._nodes[name].devices) if gpu else [(-1, 0)])
            if left >= gpu
        ]
        if not fitting:
            return None
        _, name, device = min(fitting)
        seat = Seat(name, cpus, device if gpu else None, gpu)
        self._move(seat, -1)
        return seat

    def _move(self, seat: Seat, sign: int) -> None:
        node = self._nodes[seat.node]
        node.cpus += sign * seat.cpus
        if seat.device is not None:
            node.devices[seat.device] += sign * seat.gpu


def check_fits(nodes: Sequence[Resources], asked: Iterable[Demand]) -> None:
    """ConfigError for a demand that never fits: said now, not waited for."""
    named = {str(number): node for number, node in enumerate(nodes)}
    for demand in sorted(set(asked), key=lambda one: (one.workers, one.gpu)):
        if Room(named).take(demand) is not None:
            continue
        one, room, places = replace(demand, workers=1), Room(named), 0
        while room.take(one) is not None:
            places += 1
        names = ("CPU", "GPU") if demand.gpu else ("CPU",)
        has = "; ".join(" and ".join(f"{node.get(name, 0):g} {name}" for name in names) for node in nodes)
        raise ConfigError(
            f"a run asks for {wanted(demand)}, but Ray's nodes have {has}: room for {places}; "
            "lower HARNESS_WORKERS or HARNESS_THREADS"
        )


def wanted(demand: Demand) -> str:
    """A demand in words."""
    gpu = f" and {demand.gpu:g} GPU" if demand.gpu else ""
    return f"{demand.workers} workers of {demand.cpus:g} CPU{gpu} each"


def _grains(amount: float) -> int:
    return round(amount * GRAIN)
