"""The files of the figures, and what a mistake in one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.errors import ConfigError
from harness.config.metrics import METRICS
from harness.reporting.figure_layout import read_figure
from harness.reporting.figures import figure_ids

GOOD = """figure: t
caption: A test
source: nowhere
panels:
  - x: {title: X, ticks: [1, 2], labels: [a, b]}
    y: {title: Y}
    series:
      - {label: One, table: "16", metric: linear_imagenet.top1, points: [{x: 1, cell: byol_64}, {x: 2}]}
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """figuret.yaml of a checkout that holds nothing else."""
    (tmp_path / "experiments" / "recipes").mkdir(parents=True)
    (tmp_path / "tables").mkdir()
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tables" / "figuret.yaml"


@pytest.mark.parametrize("figure", figure_ids())
def test_every_figure_can_be_read(figure: str) -> None:
    """Protects the figures of the house: each names metrics that exist, and says what it is and from where."""
    described, _ = read_figure(figure)
    assert described.figure == figure
    assert {asked.metric for asked in described.asks()} <= {*METRICS, None}
    assert described.caption
    assert not described.caption.endswith(".")
    assert "Figure" in described.source


def test_looks_are_alike_in_every_panel() -> None:
    """Protects the legend: a label has one marker, in the legend's order, and shares a colour only where it is told."""
    looks = read_figure("5")[0].looks()
    assert [look.marker for look in looks.values()] == list(range(12))
    assert [look.colour for look in looks.values()] == [0] * 4 + [1] * 3 + [2] * 3 + [3] * 2
    assert list(read_figure("raft5")[0].looks()) == ["β = 0.1", "β = 1", "β = 10", "β = 100"]


def test_what_a_figure_asks_for(told: Path) -> None:
    """Protects the list of tables that a figure needs: its cells and the base of its changes."""
    told.write_text(
        GOOD.replace("points", 'against: byol_4096, points: [{x: 9, table: 1a, cell: byol}], colour: "#"\n#')
    )
    told.write_text(GOOD.replace("points: [", "against: byol_4096, points: [{x: 9, table: 1a, cell: byol}, "))
    described, _ = read_figure("t")
    assert described.tables() == ("16", "1a")
    assert [(a.table, a.cell) for a in described.asks()] == [("16", "byol_4096"), ("1a", "byol"), ("16", "byol_64")]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("figure: t", "figure: u", "tables/figuret.yaml:1: figure: says 'u' in the file of figure t"),
        ("labels: [a, b]", "labels: [a]", "tables/figuret.yaml:5: panels[0].x.labels: must be one for each tick"),
        ("    series:", "    curves:", "tables/figuret.yaml:8: panels[0].curves[0].points: unknown key 'points'"),
        (
            "imagenet.top1",
            "imagenet.top2",
            "figuret.yaml:8: panels[0].series[0].points[0]: unknown metric 'linear_imagenet.top2'; did",
        ),
        ("source: nowhere", "source: nowhere\nlegend: [Two]", "legend: must be these labels in some order: One"),
        ("cell: byol_64", "cel: byol_64", "unknown key 'cel'; did you mean 'cell'?"),
        ("{x: 1,", "{x: one,", "must be a number, not the text 'one'"),
        ("    series:", "    series: []\n    old:", "unknown key 'old'"),
    ],
)
def test_mistakes_are_said_with_their_line(told: Path, old: str, new: str, said: str) -> None:
    """Protects the person who edits a figure: one sentence with file, line and what would be right."""
    assert old in GOOD
    told.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError) as error:
        read_figure("t")
    assert said in str(error.value)


def test_more_colours_than_can_be_told_apart(told: Path) -> None:
    """Protects the print in grey from a fifth colour, and markers from running out."""
    series = GOOD.splitlines()[-1]
    told.write_text(GOOD + "".join(f"{series.replace('One', f'More {n}')}\n" for n in range(4)))
    with pytest.raises(ConfigError, match="at most 12 labels in 4 colours can be told apart"):
        read_figure("t")
    told.write_text(GOOD.replace("One", "One, colour: c") + f"{series.replace('One', 'Two, colour: c')}\n")
    assert [look.colour for look in read_figure("t")[0].looks().values()] == [0, 0]


def test_a_panel_without_anything(told: Path) -> None:
    """Protects from an empty pair of axes that nobody meant."""
    told.write_text(GOOD.split("    series:", maxsplit=1)[0])
    with pytest.raises(ConfigError, match=r"panels\[0\]: must have series or curves, and not both"):
        read_figure("t")
