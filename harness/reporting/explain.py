"""What is behind a cell: its runs, where they are tracked, what they were told to do, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from harness.config.expand import Expansion
from harness.reporting.collect import SeedResult
from harness.tracking.record import Record, Runs


def explanation(expansion: Expansion, cell: str, results: list[SeedResult], runs: Runs, uri: str) -> dict[str, Any]:
    """As plain data, for --json and for `lines`."""
    seeds = []
    for result in results:
        entry: dict[str, Any] = {"seed": result.seed, "state": result.state, "runs": {}}
        for role, key, stored in (
            ("subject", result.subject_key, result.subject),
            ("evaluation", result.evaluation_key, result.evaluation),
        ):
            record = runs.read(key)
            entry["runs"][role] = {
                "key": key,
                "mlflow_run": stored.run_id if stored else None,
                "folder": str(runs.folder(key)),
                **({} if record is None else _facts(record)),
            }
        seeds.append(entry)
    member = next(m for m in expansion.members if m.cell == cell)
    return {
        "cell": f"table{expansion.table}:{cell}",
        "profile": expansion.profile,
        "mlflow": uri,
        "subject": asdict(member.subject),
        "evaluation": asdict(member.evaluation),
        "seeds": seeds,
    }


def _facts(record: Record) -> dict[str, Any]:
    names = ("state", "results", "flags", "selection", "commit", "environment", "cost", "error")
    return {name: value for name in names if (value := getattr(record, name))}


def lines(explained: dict[str, Any]) -> Iterator[str]:
    """For people: the spec once, then each seed's runs."""
    yield f"{explained['cell']} at profile {explained['profile']}"
    yield f"MLflow: {explained['mlflow']}"
    for part in ("subject", "evaluation"):
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
