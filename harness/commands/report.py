"""Render from what is finished, and say what is behind a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.commands.chosen import Asked, asked_for, expansions_of, plan_of, print_json, say, warn
from harness.commands.prepared import prepared_here
from harness.config.errors import ConfigError
from harness.config.expand import Expansion, declared_cells, expand
from harness.config.files import project_root, table_ids
from harness.launch.board import lines as board_lines
from harness.launch.plan import Plan
from harness.launch.site import Site, site
from harness.reporting.aggregate import Table, build_table
from harness.reporting.collect import collect
from harness.reporting.curves import Curves
from harness.reporting.explain import explanation, lines
from harness.reporting.figure_layout import read_figure
from harness.reporting.figures import write_figure
from harness.reporting.forms import write_table
from harness.reporting.layout import Layout, read_layout
from harness.reporting.markdown import render_markdown
from harness.reporting.prepared import Prepared
from harness.tracking.results import Live, Results
from harness.tracking.snapshot import Snapshot
from harness.tracking.store import MemoryStore, Store, StoreError
from harness.tracking.stores import store_at
from harness.tracking.sync import sync


def report(
    names: Sequence[str], profile: str, seeds: int | None, cell: str | None, results_file: Path | None = None
) -> int:
    """Render from what is finished, here or in a file; starts nothing."""
    asked = asked_for(names)
    expansions = expansions_of(asked, profile, seeds, cell)
    layouts = layouts_of(asked)
    here = site()
    if results_file is not None:
        prepared = prepared_here(layouts, profile, here, None)
        render(asked, layouts, expansions, profile, Snapshot(results_file), {}, prepared)
        return 0
    plan = plan_of(expansions, profile, here, measured=False)
    report_live(asked, layouts, expansions, plan, profile, here)
    return 0


def report_live(
    asked: Asked, layouts: Mapping[str, Layout], expansions: Sequence[Expansion], plan: Plan, profile: str, here: Site
) -> Prepared:
    """Render from the tracking store and this machine's datasets, which it returns."""
    prepared = prepared_here(layouts, profile, here, plan)
    render(asked, layouts, expansions, profile, live(plan, here), under_way(plan, here), prepared)
    return prepared


def explain(cell: str, profile: str, json: bool) -> int:
    """The keys, runs, specs, commits, environments, seeds and costs behind a cell."""
    table, colon, name = cell.partition(":")
    tables = asked_for([table]).tables
    if not colon or len(tables) != 1:
        raise ConfigError(f"explain takes a table and a cell, as table5b:byol, not '{cell}'")
    if tables[0] not in table_ids():
        raise ConfigError(f"no runs are declared for table {tables[0]}; its numbers are the paper's, or read from data")
    here = site()
    expansion = expand(tables[0], profile, None, name)
    facts = explanation(expansion, name, live(plan_of([expansion], profile, here, measured=False), here))
    if json:
        return print_json(facts)
    for line in lines(facts):
        say(line)
    return 0


def layouts_of(asked: Asked) -> dict[str, Layout]:
    """Of the tables, and of those that figures read. A mistake in them must show before hours of training."""
    read = (table for figure in asked.figures for table in read_figure(figure)[0].tables())
    known = table_ids()
    return {
        table: read_layout(table, declared_cells(table) if table in known else ())
        for table in dict.fromkeys((*asked.tables, *read))
    }


def render(
    asked: Asked,
    layouts: Mapping[str, Layout],
    expansions: Sequence[Expansion],
    profile: str,
    results: Results,
    under_way: Mapping[str, float],
    prepared: Prepared,
) -> None:
    """Write and print the tables, draw the figures, and where everything was asked for, the page."""
    folder = project_root() / "tables" / "built" / profile
    expanded = {expansion.table: expansion for expansion in expansions}
    tables: dict[str, Table] = {}
    for table, layout in layouts.items():
        expansion = expanded.get(table)
        collected = collect(expansion, results) if expansion else {}
        tables[table] = build_table(layout, expansion, collected, profile, prepared)
    for table in asked.tables:
        written = write_table(tables[table], folder)
        say("")
        say(render_markdown(tables[table]))
        say(f"written: {_shown(written)}")
    drawn = {figure: write_figure(figure, tables, Curves(results, expansions), folder) for figure in asked.figures}
    for written in drawn.values():
        say(f"drawn: {_shown(written)}")
    if asked.everything:
        shown = tuple(tables[table] for table in asked.tables)
        say(f"the page: {_shown([_page(profile, shown, expansions, drawn, results, under_way)])}")


def _page(
    profile: str,
    tables: tuple[Table, ...],
    expansions: Sequence[Expansion],
    drawn: Mapping[str, Sequence[Path]],
    results: Results,
    under_way: Mapping[str, float],
) -> Path:
    from harness.reporting.claims import evidence_of, judge, read_claims  # noqa: PLC0415  # with the page alone
    from harness.reporting.page import Drawing, Report, write_page  # noqa: PLC0415  # jinja2

    evidence = evidence_of(tables)
    drawings = (
        Drawing(figure=figure, caption=read_figure(figure)[0].caption, path=paths[0]) for figure, paths in drawn.items()
    )
    page = Report(
        profile=profile,
        tables=tables,
        expansions=tuple(expansions),
        results=results,
        figures=tuple(drawings),
        judgements=tuple(judge(claim, evidence) for claim in read_claims()),
        under_way=under_way,
    )
    return write_page(page, project_root() / "tables" / "built" / profile)


def _shown(paths: Sequence[Path]) -> str:
    return ", ".join(str(path.relative_to(project_root())) for path in paths)


def under_way(plan: Plan, here: Site) -> dict[str, float]:
    """How far each running run is."""
    return {line.run.key: line.share for line in board_lines(plan, here.runs) if line.status == "running"}


def live(plan: Plan, here: Site) -> Results:
    """The tracking store, up to date; while it does not answer, a stand-in filled from the records."""
    keys = [run.key for run in plan.runs if run.status != "unreadable"]  # which the plan has named
    labels, store = plan.labels(), open_store(here)
    try:
        sync(here.runs, store, keys, labels, warn)
    except StoreError as error:
        warn(f"{error}; reporting from {here.runs.path}, `harness sync` sends the rest later")
        store = MemoryStore(here.tracking_uri)
        sync(here.runs, store, keys, labels, warn)
    return Live(store, here.runs)


def open_store(here: Site) -> Store:
    return store_at(here.tracking_uri)
