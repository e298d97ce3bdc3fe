"""A table as LaTeX, in the paper's shape, ours beside paper."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from harness.reporting.aggregate import Table
from harness.reporting.footer import footer
from harness.reporting.render import Entry, Grid, grid

PACKAGES = "booktabs,amssymb,graphicx"
SIDEWAYS = 16  # more columns of numbers than this are turned by a right angle


def render_latex(table: Table) -> str:
    """One floating table, no wider than the text; too wide a one stands upright on a page of its own."""
    made = grid(table)
    wide = len(made.headings) > SIDEWAYS
    lines = [
        f"% needs \\usepackage{{{PACKAGES}}}",
        "\\begin{table}[p]" if wide else "\\begin{table}",
        *(["\\rotatebox{90}{\\begin{minipage}{0.95\\textheight}\\setlength{\\tabcolsep}{3pt}"] if wide else []),
        "\\centering",
        f"\\caption{{{tex(table.layout.caption)}}}",
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{{'l' * len(made.labels)}{'r' * len(made.headings)}}}",
        "\\toprule",
        *_head(made),
        "\\midrule",
        *_body(made, bool(table.layout.merged)),
        "\\bottomrule",
        "\\end{tabular}}",
        "\\\\[1ex]",
        "\\begin{minipage}{\\linewidth}\\footnotesize\\raggedright",
        *(tex(line) + "\\par" for line in footer(table)),
        "\\end{minipage}",
        *(["\\end{minipage}}"] if wide else []),
        "\\end{table}",
        "",
    ]
    return "\n".join(lines)


def _head(made: Grid) -> Iterator[str]:
    """A line a level; a heading spans the columns that share it and those above it, with a rule below."""
    labels, levels = len(made.labels), len(made.headings[0])
    for level in range(levels - 1):
        parts, rules, first = [""] * labels, [], labels + 1
        for headings, columns in groupby(made.headings, key=lambda headings: headings[: level + 1]):
            span = len(list(columns))
            parts.append(f"\\multicolumn{{{span}}}{{c}}{{{tex(headings[-1])}}}")
            rules.append(f"\\cmidrule(lr){{{first}-{first + span - 1}}}")
            first += span
        yield " & ".join(parts) + " \\\\"
        yield "".join(rules)
    yield " & ".join(tex(text) for text in (*made.labels, *(headings[-1] for headings in made.headings))) + " \\\\"


def _body(made: Grid, blocks: bool) -> Iterator[str]:
    """A label that stands for several rows is on the first of them, with a rule between such blocks."""
    for number, row in enumerate(made.body):
        if blocks and number and row[0].rows:
            yield "\\midrule"
        yield " & ".join(_cell(entry) for entry in row) + " \\\\"


def _cell(entry: Entry) -> str:
    text = tex(entry.text) if entry.rows else ""
    return f"\\textbf{{{text}}}" if entry.bold else text


_TEX = {
    "\\": "\\textbackslash{}",
    "&": "\\&",
    "%": "\\%",
    "$": "\\$",
    "#": "\\#",
    "_": "\\_",
    "{": "\\{",
    "}": "\\}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "✓": "$\\checkmark$",
    "±": "$\\pm$",
    "\u00d7": "$\\times$",
    "²": "$^2$",
    "³": "$^3$",
    "†": "$\\dagger$",
    "‡": "$\\ddagger$",
    "§": "\\S{}",
    "β": "$\\beta$",
    "λ": "$\\lambda$",
    "μ": "$\\mu$",
    "τ": "$\\tau$",
}


def tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)
