"""The devices that a plan can be reckoned on, as experiments/machines.yaml describes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from harness.config.document import Document, read_yaml, shown
from harness.config.errors import ConfigError
from harness.config.files import project_root, read_as

Precision = Literal["float32", "tf32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One device. `reported` are its names in Torch's words; peaks are from its data sheet."""

    device: str
    reported: tuple[str, ...]
    peak_tflops: dict[Precision, float]
    assumed_precision: Precision
    assumed_fraction: float
    memory_gb: float | None = None

    @property
    def assumed_tflops(self) -> float:
        return self.peak_tflops[self.assumed_precision] * self.assumed_fraction


@dataclass(frozen=True, kw_only=True)
class MachinesFile:
    machines: dict[str, Machine]


def machine_named(name: str, where: str) -> Machine:
    """A machine of the file; `where` is the option, or the file and line, that names it."""
    document = read_yaml(project_root() / "experiments" / "machines.yaml")
    known = read_as(MachinesFile, document).machines
    _check(known, document)
    if name not in known:
        problem = f"{shown(document.path)} has no machine '{name}'; known: {', '.join(known)}"
        raise ConfigError(f"{where}: {problem}")
    return known[name]


def _check(known: dict[str, Machine], document: Document) -> None:
    reported = Counter(name for machine in known.values() for name in machine.reported)
    for name, machine in known.items():
        if machine.assumed_precision not in machine.peak_tflops:
            problem = f"peak_tflops has no {machine.assumed_precision}"
            raise document.error(f"machines.{name}.assumed_precision", problem)
        if not 0 < machine.assumed_fraction <= 1:
            raise document.error(f"machines.{name}.assumed_fraction", "must be above 0 and at most 1")
        for device in machine.reported:
            if reported[device] > 1:
                problem = f"'{device}' stands twice; a run would be of two machines"
                raise document.error(f"machines.{name}.reported", problem)
