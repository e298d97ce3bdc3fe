"""What the printed forms share: texts of numbers, merged labels, the best in bold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.reporting.aggregate import CellNumber, Table
from harness.reporting.layout import Bold, PaperNumber, layout_ids
from harness.reporting.render import Entry, best_numbers, grid, labels, ours_text, paper_text, rows_of

Build = Callable[..., Table]
TOP1 = "linear_imagenet.top1"


def _number(ours: float | None, half: float | None = None, metric: str = TOP1, **rest: object) -> CellNumber:
    number = CellNumber("c", metric, ours, half, 3, 3, None, "complete", collapsed=0, diverged=0, run_keys=())
    return replace(number, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (_number(72.46, 0.25), "72.5"),
        (_number(72.46, 0.2501), "72.5 ± 0.3"),
        (_number(72.46, 0.5, "linear_raft.top1"), "72.46 ± 0.50"),
        (_number(-2.071, 0.0004, "pretrain.uniform"), "-2.07 ± 0.0004"),
        (_number(1.94e-10, None, "pretrain.align"), "1.94e-10"),
        (_number(1281167.0, None, "split.train"), "1281167"),
        (_number(0.2, collapsed=3), "0.2 †"),
        (_number(0.2, collapsed=1, diverged=2), "0.2 † 1/3 ‡ 2/3"),
        (_number(71.0, not_finite=1), "71.0 § 1/3"),
        (_number(None, not_finite=3), "-- §"),
        (_number(None, collapsed=1), "--"),
        (_number(None, diverged=3, metric="transfer.map11"), "-- ‡"),
        (_number(None, status="quoted"), ""),
    ],
)
def test_the_text_of_ours(number: CellNumber, text: str) -> None:
    """Protects the paper's rule of what is printed after ±, the digits of each unit, and every mark."""
    assert ours_text(number) == text


def test_the_text_of_the_papers() -> None:
    """Protects the paper's column: its own spread as printed, and a gap that is seen."""
    assert paper_text(_number(None, paper=PaperNumber(mean=18.8, half_range=0.7))) == "18.8 ± 0.7"
    assert paper_text(_number(None, paper=PaperNumber(mean=72.5))) == "72.5"
    assert paper_text(_number(None)) == "--"


@pytest.mark.parametrize("table", layout_ids())
def test_a_grid_is_a_rectangle(example: Build, table: str) -> None:
    """Protects every form from a row that is too short, and the paper's column from a number that it lost."""
    made = example(table, "partial")
    printed = grid(made)
    assert {len(row) for row in printed.body} == {len(printed.labels) + len(printed.headings)}
    assert len({len(headings) for headings in printed.headings}) == 1
    papers = [len(printed.labels) + i for i, headings in enumerate(printed.headings) if headings[-1] == "paper"]
    texts = sorted(row[i].text for row in printed.body for i in papers if row[i].text not in ("", "--"))
    assert texts == sorted(paper_text(number) for number in made.numbers.values() if number.paper)


def test_equal_neighbours_are_merged(example: Build) -> None:
    """Protects Table 14a's projector depths: each once for its three rows, and no other label."""
    made = example("14a", "none")
    projector, predictor = ([row[i] for row in grid(made).body] for i in (0, 1))
    assert projector == [Entry(str(n), rows=rows) for n in (1, 2, 3) for rows in (3, 0, 0)]
    assert predictor == [Entry(str(n)) for _ in range(3) for n in (1, 2, 3)]
    both = replace(made, layout=replace(made.layout, merged=("projector", "predictor")))
    assert [[row[i].rows for row in grid(both).body] for i in (0, 1)] == [[3, 0, 0] * 3, [1] * 9]


def test_a_block_that_is_quoted_has_no_column_of_ours(example: Build) -> None:
    """Protects Table 9 from an empty column: the supervised numbers of the SimCLR paper stand alone."""
    headings = grid(example("9", "none")).headings
    assert headings[-3:] == (
        ("Supervised (ours)", "Top-5", "ours"),
        ("Supervised (ours)", "Top-5", "paper"),
        ("Supervised (SimCLR)", "Top-1", "paper"),
    )


# What the paper prints bold, from the tables of its appendix; where it prints a tie bold once, all that tie are.
BOLD = {
    "7": ["74.8", "91.8", "91.8", "91.8", "79.0", "94.5", "80.0", "95.0", "95.0"],
    "8": ["78.9", "94.2", "77.7", "93.9"],
    "9": ["79.6", "94.9", "80.9", "95.3", "95.3", "95.3"],
    "11": ["77.5", "76.3"],
    "12": ["84.6", "96.7", "99.1", "99.1", "0.399", "0.127"],
    "13": ["53.2", "58.5", "64.7", "84.5", "66.1", "28.8", "64.2", "55.6", "55.9", "68.5", "66.1", "84.3", "90.0"],
    "14a": ["72.5", "90.8"],
    "14b": ["72.6", "91.0", "91.0"],
    "15a": ["72.5", "90.8"],
    "15b": ["72.6", "91.0"],
    "16": ["72.5", "90.8", "90.8"],
    "18": ["72.7", "72.7", "72.7", "72.7", "72.7", "91.2"],
    "19": ["72.5"],
    "20": ["72.5", "72.5 ± 0.4", "90.8"],
    "22": [],
}


@pytest.mark.parametrize("table", BOLD)
def test_what_the_paper_prints_bold(example: Build, table: str) -> None:
    """Protects the emphasis: the best of what the paper compares, the smallest where less is better."""
    printed = grid(example(table, "none"))
    assert sorted(entry.text for row in printed.body for entry in row if entry.bold) == sorted(BOLD[table])


def test_ours_is_bold_once_all_are_finished(table: Build) -> None:
    """Protects the reader from a winner among those that happened to finish first."""
    finished = dict.fromkeys(table().cells, ("71.0", "71.0", "71.0")) | {"simclr": ("71.5", "71.5", "71.5")}
    best = {cell for cell, _, side in best_numbers(table(results=finished)) if side == "ours"}
    assert best == {"simclr"}
    for fate in ("pending", "failed"):
        unfinished = finished | {"byol": ("71.0", fate, "71.0")}
        assert not [1 for *_, side in best_numbers(table(results=unfinished)) if side == "ours"]
    plain = table(results=finished)
    assert not best_numbers(replace(plain, layout=replace(plain.layout, bold=Bold(best=False))))


def test_a_label_tells_what_was_really_used(example: Build) -> None:
    """Protects the reader at a small scale: the paper's setting, and this profile's beside it where it differs."""
    laptop = example("16", "none", "laptop")
    assert [labels(laptop, row) for row in rows_of(laptop)][::3] == [
        ("4096 (here 128)",),
        ("512 (here 16)",),
        ("64 (here 4)",),
    ]
    paper = example("16", "none")
    assert next(labels(paper, row) for row in rows_of(paper)) == ("4096",)
    taus = example("5a", "none", "laptop")
    assert [labels(taus, row)[1] for row in rows_of(taus)] == [
        "1",
        "0.999 (here 0.995)",
        "0.99 (here 0.95)",
        "0.9 (here 0.5)",
        "0",
    ]
