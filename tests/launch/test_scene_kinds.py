"""Detection, depth and the candidates of a segmentation as runs: what their records hold, and what they leave."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config.expand import declared_cells, expand
from harness.config.identity import run_key
from harness.config.schema import Depth, Detection, RandomEncoder, Segmentation, Tried
from harness.data.prepare import prepare
from harness.launch.cost import Scale
from harness.launch.machines import machine_named
from harness.launch.place import Place
from harness.launch.plan import make_plan, needs, status
from harness.launch.share import updates
from harness.launch.specs import write_spec
from harness.launch.task import execute
from harness.reporting.layout import cells_of, read_layout
from harness.tracking.record import Record, Runs

pytestmark = pytest.mark.timeout(180)
SUBJECT = RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=0)
SMALL = {"subject": run_key(SUBJECT), "steps": 3, "batch": 2}


def ended(runs: Runs, place: Place, data: Path, spec: Detection | Depth | Segmentation) -> Record:
    """Its record, of an untrained encoder."""
    prepare(spec.data.dataset, data, lambda _: None)
    write_spec(runs, SUBJECT)
    return execute(write_spec(runs, spec), place)


def printed(table: str, cell: str) -> set[str]:
    """The metrics that a cell has columns for."""
    layout = read_layout(table, declared_cells(table))
    (group,) = (group for row in layout.rows for group, name in cells_of(row).items() if name == cell)
    return set(layout.metrics_of(group))


def check_tested_once(runs: Runs, record: Record, spec: Detection | Depth) -> None:
    """Nothing was chosen, which is recorded before the test; its updates were made; no checkpoint is left."""
    folder = runs.folder(record.key)
    assert (record.state, record.kind, record.cost["updates"]) == ("done", spec.kind, 3)
    assert record.selection == json.loads((folder / "selection.json").read_text())
    assert record.selection["chosen"] == "as printed"
    assert not (folder / "checkpoints").exists()


def test_a_detection_has_what_table_4a_prints(runs: Runs, place: Place, data: Path) -> None:
    """Protects the column: the metric's name, and the one opening of the test."""
    spec = expand("4a", "laptop", 1, "byol_detection").members[0].evaluation
    assert isinstance(spec, Detection)
    small = replace(spec, **SMALL, samples=8, warmup_steps=0)
    record = ended(runs, place, data, small)
    check_tested_once(runs, record, small)
    assert set(record.results) == printed("4a", "byol_detection")
    assert 0 <= record.results["detection.ap50"] <= 100


def test_a_depth_has_what_table_4b_prints(runs: Runs, place: Place, data: Path) -> None:
    """Likewise, five of them."""
    spec = expand("4b", "laptop", 1, "byol").members[0].evaluation
    assert isinstance(spec, Depth)
    small = replace(spec, **SMALL)
    record = ended(runs, place, data, small)
    check_tested_once(runs, record, small)
    assert set(record.results) == printed("4b", "byol")


def test_a_segmentation_that_diverged_is_waited_for_no_longer(runs: Runs, place: Place, data: Path) -> None:
    """Protects a sweep: at a rate that is too high a candidate ends as diverged, and the choice goes on without it."""
    member = expand("4a", "laptop", 1, "byol_segmentation").members[0]
    one = member.candidates[0]
    assert isinstance(one, Segmentation)
    wild = replace(one, **SMALL, learning_rate=1e30, crop=17)
    record = ended(runs, place, data, wild)
    assert record.state == "diverged"
    assert isinstance(wild, Tried)
    assert status(runs, record.key, wild) == "diverged"
    assert needs(member.evaluation) == tuple(run_key(candidate) for candidate in member.candidates)


def test_they_are_planned_before_their_choices(runs: Runs) -> None:
    """Protects the order of a sweep, and the size of an update that a GPU is shared by."""
    plan = make_plan([expand("4a", "laptop", 1), expand("4b", "laptop", 1)], runs, Scale(machine_named("cpu", "here")))
    kinds = [run.kind for run in plan.runs]
    assert kinds.count("pretrain") == 2
    assert {kind: kinds.count(kind) for kind in ("segmentation", "choice", "detection", "depth")} == {
        "segmentation": 4,
        "choice": 2,
        "detection": 2,
        "depth": 2,
    }
    assert kinds.index("choice") == len(kinds) - 2
    for run in plan.runs:
        if isinstance(run.spec, Segmentation | Detection | Depth):
            assert updates(run) == run.spec.steps
