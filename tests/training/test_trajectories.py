"""The first updates of every mechanism: a change of behaviour shows here, and asks for a new recipe version.

In double precision from the initial weights on: another processor's instructions stay far below the tolerance. On half
of an update's images, since double precision takes twice the time.

Run `python tests/training/test_trajectories.py` to write the files anew after a change that was meant.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from harness.config.expand import expand
from harness.config.schema import Pretrain
from harness.data.prepare import Dataset, open_dataset, prepare
from harness.training.begin import begin
from harness.training.ranks import Ranks

pytestmark = pytest.mark.usefixtures("float64")
GOLDEN = Path(__file__).parents[1] / "golden" / "trajectories"
TABLES = ("5b", "20", "21", "extras", "raft1", "simclr_steps")  # between them every mechanism
UPDATES = 5
DIGITS, TOLERANCE = 12, 1e-8  # that are kept, and what may differ
Trajectory = dict[str, list[float] | float]


@cache
def cells() -> dict[tuple[str, str], Pretrain]:
    """Every pretraining of these tables at the laptop profile, seed 0, where it first stands."""
    found: dict[str, tuple[str, str]] = {}
    specs: dict[tuple[str, str], Pretrain] = {}
    for table in TABLES:
        for member in expand(table, "laptop", seeds=1).members:
            if isinstance(member.subject, Pretrain) and member.subject_key not in found:
                found[member.subject_key] = (table, member.cell)
                specs[table, member.cell] = _halved(member.subject)
    return specs


def _halved(spec: Pretrain) -> Pretrain:
    """In double precision, with half the images in an update and its statistics groups."""
    update, statistics = spec.schedule.update_batch // 2, spec.schedule.statistics_batch // 2
    schedule = replace(spec.schedule, update_batch=update, statistics_batch=statistics)
    return replace(spec, schedule=schedule, precision="float64")


def trajectory(spec: Pretrain, dataset: Dataset) -> Trajectory:
    """Losses of the first updates, and the sum of the absolute parameters after them."""
    ranks = Ranks.join(spec.schedule.update_batch, spec.schedule.statistics_batch)
    task = begin(spec, dataset, torch.device("cpu"), ranks, 1)
    losses = []
    feed = task.feed(0)
    for step in range(UPDATES):
        task.update(step, next(feed))
        losses.append(_rounded(task.diagnose()["loss"]))
    task.close()
    total = sum(float(parameter.detach().abs().sum()) for parameter in task.state.parameters())
    return {"losses": losses, "parameters": _rounded(total)}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


@pytest.mark.parametrize(("table", "cell"), cells())
def test_first_updates_are_as_recorded(table: str, cell: str, digits: Dataset) -> None:
    """Data order, views, networks, objective, optimizer and schedules together: any of them moving is seen."""
    golden = recorded(table)[cell]
    found = trajectory(cells()[table, cell], digits)
    assert found["losses"] == pytest.approx(golden["losses"], rel=TOLERANCE)
    assert found["parameters"] == pytest.approx(golden["parameters"], rel=TOLERANCE)


# The gradient's part along the sphere is all there is of it after l2 normalisation, so these repeat the plain cells.
ALIKE = {"tanbyol_lp", "tanbyol_prime_lp", "tanraft_lp"}


def test_cells_differ() -> None:
    """The record tells the mechanisms apart: no two cells have the same first losses and parameters."""
    seen = [
        (*one["losses"], one["parameters"])
        for table in TABLES
        for cell, one in recorded(table).items()
        if cell not in ALIKE
    ]
    assert len(set(seen)) == len(seen) == len(cells()) - len(ALIKE)


def recorded(table: str) -> dict[str, Trajectory]:
    """The golden file of a table, by cell."""
    golden: dict[str, Trajectory] = json.loads((GOLDEN / f"table{table}.json").read_text())
    return golden


def _write() -> None:
    torch.set_num_threads(1)  # this and the next as in the tests
    torch.set_default_dtype(torch.float64)
    with tempfile.TemporaryDirectory() as folder:
        prepare("digits", Path(folder), lambda _: None)
        dataset = open_dataset("digits", Path(folder))
        golden: dict[str, dict[str, Trajectory]] = {table: {} for table in TABLES}
        for (table, cell), spec in cells().items():
            golden[table][cell] = trajectory(spec, dataset)
    for table, found in golden.items():
        (GOLDEN / f"table{table}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    _write()
