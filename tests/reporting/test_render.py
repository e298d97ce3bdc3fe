"""Tables as csv, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.reporting.aggregate import Table
from harness.reporting.render import footer, render_csv, render_latex, render_markdown, write_table

Build = Callable[..., Table]
GOLDEN = Path(__file__).parents[1] / "golden" / "reporting"
RENDER = {"csv": render_csv, "md": render_markdown, "tex": render_latex}
COLUMNS = "table,cell,metric,ours,ours_half_range,seeds,paper,paper_half_range,delta,status,verdict,run_keys"


@pytest.mark.parametrize("profile", ["imagenet", "laptop"])
@pytest.mark.parametrize("form", RENDER)
def test_golden(table: Build, profile: str, form: str) -> None:
    """Protects every character of the three forms, with cells finished, partial, pending, failed and diverged.

    After a change that is meant, write the files anew and look at their diff:
    HARNESS_WRITE_GOLDEN=1 python -m pytest tests/reporting/test_render.py
    """
    path = GOLDEN / f"table5b_{profile}.{form}"
    text = RENDER[form](table(profile))
    if os.environ.get("HARNESS_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "the rendering moved: see this test's docstring"


def test_csv_columns(table: Build) -> None:
    """Protects whoever reads the csv by name, and one row for each cell and metric in the paper's order."""
    text = render_csv(table())
    assert text.splitlines()[0] == COLUMNS
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["cell"] for row in rows] == [row["cell"] for row in table().layout.rows]
    byol, unfinished = rows[0], rows[3]
    assert float(byol["ours"]) == pytest.approx(72.55)
    assert float(byol["ours_half_range"]) == pytest.approx(0.175)
    assert float(byol["delta"]) == pytest.approx(0.05)
    assert byol["run_keys"] == "byol.0.linear byol.1.linear byol.2.linear"
    assert (unfinished["ours"], unfinished["delta"], unfinished["status"]) == ("", "", "pending")
    assert unfinished["paper"] == "69.4"


def test_stand_in_data_is_not_compared(table: Build) -> None:
    """Protects against reading digits at 16 px as ImageNet: no difference to the paper, and a line that says so."""
    rows = list(csv.DictReader(io.StringIO(render_csv(table("laptop")))))
    assert rows[0]["ours"]
    assert not any(row["delta"] or row["verdict"] for row in rows)
    assert any("stand-in data" in line for line in footer(table("laptop")))
    assert not any("stand-in" in line for line in footer(table("imagenet")))


def test_an_unfinished_cell_is_seen(table: Build) -> None:
    """Protects the reader from taking a gap for a result: `--`, and in the footer what is missing."""
    text = render_markdown(table())
    row = next(line for line in text.splitlines() if line.startswith("| SimCLR"))
    assert [cell.strip() for cell in row.strip("|").split("|")][-2:] == ["--", "69.4"]
    assert "simclr: pending, 0 of 3 seeds finished." in text
    assert "nopred_ema_beta1: partial, 2 of 3 seeds finished." in text
    assert "byol: " not in text


def test_spread_and_collapse(table: Build) -> None:
    """Protects the marks: a spread from above 0.25 alone, † with the share of seeds where it is not all of them."""
    rows = {row[0]: line for row, line in zip(table().numbers, render_markdown(table()).splitlines()[4:], strict=False)}
    assert re.search(r"\| 72\.5 +\| 72\.5 ", rows["byol"])
    assert "| 70.5 ± 0.5 " in rows["pred_ema_beta1"]
    assert re.search(r"\| 0\.2 † +\|", rows["pred_online_beta0"])
    assert "| 0.2 † 1/3 " in rows["nopred_ema_beta0"]


def test_one_cell_and_fewer_seeds(table: Build) -> None:
    """Protects CELL and SEEDS: the rows that were asked for, complete with the seeds that were asked for."""
    one = table(seeds=1, cell="nopred_ema_beta1")
    lines = render_markdown(one).splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 3
    assert not any("seeds" in line and "Paper" not in line for line in footer(one))


def test_written_files(table: Build, tmp_path: Path) -> None:
    """Protects the names of the files, their content, and the folder from temporary ones."""
    folder = tmp_path / "built" / "imagenet"
    written = write_table(table(), folder)
    assert [path.name for path in written] == ["table5b.csv", "table5b.md", "table5b.tex"]
    assert sorted(folder.iterdir()) == sorted(written)
    assert (folder / "table5b.md").read_text(encoding="utf-8") == render_markdown(table())


def test_a_bar_in_a_label(table: Build) -> None:
    """Protects the columns of a Markdown row from a label that holds their separator."""
    made = table()
    first = {**made.layout.rows[0], "label": "a|b"}
    text = render_markdown(replace(made, layout=replace(made.layout, rows=(first, *made.layout.rows[1:]))))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert "a\\|b" in text
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {7}


SPECIAL = "a&b %c $d #e _f {g} ~h ^i \\j <k> |l β τ ± † ✓"


def test_latex_is_whole(table: Build) -> None:
    """Protects a paper from a table that does not compile: braces, environments, columns, whatever the labels say."""
    made = table()
    first = {**made.layout.rows[0], "label": SPECIAL}
    layout = replace(made.layout, caption=SPECIAL, doubts=(SPECIAL,), rows=(first, *made.layout.rows[1:]))
    text = render_latex(replace(made, layout=layout))
    assert text.isascii()
    bare = text.replace("\\\\", "").replace("\\{", "").replace("\\}", "")
    depths = [bare[:end].count("{") - bare[:end].count("}") for end in range(len(bare) + 1)]
    assert min(depths) == depths[-1] == 0
    environments = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    nested = ["table", "tabular", "minipage"]
    assert [name for verb, name in environments if verb == "begin"] == nested
    assert [name for verb, name in environments if verb == "end"] == ["tabular", "minipage", "table"]
    (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert len(rows) == 1 + len(layout.rows)
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns) - 1}
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%#_]", code), "would be a comment, a parameter or a subscript"
    assert not re.search(r"[<>|~^]", code)
    assert len(re.findall(r"(?<!\\)\$", code)) % 2 == 0
