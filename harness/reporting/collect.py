"""From cells to what is known of their runs: the one place where reports meet results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.config.datasets import DATASETS
from harness.config.expand import Expansion, Member
from harness.config.metrics import METRICS
from harness.tracking.results import Results
from harness.tracking.store import Stored

PRETRAINED = "pretrain."  # metrics that the pretraining itself leaves, as alignment and uniformity


@dataclass(frozen=True)
class SeedResult:
    """One seed of a cell: its runs as stored, None where there are none."""

    seed: int
    subject_key: str
    evaluation_key: str
    subject: Stored | None
    evaluation: Stored | None
    classes: int
    candidates: tuple[Stored | None, ...] = ()  # that the evaluation chooses among

    @property
    def state(self) -> str:
        """done, diverged, failed or pending."""
        for stored in (self.evaluation, self.subject):
            if stored is not None and stored.state in ("failed", "diverged"):
                return stored.state
        if self.evaluation is None and any(one is not None and one.state == "failed" for one in self.candidates):
            return "failed"  # one that diverged is passed over
        return "done" if self.evaluation is not None and self.evaluation.state == "done" else "pending"

    def value(self, metric: str) -> float | None:
        """The number; of a run that diverged it is chance, where chance has a number."""
        if self.state == "diverged":
            return METRICS[metric].chance(self.classes)
        of = self.subject if metric.startswith(PRETRAINED) else self.evaluation
        return of.results.get(metric) if self.state == "done" and of else None

    @property
    def collapsed(self) -> bool:
        return bool(self.subject is not None and self.subject.flags.get("collapsed"))


def collect(expansion: Expansion, results: Results) -> dict[str, list[SeedResult]]:
    """The results of every cell, in the order of the seeds."""
    keys = {key for member in expansion.members for key in member.keys}
    stored = results.find(sorted(keys))
    cells: dict[str, list[SeedResult]] = {cell: [] for cell in expansion.cells}
    for member in expansion.members:
        cells[member.cell].append(_result(member, stored))
    return cells


def _result(member: Member, stored: Mapping[str, Stored]) -> SeedResult:
    return SeedResult(
        member.seed,
        member.subject_key,
        member.evaluation_key,
        stored.get(member.subject_key),
        stored.get(member.evaluation_key),
        DATASETS[member.evaluation.data.dataset].classes,
        tuple(stored.get(key) for key in member.keys[1:-1]),
    )
