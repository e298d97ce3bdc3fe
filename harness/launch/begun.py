"""A run in this process's hands, between its lease and its record."""

from __future__ import annotations

import math
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from harness.config.identity import plain
from harness.config.schema import Choice, Depth, Detection, Spec, Tried
from harness.launch.observer import Observer
from harness.launch.place import Place
from harness.launch.specs import read_spec
from harness.tracking.lease import Lease
from harness.tracking.record import Record, Runs
from harness.training.loop import Diverged
from harness.training.ranks import from_rank_0, world_and_rank


@dataclass(frozen=True)
class Begun:
    """Every rank has it; rank 0 holds the lease and writes. `record` is how it stands while it is running."""

    spec: Spec
    record: Record
    runs: Runs
    lease: Lease
    observer: Observer

    @property
    def folder(self) -> Path:
        return self.runs.folder(self.record.key)

    def diverged(self, end: Diverged) -> Record:
        """Its record, where the loss is no longer a number."""
        diagnostics = {f"{self.spec.kind}.{name}": value for name, value in end.diagnostics.items()}
        finite = {name: value for name, value in diagnostics.items() if math.isfinite(value)}
        return replace(self.record, state="diverged", error=str(end), results=finite)

    def end(self, record: Record) -> Record:
        """Write the record, with what the run has cost; returns it as written."""
        world, rank = world_and_rank()
        seen = self.observer
        cost = {"wall_s": seen.spent_s, "worker_s": seen.spent_s * world}
        if seen.companions_s:
            cost["companions_worker_s"] = seen.companions_s * world
        ended = record.ended(record.state, time.time(), cost=cost | record.cost, notes=tuple(seen.notes))
        if rank == 0:
            self.lease.check()
            self.runs.write(ended)
            if isinstance(self.spec, Tried | Choice | Detection | Depth):  # from which nobody goes on
                shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        return ended


def begin(key: str, place: Place, lease: Lease, asked: Callable[[], bool]) -> Begun:
    """Say in its record that the run of `key` is running; `lease` is held, and `asked` asks for an end."""
    runs = Runs(Path(place.runs))
    spec = read_spec(runs, key)
    world, rank = world_and_rank()
    started_unix_s = from_rank_0(lambda: _started(runs, key))
    observer = Observer(runs.folder(key), lease.check, asked, place.stop)
    record = Record(
        key=key,
        kind=spec.kind,
        state="running",
        spec=plain(spec),
        commit=place.commit,
        environment=_environment(place, world),
        started_unix_s=started_unix_s,
    )
    if rank == 0:
        runs.write(record)
    return Begun(spec, record, runs, lease, observer)


def _started(runs: Runs, key: str) -> float:
    """When this run began: a resumed one when it first did; one after a retired one begins anew."""
    known = runs.read(key)
    if known is not None and known.state == "retired":
        runs.archive(key)
        known = None
    return time.time() if known is None else known.started_unix_s


def _environment(place: Place, world: int) -> dict[str, object]:
    """What may move a number in its last digits, or its speed."""
    device = torch.device(place.device)
    share = {"gpu_share": place.gpu_share} if device.type == "cuda" else {}
    return share | {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": place.threads,
        "world": world,
    }
