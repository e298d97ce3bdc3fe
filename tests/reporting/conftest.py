"""Table 5b with fixed results, every table in three states, and keys that can be read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import pytest

from harness.config.expand import Expansion, declared_cells, expand
from harness.config.files import table_ids
from harness.config.metrics import METRICS
from harness.reporting.aggregate import Table, build_table
from harness.reporting.collect import collect
from harness.reporting.layout import Layout, read_layout
from harness.tracking.store import MemoryStore, Stored

TOP1 = "linear_imagenet.top1"

# By cell: what became of each seed. A number is a finished evaluation; `*` marks a collapsed subject.
RESULTS = {
    "byol": ("72.4", "72.5", "72.75"),
    "pred_ema_beta1": ("70.0", "71.0", "70.5"),  # a half-range above 0.25
    "nopred_ema_beta1": ("70.7", "pending", "70.8"),
    "simclr": ("pending", "pending", "pending"),
    "pred_online_beta1": ("69.1", "failed", "69.0"),
    "pred_online_beta0": ("0.3*", "0.1*", "0.2*"),
    "nopred_ema_beta0": ("0.2*", "0.1", "0.3"),
    "nopred_online_beta0": ("diverged", "pending", "pending"),
    "untrained": ("12.0", "13.0", "14.0"),
}


def readable(expansion: Expansion) -> Expansion:
    """The same with keys such as `byol.0`, so that what a test expects does not move with identity."""
    members = tuple(
        replace(m, subject_key=f"{m.cell}.{m.seed}", evaluation_key=f"{m.cell}.{m.seed}.linear")
        for m in expansion.members
    )
    return replace(expansion, members=members)


def filled(results: Mapping[str, tuple[str, ...]]) -> MemoryStore:
    """A store that holds these results."""
    store = MemoryStore()
    for cell, seeds in results.items():
        for seed, told in enumerate(seeds):
            subject, evaluation = f"{cell}.{seed}", f"{cell}.{seed}.linear"
            if told in ("failed", "diverged"):
                store.runs[subject] = Stored(subject, "r", told, "")
            elif told != "pending":
                flags = {"collapsed": told.endswith("*")}
                store.runs[subject] = Stored(subject, "r", "done", "", {"pretrain.loss": 1.0}, flags)
                store.runs[evaluation] = Stored(evaluation, "r", "done", "", {TOP1: float(told.rstrip("*"))})
    return store


# What becomes of the seeds of a table's cells, one after the other. `nan` is a run that finished without a number.
FATES = {
    "none": (("pending",) * 3,),
    "partial": (
        ("done", "done", "done"),
        ("done", "done", "pending"),
        ("pending", "pending", "pending"),
        ("done", "failed", "done"),
        ("diverged", "done", "done"),
        ("done", "nan", "done"),
        ("done", "pending", "pending"),
    ),
    "complete": (("done", "done", "done"),),
}


@cache
def expanded(table: str, profile: str) -> Expansion:
    return readable(expand(table, profile))


@cache
def layout_of(table: str) -> Layout:
    return read_layout(table, declared_cells(table) if table in table_ids() else ())


def made_up(cell: str, metric: str, seed: int) -> float:
    """A number by a fixed rule, spread over the seeds by a few tenths."""
    drawn = int.from_bytes(hashlib.sha256(f"{cell} {metric}".encode()).digest()[:4]) / 2**32
    return 20 + 70 * drawn + 0.3 * drawn * seed if METRICS[metric].unit == "percent" else -drawn * (1 + seed / 100)


@pytest.fixture(scope="session")
def example() -> Callable[..., Table]:
    """Any table with no, some or all of its results, made up."""

    @cache
    def build(table: str, state: str, profile: str = "imagenet") -> Table:
        layout = layout_of(table)
        if table not in table_ids():
            return build_table(layout, None, {}, profile)
        expansion, store = expanded(table, profile), MemoryStore()
        for member in expansion.members:
            fates = FATES[state][expansion.cells.index(member.cell) % len(FATES[state])]
            told, of, to = fates[member.seed % len(fates)], member.subject_key, member.evaluation_key
            results = {
                metric: made_up(member.cell, metric, member.seed) if told == "done" else math.nan for metric in METRICS
            }
            if told in ("failed", "diverged"):
                store.runs[of] = Stored(of, "r", told, "")
            elif told != "pending":
                store.runs |= {key: Stored(key, "r", "done", "", results) for key in (of, to)}
        return build_table(layout, expansion, collect(expansion, store))

    return build


@pytest.fixture(scope="session")
def table() -> Callable[..., Table]:
    """Table 5b at a profile from RESULTS, or from others."""

    def build(profile: str = "imagenet", results: Mapping[str, tuple[str, ...]] = RESULTS, **chosen: object) -> Table:
        expansion = readable(expand("5b", profile, **chosen))  # type: ignore[arg-type]
        return build_table(read_layout("5b", declared_cells("5b")), expansion, collect(expansion, filled(results)))

    return build
