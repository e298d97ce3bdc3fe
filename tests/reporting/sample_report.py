"""A report in which every state occurs: numbers drawn around the paper's by a fixed rule of cell and seed."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config.expand import Member, declared_cells, expand
from harness.config.files import table_ids
from harness.config.identity import plain
from harness.config.metrics import METRICS
from harness.config.schema import RandomEncoder
from harness.reporting.aggregate import Table, build_table
from harness.reporting.collect import collect
from harness.reporting.layout import Layout, layout_ids, read_layout
from harness.reporting.page import Report
from harness.tracking.record import Record, State
from harness.tracking.spool import Point
from harness.tracking.store import Stored

ELSEWHERE = tuple(name for name in METRICS if name.startswith(("transfer.", "segmentation.", "detection.", "depth.")))
SCORES = ("linear_imagenet.top1", "linear_imagenet.top5", "linear_raft.top1", *ELSEWHERE)
FATES: tuple[State | None, ...] = (*["done"] * 30, "failed", "diverged", "running", None, None)
STATES: tuple[State, ...] = ("failed", "diverged", "running")  # of seed 0 of a table's second to fourth cell


@dataclass
class Held:
    """Results in memory."""

    uri: str = "https://someone:secret@mlflow.example.org/lab/"
    stored: dict[str, Stored] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        return {key: self.stored[key] for key in keys if key in self.stored}

    def record(self, key: str) -> Record | None:
        return self.records.get(key)

    def curve(self, key: str) -> list[Point]:
        return []

    def folder(self, key: str) -> Path | None:
        return None

    def hold(self, record: Record) -> None:
        self.records[record.key] = record
        self.stored[record.key] = Stored(
            key=record.key,
            run_id=f"run-{record.key}",
            state=record.state,
            stamp="",
            results=record.results,
            flags=record.flags,
            experiment="7",
        )


def sample_report(profile: str = "imagenet", tables: Iterable[str] | None = None, **changes: Any) -> Report:
    """The tables that have a layout, all or some, with the runs of those that have any declared."""
    results, built, expansions = Held(), [], []
    for name in tables or layout_ids():
        if name not in table_ids():
            built.append(build_table(read_layout(name, ()), None, {}, profile))
            continue
        layout, expansion = read_layout(name, declared_cells(name)), expand(name, profile)
        for member in expansion.members:
            _hold(results, member, layout, expansion.cells.index(member.cell))
        built.append(build_table(layout, expansion, collect(expansion, results)))
        expansions.append(expansion)
    running = [key for key, record in results.records.items() if record.state == "running"]
    told: dict[str, Any] = {
        "profile": profile,
        "tables": tuple(built),
        "expansions": tuple(expansions),
        "results": results,
        "under_way": {key: 0.25 + place / (2 * len(running)) for place, key in enumerate(running)},
    }
    return Report(**told | changes)


def table_of(report: Report, name: str) -> Table:
    return next(table for table in report.tables if table.layout.table == name)


def _hold(results: Held, member: Member, layout: Layout, place: int) -> None:
    """The run of an encoder, unless an earlier cell had it, and of its evaluation where that can be."""
    rule = random.Random(f"{member.table}:{member.cell}:{member.seed}")
    paper = layout.paper.get(member.cell, {})
    mean = next((paper[metric].mean for metric in SCORES if metric in paper), 60.0)
    fate = "done" if place == 0 else rule.choice(FATES)
    if member.seed == 0 and 0 < place <= len(STATES):
        fate = STATES[place - 1]
    untrained = isinstance(member.subject, RandomEncoder)
    if member.subject_key in results.records:
        fate = results.records[member.subject_key].state
    elif fate is not None and not untrained:
        own = {"pretrain.align": 0.2, "pretrain.uniform": -3.1} if fate == "done" else {}
        results.hold(_record(member.subject_key, member.subject, fate, own, {"collapsed": mean < 1.0}))
    if fate == "done" or untrained:
        top1 = max(0.1, rule.gauss(mean, 0.15))
        scores = {
            "linear_imagenet.top1": top1,
            "linear_imagenet.top5": min(top1 + 18.3, 99.0),
            "linear_raft.top1": top1,
            **dict.fromkeys(ELSEWHERE, top1),
        }
        results.hold(_record(member.evaluation_key, member.evaluation, "done", scores, {}))


def _record(key: str, spec: Any, state: State, results: dict[str, float], flags: dict[str, bool]) -> Record:
    return Record(
        key=key,
        kind=spec.kind,
        state=state,
        spec=plain(spec),
        commit="0123456789abcdef0123456789abcdef01234567",
        environment={"device": "NVIDIA A100-SXM4-80GB", "world": 8, "threads": 12},
        started_unix_s=0.0,
        results=results,
        flags=flags,
        cost={"worker_s": 86400.0} if state == "done" else {},
        error="OutOfMemoryError: CUDA out of memory" if state == "failed" else None,
        notes=("the checkpoint of update 900 could not be read; went on from 600",) if state == "diverged" else (),
    )
