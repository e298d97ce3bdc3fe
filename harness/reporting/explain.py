"""What is behind a cell: its runs, where they are tracked, what they were told to do, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from harness.config.expand import Expansion
from harness.config.masked import masked
from harness.config.schema import Spec
from harness.reporting.collect import collect
from harness.tracking.record import Record
from harness.tracking.results import Results
from harness.tracking.store import Stored


def explanation(expansion: Expansion, cell: str, results: Results) -> dict[str, Any]:
    """As plain data, for --json and for `lines`."""
    seeds = []
    for one in collect(expansion, results)[cell]:
        entry: dict[str, Any] = {"seed": one.seed, "state": one.state, "runs": {}}
        for role, key, stored in (
            ("subject", one.subject_key, one.subject),
            ("evaluation", one.evaluation_key, one.evaluation),
        ):
            if role == "evaluation" and key == one.subject_key:  # it measures itself
                continue
            record, folder = results.record(key), results.folder(key)
            entry["runs"][role] = {
                "key": key,
                "mlflow_run": stored.run_id if stored else None,
                "folder": str(folder) if folder else None,
                **_facts(stored, record),
            }
        seeds.append(entry)
    member = next(m for m in expansion.members if m.cell == cell)
    specs: dict[str, Spec] = {"subject": member.subject}
    if member.evaluation_key != member.subject_key:
        specs["evaluation"] = member.evaluation
    return {
        "cell": f"table{expansion.table}:{cell}",
        "profile": expansion.profile,
        "mlflow": masked(results.uri),
        **{role: asdict(spec) for role, spec in specs.items()},
        "seeds": seeds,
    }


def _facts(stored: Stored | None, record: Record | None) -> dict[str, Any]:
    """What tables are made from, as they read it; the rest from the record."""
    facts: dict[str, Any] = {}
    for source, names in (
        (stored or record, ("state", "results", "flags")),
        (record, ("selection", "commit", "environment", "cost", "error", "notes")),
    ):
        facts.update({name: value for name in names if (value := getattr(source, name, None))})
    return facts


def lines(explained: dict[str, Any]) -> Iterator[str]:
    """For people: the spec once, then each seed's runs."""
    yield f"{explained['cell']} at profile {explained['profile']}"
    yield f"MLflow: {explained['mlflow']}"
    for part in ("subject", "evaluation"):
        if part in explained:
            yield f"\n{part} (of the first seed)"
            yield from _tree(explained[part], 1)
    for seed in explained["seeds"]:
        yield f"\nseed {seed['seed']}: {seed['state']}"
        for role, run in seed["runs"].items():
            yield f"  {role}"
            yield from _tree(run, 2)


def _tree(value: dict[str, Any], depth: int) -> Iterator[str]:
    for name, item in value.items():
        if isinstance(item, dict):
            yield f"{'  ' * depth}{name}"
            yield from _tree(item, depth + 1)
        else:
            shown = "-" if item is None else f"{item:g}" if isinstance(item, float) else item
            yield f"{'  ' * depth}{name}: {shown}"
