"""A table as csv (long form, one row a cell and metric), Markdown and LaTeX (the paper's shape, ours beside paper)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.config.metrics import METRICS
from harness.reporting.aggregate import CellNumber, Table
from harness.reporting.layout import LabelValue

HALF_RANGE_SHOWN = 0.25  # the paper prints a spread only above this
COLLAPSED = "†"
DIVERGED = "‡"
MISSING = "--"

CSV_COLUMNS = (
    "table",
    "cell",
    "metric",
    "ours",
    "ours_half_range",
    "seeds",
    "paper",
    "paper_half_range",
    "delta",
    "status",
    "verdict",
    "run_keys",
)


def render_csv(table: Table) -> str:
    """Numbers to the twelfth digit and decimal, beyond which is noise; an empty field is a number there is not."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for number in _in_order(table):
        paper = number.paper
        writer.writerow(
            [
                table.layout.table,
                number.cell,
                number.metric,
                _full(number.ours),
                _full(number.half_range),
                number.seeds,
                _full(paper.mean if paper else None),
                _full(paper.half_range if paper else None),
                _full(None if table.stand_in else number.delta),
                number.status,
                "",  # no verdict is given where data or scale differ, nor under three seeds at the paper's
                " ".join(number.run_keys),
            ]
        )
    return out.getvalue()


def render_markdown(table: Table) -> str:
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (_header(table), *_body(table))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    title = f"**Table {table.layout.table}.** {table.layout.caption}"
    return "\n".join([title, "", *lines, "", *(f"{line}  " for line in footer(table)), ""])


def render_latex(table: Table) -> str:
    """One floating table; the document needs booktabs and amssymb."""
    header = _header(table)
    lines = [
        "% needs \\usepackage{booktabs,amssymb}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_tex(table.layout.caption)}}}",
        f"\\begin{{tabular}}{{{'l' * len(table.layout.columns)}{'r' * (len(header) - len(table.layout.columns))}}}",
        "\\toprule",
        " & ".join(_tex(cell) for cell in header) + " \\\\",
        "\\midrule",
        *(" & ".join(_tex(cell) for cell in row) + " \\\\" for row in _body(table)),
        "\\bottomrule",
        "\\end{tabular}",
        "\\\\[1ex]",
        "\\begin{minipage}{0.9\\linewidth}\\footnotesize",
        *(_tex(line) + "\\par" for line in footer(table)),
        "\\end{minipage}",
        "\\end{table}",
        "",
    ]
    return "\n".join(lines)


def footer(table: Table) -> list[str]:
    """What a reader must know to read the numbers."""
    lines = [f"Profile {table.profile}. Paper: {table.layout.source}."]
    if table.stand_in:
        lines.append(
            "Ours is made from stand-in data at a small scale: it shows the order of the rows, not the paper's numbers."
        )
    if any(number.collapsed for number in table.numbers.values()):
        lines.append(f"{COLLAPSED} collapsed by the diagnostics of every seed, or of as many as stated.")
    if any(number.diverged for number in table.numbers.values()):
        lines.append(f"{DIVERGED} diverged, every seed or as many as stated: such a seed counts as chance.")
    lines += [f"{cell} is an imported encoder, not trained by this harness." for cell in table.imported]
    for metric, number in table.untrained.items():
        lines.append(f"The untrained encoder has {METRICS[metric].title} {_ours(number)}.")
    spread = max((n.wanted for n in table.numbers.values()), default=0)
    if spread > 1:
        lines.append(f"Mean of {spread} seeds, ± half the range where that is above {HALF_RANGE_SHOWN}.")
    lines += [f"Note: {doubt}" for doubt in table.layout.doubts]
    for number in _in_order(table):
        if number.status != "complete":
            lines.append(f"{number.cell}: {number.status}, {number.seeds} of {number.wanted} seeds finished.")
    return lines


def write_table(table: Table, folder: Path) -> list[Path]:
    """tables/built/<profile>/table<ID>.{csv,md,tex}, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    forms: dict[str, Callable[[Table], str]] = {"csv": render_csv, "md": render_markdown, "tex": render_latex}
    written = []
    for suffix, render in forms.items():
        path = folder / f"table{table.layout.table}.{suffix}"
        temporary = path.with_name(f".{path.name}")
        temporary.write_text(render(table), encoding="utf-8")
        temporary.replace(path)
        written.append(path)
    return written


def _in_order(table: Table) -> Iterator[CellNumber]:
    for row in table.layout.rows:
        for metric in table.layout.metrics:
            number = table.numbers.get((str(row["cell"]), metric))
            if number is not None:
                yield number


def _header(table: Table) -> list[str]:
    header = list(table.layout.columns.values())
    for metric in table.layout.metrics:
        header += [f"{METRICS[metric].title}, ours", f"{METRICS[metric].title}, paper"]
    return header


def _body(table: Table) -> Iterator[list[str]]:
    for row in table.layout.rows:
        cell = str(row["cell"])
        if cell not in table.cells:
            continue
        line = [_symbol(row.get(name)) for name in table.layout.columns]
        for metric in table.layout.metrics:
            number = table.numbers[cell, metric]
            line += [_ours(number), _paper(number)]
        yield line


def _symbol(value: LabelValue) -> str:
    if isinstance(value, bool):
        return "✓" if value else ""
    return "" if value is None else str(value)


def _ours(number: CellNumber) -> str:
    if number.ours is None:
        return MISSING
    metric = METRICS[number.metric]
    text, shown = metric.text(number.ours), HALF_RANGE_SHOWN if metric.unit == "percent" else 0.0
    if number.half_range is not None and number.half_range > shown:
        text += f" ± {metric.text(number.half_range)}"
    for mark, seeds in ((COLLAPSED, number.collapsed), (DIVERGED, number.diverged)):
        if seeds:
            text += f" {mark}" if seeds == number.wanted else f" {mark} {seeds}/{number.wanted}"
    return text


def _paper(number: CellNumber) -> str:
    if number.paper is None:
        return MISSING
    metric = METRICS[number.metric]
    text = metric.text(number.paper.mean)
    return text if number.paper.half_range is None else f"{text} ± {metric.text(number.paper.half_range)}"


def _full(number: float | None) -> str:
    return "" if number is None else repr(float(f"{round(number, 12):.12g}") + 0.0)  # no -0.0


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
    "†": "$\\dagger$",
    "‡": "$\\ddagger$",
    "β": "$\\beta$",
    "τ": "$\\tau$",
    "λ": "$\\lambda$",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)
