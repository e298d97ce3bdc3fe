"""tables/table<ID>.yaml: its mistakes, and the paper's numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.config.errors import ConfigError
from harness.config.expand import declared_cells
from harness.config.files import table_ids
from harness.reporting.layout import PaperNumber, cells_of, layout_ids, read_layout

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
    rows: list[object] = [
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


# Every table of the BYOL paper, those of RAFT's with numbers, and ours.
TABLES = """1a 1b 2a 2b 3 4a 4b 5a 5b 6 7 8 9 10 11 12 13 14a 14b 15a 15b 16 17 18 19 20 21 22
    detection extras fractions fractions_encoders raft1 raft3 simclr_steps"""


def test_every_table_has_a_layout() -> None:
    """Protects `make tables` from a table that trains for weeks and cannot be printed, and the paper from a gap."""
    assert layout_ids() == TABLES.split()
    assert set(table_ids()) <= set(layout_ids())


@pytest.mark.parametrize("table", layout_ids())
def test_declarations_and_layouts_agree(table: str) -> None:
    """Protects each cell: declared with its runs, or said to be quoted; read_layout refuses the rest."""
    declared = declared_cells(table) if table in table_ids() else ()
    layout = read_layout(table, declared)
    shown = [cell for row in layout.rows for cell in cells_of(row).values()]
    assert len(set(shown)) == len(shown)
    assert set(declared) <= set(shown)
    assert {leaf.group for leaf in layout.leaves()} == set(layout.groups or {"": None})
    assert layout.source.startswith(("Grill et al. 2020", "Shi et al. 2020"))


# Numbers, and their sum, of the tables without runs; test_tables.py has those of the others.
SUMS = {
    "1a": (13, 985.5),
    "1b": (15, 1244.6),
    "2a": (16, 1034.8),
    "2b": (22, 1758.1),
    "3": (108, 8637.6),
    "4a": (8, 600.4),
    "4b": (15, 836.561),
    "6": (20, 8.5),
    "7": (24, 2056.2),
    "8": (11, 931.7),
    "9": (51, 4388.4),
    "10": (73, 6919115),
    "11": (14, 1032.6),
    "12": (40, 2175.242),
    "13": (39, 2583.6),
}


@pytest.mark.parametrize("table", SUMS)
def test_the_papers_numbers_add_up(table: str) -> None:
    """Protects the paper's columns from a slip of the hand; added up from the paper."""
    cells = declared_cells(table) if table in table_ids() else ()
    numbers = [number for told in read_layout(table, cells).paper.values() for number in told.values()]
    assert (len(numbers), round(sum(number.mean for number in numbers), 3)) == SUMS[table]
    assert not any(number.half_range for number in numbers)


def test_tables_that_repeat_others() -> None:
    """Protects Tables 4 and 11, 4 and 12, 1 and 9 against each other: the paper prints those rows twice."""
    named = ("1a", "1b", "4a", "4b", "7", "9", "11", "12")
    cells = {table: declared_cells(table) if table in table_ids() else () for table in named}
    numbers = {table: read_layout(table, cells[table]).paper for table in named}
    for short, long in (("4a", "11"), ("4b", "12")):
        assert numbers[short].items() <= numbers[long].items()
    for table, cell, nine, seven in (
        ("1a", "byol", "byol_50x1", "r50x1_plain"),
        ("1b", "byol_50x4", "byol_50x4", "r50x4_plain"),
        ("1b", "byol_200x2", "byol_200x2", "r200x2_plain"),
    ):
        assert numbers[table][cell] == numbers["7"][seven]
        assert numbers[table][cell][TOP1] == numbers["9"][nine][TOP1]
    assert numbers["9"]["byol_200x2"]["linear_imagenet.top5"] == PaperNumber(mean=94.9), "a doubt of three tables"


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
        (
            "rows:\n",
            "quoted: [byol]\nrows:\n",
            6,
            "quoted: 'byol' has runs: experiments/tables/table5b.yaml declares it",
        ),
        ("rows:\n", "quoted: [more]\nrows:\n", 7, "rows: has no row for more"),
        ("rows:\n", "merged: [lable]\nrows:\n", 6, "merged: unknown column 'lable'; did you mean 'label'?"),
        ("rows:\n", "bold: {within: lable}\nrows:\n", 6, "bold.within: unknown column 'lable'"),
        ("rows:\n", "settings: {beta: objective.bta}\nrows:\n", 6, "settings.beta: 'objective.bta' is no field"),
        ("metrics: [linear_imagenet.top1]", "metrics: []", 4, "metrics: names no metric"),
        (
            "metrics: [linear_imagenet.top1]",
            "metrics: [linear_imagenet.top5]",
            16,
            "'linear_imagenet.top1' has no column",
        ),
        ("rows:\n", "groups: {a: {title: A}}\nrows:\n", 8, "rows[0]: unknown column 'cell'; did you mean 'cells'?"),
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


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ('  - {cells: "{group}_64"', "  - {cells: {byol: byol_64, simclr: simclear_64}", 18, "rows[6]: unknown cell"),
        (
            '  - {cells: "{group}_64"',
            "  - {cells: {bjol: byol_64, simclr: simclr_64}",
            18,
            "cells: unknown group 'bjol'",
        ),
        ('  - {cells: "{group}_64"', "  - {cells: {byol: byol_64}", 11, "rows: has no row for simclr_64"),
        ('  - {cells: "{group}_64"', '  - {cells: "{gruop}_64"', 18, "rows[6]: cells: '{gruop}_64' needs a {group}"),
        ("simclr: {title: SimCLR (repro)}", "simclr: {title: S, metrics: [top1]}", 8, "metrics: unknown metric 'top1'"),
    ],
)
def test_a_mistake_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, line: int, problem: str
) -> None:
    """Protects the person who made it, in a table whose cells stand in blocks."""
    for folder in ("experiments", "tables"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("built"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    path = tmp_path / "tables" / "table16.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_layout("16", declared_cells("16"))
    assert str(caught.value).startswith(f"tables/table16.yaml:{line}: ")
    assert problem in str(caught.value)
