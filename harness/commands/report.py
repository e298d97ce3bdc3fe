"""Render from what is finished, and say what is behind a cell."""

from __future__ import annotations

from collections.abc import Sequence

from harness.commands.chosen import expansions_of, plan_of, print_json, say, tables_named, warn
from harness.config.errors import ConfigError
from harness.config.expand import Expansion, declared_cells, expand
from harness.config.files import project_root
from harness.launch.plan import Plan
from harness.launch.site import Site, site
from harness.reporting.aggregate import build_table
from harness.reporting.collect import collect
from harness.reporting.explain import explanation, lines
from harness.reporting.layout import Layout, read_layout
from harness.reporting.render import render_markdown, write_table
from harness.tracking.store import MemoryStore, Store, StoreError
from harness.tracking.sync import sync


def report(table: str, profile: str, seeds: int | None, cell: str | None) -> int:
    """Render from what is finished; starts nothing."""
    here = site()
    expansions = expansions_of(table, profile, seeds, cell)
    render(expansions, layouts_of(expansions), plan_of(expansions, here), here)
    return 0


def explain(cell: str, profile: str, json: bool) -> int:
    """The keys, runs, specs, commits, environments, seeds and costs behind a cell."""
    table, colon, name = cell.partition(":")
    tables = tables_named(table)
    if not colon or len(tables) != 1:
        raise ConfigError(f"explain takes a table and a cell, as table5b:byol, not '{cell}'")
    here = site()
    expansion = expand(tables[0], profile, None, name)
    store = synced_store(plan_of([expansion], here), here)
    facts = explanation(expansion, name, collect(expansion, store)[name], here.runs, here.tracking_uri)
    if json:
        return print_json(facts)
    for line in lines(facts):
        say(line)
    return 0


def layouts_of(expansions: Sequence[Expansion]) -> list[Layout]:
    return [read_layout(expansion.table, declared_cells(expansion.table)) for expansion in expansions]


def render(expansions: Sequence[Expansion], layouts: Sequence[Layout], plan: Plan, here: Site) -> None:
    store = synced_store(plan, here)
    for expansion, layout in zip(expansions, layouts, strict=True):
        table = build_table(layout, expansion, collect(expansion, store))
        folder = project_root() / "tables" / "built" / expansion.profile
        written = write_table(table, folder)
        say("")
        say(render_markdown(table))
        say(f"written: {', '.join(str(path.relative_to(project_root())) for path in written)}")


def open_store(here: Site) -> Store:
    from harness.tracking.mlflow_store import MlflowStore, quiet  # noqa: PLC0415  # seconds to import

    quiet()
    return MlflowStore(here.tracking_uri)


def synced_store(plan: Plan, here: Site) -> Store:
    """The tracking store, up to date; while it does not answer, a stand-in filled from the records."""
    keys, labels = [run.key for run in plan.runs], plan.labels()
    store = open_store(here)
    try:
        sync(here.runs, store, keys, labels, _named_before)
    except StoreError as error:
        warn(f"{error}; reporting from {here.runs.path}, `harness sync` sends the rest later")
        store = MemoryStore()
        sync(here.runs, store, keys, labels, _named_before)
    return store


def _named_before(_: str) -> None:
    """The plan has already said which records cannot be read."""
