"""The first updates of every cell of Table 5b: a change of behaviour shows here, and asks for a new recipe version.

Run `python tests/training/test_trajectories.py` to write the file anew after a change that was meant.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import torch

from harness.config.expand import expand
from harness.config.schema import Pretrain
from harness.data.prepare import Dataset, open_dataset, prepare
from harness.training.pretraining import Pretraining
from harness.training.ranks import Ranks

GOLDEN = Path(__file__).parents[1] / "golden" / "trajectories" / "table5b.json"
UPDATES = 5
Trajectory = dict[str, list[float] | float]


def cells() -> dict[str, Pretrain]:
    """The pretrainings of Table 5b at the laptop profile, seed 0."""
    members = expand("5b", "laptop", seeds=1).members
    return {member.cell: member.subject for member in members if isinstance(member.subject, Pretrain)}


def trajectory(spec: Pretrain, dataset: Dataset) -> Trajectory:
    """Losses of the first updates, and the sum of the absolute parameters after them."""
    ranks = Ranks.join(spec.schedule.update_batch, spec.schedule.statistics_batch)
    task = Pretraining(spec, dataset, torch.device("cpu"), ranks, 1)
    losses = []
    feed = task.feed(0)
    for step in range(UPDATES):
        task.update(step, next(feed))
        losses.append(_rounded(task.diagnose()["loss"]))
    task.close()
    total = sum(float(parameter.detach().double().abs().sum()) for parameter in task.state.parameters())
    return {"losses": losses, "parameters": _rounded(total)}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


@pytest.mark.parametrize("cell", cells())
def test_first_updates_are_as_recorded(cell: str, digits: Dataset) -> None:
    """Data order, views, networks, objective, optimizer and schedules together: any of them moving is seen."""
    golden = json.loads(GOLDEN.read_text())[cell]
    found = trajectory(cells()[cell], digits)
    assert found["losses"] == pytest.approx(golden["losses"], rel=1e-4)
    assert found["parameters"] == pytest.approx(golden["parameters"], rel=1e-4)


def test_cells_differ() -> None:
    """The record tells the eight mechanisms apart: no two cells have the same first losses."""
    golden = json.loads(GOLDEN.read_text())
    assert len({tuple(one["losses"]) for one in golden.values()}) == len(golden) == 8


def _write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        prepare("digits", Path(folder), lambda _: None)
        dataset = open_dataset("digits", Path(folder))
        golden = {cell: trajectory(spec, dataset) for cell, spec in cells().items()}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    _write()
