"""Tables 3 and 13: which dataset a cell transfers to, how, and what the two share."""

from __future__ import annotations

import pytest

from harness.config.datasets import DATASETS
from harness.config.expand import declared_cells, expand
from harness.config.files import profile_names
from harness.config.schema import Choice, Logistic, Pretrain, RandomEncoder
from harness.reporting.layout import Layout, cells_of, read_layout


def _layout(table: str) -> Layout:
    return read_layout(table, declared_cells(table))


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("table", ["3", "13"])
def test_a_transfer_is_to_the_dataset_of_its_column(table: str, profile: str) -> None:
    """Protects the columns: a cell's dataset is its column's, or its twin, and the metric printed is that dataset's."""
    layout = _layout(table)
    groups = {cell: group for row in layout.rows for group, cell in cells_of(row).items()}
    transfers = [
        (member.cell, member.evaluation.data.dataset)
        for member in expand(table, profile).members
        if isinstance(member.evaluation, Logistic | Choice) and member.evaluation.evaluation == "transfer"
    ]
    assert len(transfers) == {"3": 60, "13": 33}[table]
    for cell, dataset in transfers:
        assert dataset == groups[cell] + "-stand-in" * (profile == "laptop")
        assert layout.metrics_of(groups[cell]) == (f"transfer.{DATASETS[dataset].metric}",)


def test_a_row_says_how_it_transfers() -> None:
    """Protects Table 3's rows of ours: protocol and method; nothing has trained the encoder of Random init."""
    rows = {cell: row for row in _layout("3").rows for cell in cells_of(row).values()}
    for member in expand("3", "imagenet").members:
        logistic, subject = isinstance(member.evaluation, Logistic), member.subject
        assert rows[member.cell]["protocol"] == ("Linear evaluation" if logistic else "Fine-tuned")
        if isinstance(subject, RandomEncoder):
            assert (rows[member.cell]["method"], subject.encoder) == ("Random init", "resnet50")
            continue
        assert isinstance(subject, Pretrain)
        assert rows[member.cell]["method"] == ("BYOL" if subject.objective.predictor else "SimCLR (repro)")
        assert (subject.schedule.epochs, subject.data.dataset) == (1000, "imagenet")


def test_the_two_tables_share_their_runs() -> None:
    """Protects GPU-hours: BYOL's linear row of Table 3 is the first of Table 13, which leaves out VOC 2007."""
    three, thirteen = ({m.cell: m.evaluation_key for m in expand(table, "imagenet").members} for table in ("3", "13"))
    pairs = {cell: cell.replace("linear_byol", "byol_imagenet") for cell in three if cell.startswith("linear_byol")}
    assert {cell for cell, other in pairs.items() if thirteen.get(other) != three[cell]} == {"linear_byol_voc2007"}
    assert len(pairs) == 12
