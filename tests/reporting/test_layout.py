"""tables/table<ID>.yaml: its mistakes, and the paper's numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.config.errors import ConfigError
from harness.config.expand import declared_cells
from harness.config.files import table_ids
from harness.reporting.layout import read_layout

REPOSITORY = Path(__file__).parents[2]
TOP1 = "linear_imagenet.top1"

# Table 5(b) of Grill et al. 2020 (arXiv 2006.07733v3), typed from the paper: predictor, target network, beta, top-1.
PAPER_5B = [
    ("BYOL", True, True, 0, 72.5),
    (None, True, True, 1, 70.9),
    (None, False, True, 1, 70.7),
    ("SimCLR", False, False, 1, 69.4),
    (None, True, False, 1, 69.1),
    (None, True, False, 0, 0.3),
    (None, False, True, 0, 0.2),
    (None, False, False, 0, 0.1),
]


def test_the_numbers_of_table_5b() -> None:
    """Protects the paper's column: each row and number as printed, none with a spread."""
    layout = read_layout("5b", declared_cells("5b"))
    rows = [
        (row.get("label"), row["predictor"], row["target"], row["beta"], layout.paper[str(row["cell"])][TOP1].mean)
        for row in layout.rows
    ]
    assert rows == PAPER_5B
    assert all(number.half_range is None for numbers in layout.paper.values() for number in numbers.values())


def test_what_a_row_says_is_what_its_cell_does() -> None:
    """Protects the labels: the objective that is trained has the row's predictor, target network and beta."""
    from harness.config.expand import expand  # noqa: PLC0415
    from harness.config.schema import Pretrain  # noqa: PLC0415

    layout = read_layout("5b", declared_cells("5b"))
    rows = {row["cell"]: row for row in layout.rows}
    for member in expand("5b", "imagenet", 1).members:
        assert isinstance(member.subject, Pretrain)
        objective, row = member.subject.objective, rows[member.cell]
        assert (objective.predictor, objective.target == "ema", objective.beta) == (
            row["predictor"],
            row["target"],
            row["beta"],
        )
        assert objective.temperature == (0.1 if objective.beta else None)


@pytest.mark.parametrize("table", table_ids())
def test_every_table_has_a_layout(table: str) -> None:
    """Protects `make tables` from a table that trains for weeks and cannot be printed."""
    assert read_layout(table, declared_cells(table)).table == table


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("{cell: simclr,", "{cell: simclear,", 10, "rows[3]: unknown cell 'simclear'; did you mean 'simclr'?"),
        ("  - {cell: byol, label: BYOL,", "  - {label: BYOL,", 7, "rows[0]: names no cell"),
        ("label: SimCLR,", "lable: SimCLR,", 10, "rows[3]: unknown column 'lable'; did you mean 'label'?"),
        ("label: BYOL, predictor: true", "label: BYOL, predictor: []", 7, "rows[0].predictor: [] fits none of"),
        ("metrics: [linear_imagenet.top1]", "metrics: [linear.top1]", 4, "metrics: unknown metric 'linear.top1'"),
        ("  simclr: {", "  simclear: {", 19, "paper.simclear: unknown cell 'simclear'; did you mean 'simclr'?"),
        ("  byol: {linear_imagenet.top1", "  byol: {linear.top1", 16, "paper.byol: unknown metric 'linear.top1'"),
        ("{mean: 72.5}", "{mean: 725e-1}", 16, "mean: must be a number, not the text '725e-1'"),
        ('table: "5b"', 'table: "5a"', 2, "table: says '5a' in the file of table 5b"),
        ("caption:", "captoin:", 3, "captoin: unknown key 'captoin'; did you mean 'caption'?"),
        (
            "  - {cell: simclr, label: SimCLR, predictor: false, target: false, beta: 1}\n",
            *("", 6, "rows: has no row for simclr"),
        ),
        ("{cell: pred_ema_beta1, predictor", "{cell: byol, predictor", 6, "rows: has no row for pred_ema_beta1"),
        ("beta: 0}\npaper:", "beta: 0}\n  - {cell: byol}\npaper:", 6, "rows: shows a cell twice"),
    ],
)
def test_a_mistake_in_a_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, line: int, problem: str
) -> None:
    """Protects the person who made it: file, line and what is wrong, before anything is trained."""
    for folder in ("experiments", "tables"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("built"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    path = tmp_path / "tables" / "table5b.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_layout("5b", declared_cells("5b"))
    assert str(caught.value).startswith(f"tables/table5b.yaml:{line}: ")
    assert problem in str(caught.value)
