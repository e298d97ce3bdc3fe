"""Tables as LaTeX: every one compiles, by pdflatex where there is one, and by a reader of its own everywhere."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.reporting.aggregate import Table
from harness.reporting.latex import PACKAGES, render_latex
from harness.reporting.layout import layout_ids

Build = Callable[..., Table]
DOCUMENT = """\\documentclass{article}
\\usepackage{%s}
\\begin{document}
%s
\\end{document}
"""
SPECIAL = "a&b %c $d #e _f {g} ~h ^i \\j <k> |l β τ λ μ ± \u00d7 † ‡ § ² ³ ✓"

COMMANDS = """
    begin end centering caption resizebox rotatebox ifdim width linewidth textheight else fi toprule midrule bottomrule
    cmidrule multicolumn textbf par footnotesize raggedright setlength tabcolsep checkmark pm times dagger ddagger S
    beta lambda mu tau textbackslash textasciitilde textasciicircum textless textgreater textbar
"""


def _check(text: str) -> None:
    """Braces and environments pair, every row has the columns that were declared, and every command is known."""
    assert text.isascii()
    code = "\n".join(re.sub(r"(?<!\\)%.*", "", line) for line in text.splitlines())
    bare = re.sub(r"\\[\\{}&%$#_]", "", code)
    depth = 0
    for letter in bare:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[#_~<>|]", re.sub(r"\$[^$]*\$|\\if.*", "", bare))
    assert set(re.findall(r"\\([A-Za-z]+)", code)) <= set(COMMANDS.split())
    assert set(re.findall(r"\\([^A-Za-z\s])", code)) <= set("\\{}&%$#_")
    open_: list[str] = []
    for verb, name in re.findall(r"\\(begin|end)\{(\w+)\}", code):
        if verb == "begin":
            open_.append(name)
        else:
            assert open_.pop() == name
    assert not open_
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", code)
    body = code[code.index("\\toprule") : code.index("\\bottomrule")]
    rows = [line.removesuffix(" \\\\") for line in body.splitlines() if line.endswith("\\\\")]
    assert len(rows) > 2
    for row in rows:
        cells = re.split(r"(?<!\\)&", row)
        spans = [int(span) for span in re.findall(r"\\multicolumn\{(\d+)\}", row)]
        assert len(cells) - len(spans) + sum(spans) == len(columns), row
    for first, last in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", body):
        assert 1 <= int(first) <= int(last) <= len(columns)


@pytest.mark.parametrize("table", layout_ids())
def test_latex_is_whole(example: Build, table: str) -> None:
    """Protects a paper from a table that does not compile, read without LaTeX."""
    _check(render_latex(example(table, "partial")))


def test_the_reader_is_strict(example: Build) -> None:
    """Protects the test above from passing anything: each of these mistakes is found."""
    text = render_latex(example("16", "none"))
    for old, new in (
        ("\\end{tabular}}", "\\end{tabular}"),
        ("\\end{tabular}", "\\end{table}"),
        ("\\toprule", "\\topprule"),
        ("{lrrrrrrrr}", "{lrrrrrrr}"),
        ("\\multicolumn{4}", "\\multicolumn{3}"),
        ("$\\pm$", "±"),
        ("$\\pm$", "$\\pm"),
        ("Batch size", "Batch_size"),
    ):
        assert old in text
        with pytest.raises((AssertionError, IndexError)):
            _check(text.replace(old, new, 1))


def test_what_labels_say_is_text(table: Build) -> None:
    """Protects a document from labels, captions and notes that hold what LaTeX reads as commands."""
    made = table()
    first = {**made.layout.rows[0], "label": SPECIAL}
    layout = replace(made.layout, caption=SPECIAL, doubts=(SPECIAL,), rows=(first, *made.layout.rows[1:]))
    _check(render_latex(replace(made, layout=layout)))


def test_headings_span_what_they_head(example: Build) -> None:
    """Protects Table 16's shape: two metrics over two methods over ours and the paper's."""
    lines = render_latex(example("16", "none")).splitlines()
    at = lines.index("\\toprule")
    two = "\\multicolumn{2}{c}{BYOL} & \\multicolumn{2}{c}{SimCLR (repro)}"
    assert lines[at + 1 : at + 6] == [
        " & \\multicolumn{4}{c}{Top-1} & \\multicolumn{4}{c}{Top-5} \\\\",
        "\\cmidrule(lr){2-5}\\cmidrule(lr){6-9}",
        f" & {two} & {two} \\\\",
        "\\cmidrule(lr){2-3}\\cmidrule(lr){4-5}\\cmidrule(lr){6-7}\\cmidrule(lr){8-9}",
        "Batch size & ours & paper & ours & paper & ours & paper & ours & paper \\\\",
    ]


def test_merged_rows_stand_in_blocks(example: Build) -> None:
    """Protects Table 14a's shape: a depth of the projector once, and a rule between the three."""
    body = render_latex(example("14a", "none")).split("\\midrule\n")
    assert [block.split(" & ")[0] for block in body[1:]] == ["1", "2", "3"]


def test_a_wide_table_is_turned(example: Build) -> None:
    """Protects a page from a table of 24 columns across it."""
    assert "\\rotatebox{90}" in render_latex(example("3", "none"))
    assert "\\rotatebox" not in render_latex(example("17", "none"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here; what LaTeX must read was checked above")
@pytest.mark.parametrize("state", ["none", "partial", "complete"])
def test_latex_compiles(example: Build, tmp_path: Path, state: str) -> None:
    """Protects a paper from a table that does not compile: all of them in one short document, without a warning."""
    tables = "\\clearpage\n".join(render_latex(example(table, state)) for table in layout_ids())
    (tmp_path / "tables.tex").write_text(DOCUMENT % (PACKAGES, tables), encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert not [line for line in done.stdout.splitlines() if line.startswith("Overfull")]
    assert f"({len(layout_ids())} pages" in done.stdout
