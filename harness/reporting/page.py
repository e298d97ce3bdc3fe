"""All tables, figures and claims on one page that asks the network for nothing: tables/built/<profile>/index.html."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.config.durable import write_whole
from harness.config.expand import Expansion
from harness.reporting.aggregate import CellNumber, Status, Table
from harness.reporting.footer import footer
from harness.reporting.layout import cells_of
from harness.reporting.provenance import provenance
from harness.reporting.render import Side, best_numbers, labels, ours_text, paper_text, rows_of, sides
from harness.tracking.record import FINISHED
from harness.tracking.results import Results

if TYPE_CHECKING:
    from harness.reporting.claims import Claim, Judgement

VERDICTS = ("equivalent", "different", "underpowered")  # named here too, as importing compare waits for scipy
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure as it was drawn; `path` is its svg."""

    figure: str
    caption: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page tells. `under_way` is how far each running run is, from 0 to 1."""

    profile: str
    tables: tuple[Table, ...]
    expansions: tuple[Expansion, ...]
    results: Results
    figures: tuple[Drawing, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    under_way: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Heading:
    """A heading cell of a table, and how many columns and rows it spans."""

    text: str
    columns: int = 1
    rows: int = 1


@dataclass(frozen=True)
class Progress:
    """How many runs of a table, or of all, are wanted, finished, failed and under way."""

    wanted: int
    done: int
    failed: int
    running: int


def write_page(report: Report, folder: Path) -> Path:
    """index.html, whole or not at all, and the same bytes for the same results."""
    path = folder / "index.html"
    write_whole(path, render_page(report).encode())
    return path


def render_page(report: Report) -> str:
    style, script = (_source(name) for name in ("page.css", "page.js"))
    behind = provenance(report.tables, report.expansions, report.results, report.under_way)
    numbers = [number for table in report.tables for number in table.numbers.values()]
    template = _environment().get_template("page.html")
    return template.render(
        report=report,
        stand_in=any(table.stand_in for table in report.tables),
        style=style,
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
        behind=behind,
        overall=_progress(report.expansions, behind["runs"]),
        progress={one.table: _progress([one], behind["runs"]) for one in report.expansions},
        running=_running(report),
        statuses=Counter(number.status for number in numbers),
        verdicts=Counter(number.verdict.name for number in numbers if number.verdict),
        collapsed=sum(number.collapsed > 0 for number in numbers),
        claims=Counter(judgement.state for judgement in report.judgements),
    )


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    made.filters |= {"ours": ours_text, "paper": paper_text, "image": _image, "tables": _tables}
    made.globals |= {"status_names": get_args(Status), "verdict_names": VERDICTS}
    made.globals |= {"headings": headings, "rows": rows, "footer": footer}
    return made


def _source(name: str) -> Markup:
    """A file of ours that goes into the page as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704  # ours, and nothing is put into it


def _hash(source: str) -> str:
    """What the page's policy knows its own style and script by: no other is obeyed."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _image(svg: Path) -> str:
    """A picture of its own rather than part of the page: its ids and styles meet no other's."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.read_bytes()).decode()}"


def _tables(claim: Claim) -> list[str]:
    """The tables that a claim is about."""
    return list(dict.fromkeys(cell.partition(":")[0] for cell, _ in claim.cells))


def headings(table: Table) -> list[list[Heading]]:
    """The head from the top down: what rows say of themselves beside parts and metrics, then ours beside paper."""
    paths = [(*leaf.headings, side) for leaf in table.layout.leaves() for side in sides(table, leaf)]
    levels = [
        [Heading(above[-1], columns=len(list(same))) for above, same in groupby(path[: depth + 1] for path in paths)]
        for depth in range(len(paths[0]))
    ]
    levels[0] = [Heading(title, rows=len(levels)) for title in table.layout.columns.values()] + levels[0]
    return levels


@dataclass(frozen=True)
class Part:
    """Ours or the paper's part of a number; the first of the two speaks for the number."""

    number: CellNumber
    side: Side
    first: bool
    best: bool


@dataclass(frozen=True)
class PageRow:
    """A row: its cells, what it says of itself, and its numbers; None leaves a place empty."""

    cells: tuple[str, ...]
    labels: tuple[str, ...]
    parts: tuple[Part | None, ...]


def rows(table: Table) -> Iterator[PageRow]:
    best = best_numbers(table)
    places = [(leaf, shown) for leaf in table.layout.leaves() if (shown := sides(table, leaf))]
    for row in rows_of(table):
        cells = cells_of(row)
        parts: list[Part | None] = []
        for leaf, shown in places:
            number = table.numbers.get((cells.get(leaf.group, ""), leaf.metric))
            for side in shown:
                is_best = number is not None and (number.cell, number.metric, side) in best
                parts.append(Part(number, side, side == shown[0], is_best) if number else None)
        yield PageRow(tuple(dict.fromkeys(cells.values())), labels(table, row), tuple(parts))


def _progress(expansions: Sequence[Expansion], runs: Mapping[str, Any]) -> Progress:
    keys = dict.fromkeys(key for expansion in expansions for key in expansion.runs())
    states = Counter(runs[key]["state"] for key in keys)
    return Progress(
        wanted=len(keys),
        done=sum(states[state] for state in FINISHED),
        failed=states["failed"],
        running=sum("share" in runs[key] for key in keys),
    )


def _running(report: Report) -> list[tuple[str, float]]:
    """Each run under way by the first cell it stands in, and how far it is."""
    titles: dict[str, str] = {}
    for member in (member for expansion in report.expansions for member in expansion.members):
        for key, spec in member.specs.items():
            titles.setdefault(key, f"{spec.kind} {member.table}:{member.cell} seed {member.seed}")
    return [(title, report.under_way[key]) for key, title in titles.items() if key in report.under_way]
