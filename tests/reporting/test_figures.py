"""The files that a figure leaves."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from generated_results import figure_inputs

import harness.reporting.draw
from harness.config.errors import ConfigError
from harness.reporting.figures import figure_ids, write_figure


def test_ids_are_the_papers_in_its_order() -> None:
    """Protects what can be asked for: every figure of numbers of both papers."""
    assert figure_ids() == ["1", "3a", "3b", "4", "5", "6", "7", "raft4", "raft5"]


@pytest.mark.parametrize("figure", ["3b", "raft4"])
def test_three_files_that_can_be_opened(figure: str, tmp_path: Path) -> None:
    """Protects their readers: a svg that is XML at column or page width, a png at 300 dots an inch, a csv."""
    tables, curves = figure_inputs([figure], "laptop")
    paths = write_figure(figure, tables, curves, tmp_path / "built")
    assert [path.name for path in paths] == [f"figure{figure}.{suffix}" for suffix in ("svg", "png", "csv")]
    assert sorted(path.name for path in (tmp_path / "built").iterdir()) == sorted(path.name for path in paths)
    width = float(str(ET.parse(paths[0]).getroot().get("width")).removesuffix("pt"))
    assert width / 72 == pytest.approx(3.35 if figure == "3b" else 6.9)
    assert int.from_bytes(paths[1].read_bytes()[16:20], "big") == pytest.approx(width / 72 * 300, abs=1)
    assert paths[2].read_text().startswith("figure,panel,series,of,")
    before = [path.read_bytes() for path in paths]
    write_figure(figure, tables, curves, tmp_path / "built")
    assert [path.read_bytes() for path in paths] == before


def test_no_file_before_all_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a folder from half a figure: where drawing fails, the former files stay as they were."""
    tables, curves = figure_inputs(["3a"])
    before = {path: path.read_bytes() for path in write_figure("3a", tables, curves, tmp_path)}

    def fail(_: object) -> dict[str, bytes]:
        raise RuntimeError("no canvas")

    monkeypatch.setattr(harness.reporting.draw, "files", fail)
    with pytest.raises(RuntimeError, match="no canvas"):
        write_figure("3a", tables, curves, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_cell_that_no_table_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a figure's file from drifting off its tables: the line that names what is not there."""
    tables, curves = figure_inputs(["3a"])
    with pytest.raises(ConfigError, match=r"tables/figure3b.yaml:\d+: .*: unknown table '17'"):
        write_figure("3b", tables, curves, tmp_path)
    other = {"17": figure_inputs(["7"])[0]["20"]}
    with pytest.raises(ConfigError, match=r"figure3b.yaml:\d+: .*against: unknown cell of table 17 'byol_baseline'"):
        write_figure("3b", other, curves, tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_any_run(tmp_path: Path) -> None:
    """Protects the first report of a checkout: figures can be made from the paper's numbers alone, or from none."""
    for figure in ("5", "7"):
        tables, curves = figure_inputs([figure], state=lambda *_: "pending")
        svg, _, long_form = write_figure(figure, tables, curves, tmp_path)
        assert svg.stat().st_size > 1000
        assert not [line for line in long_form.read_text().splitlines() if ",ours," in line and ",complete," in line]
