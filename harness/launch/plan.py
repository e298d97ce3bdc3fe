"""What a set of tables needs: every distinct run, whether it is done, and what the missing ones cost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.config.expand import Expansion
from harness.config.schema import Choice, Imported, RandomEncoder, Spec, Subject
from harness.launch.cost import Cost, Scale, cost
from harness.tracking.lease import is_free
from harness.tracking.record import FINISHED, RecordError, Runs

# What waits for nothing, what waits for that, and so on.
STAGES = {
    "pretrain": 0,
    "linear": 1,
    "logistic": 1,
    "finetune": 1,
    "segmentation": 1,
    "detection": 1,
    "depth": 1,
    "choice": 2,
}

Status = Literal["done", "diverged", "failed", "running", "interrupted", "missing", "unreadable"]


@dataclass(frozen=True)
class Planned:
    """One run of the plan. `cells` are the table:cell names that want it."""

    key: str
    spec: Spec
    status: Status
    cells: tuple[str, ...]
    seed: int
    cost: Cost

    @property
    def kind(self) -> str:
        return self.spec.kind

    @property
    def dataset(self) -> str:
        """The one that it is trained or measured on."""
        assert not isinstance(self.spec, RandomEncoder | Imported), "an encoder that is not trained here is no run"
        return self.spec.data.dataset

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def tables(self) -> set[str]:
        return {name.partition(":")[0].removeprefix("table") for name in self.cells}


@dataclass(frozen=True)
class Plan:
    """Every run that the tables need, each after those it waits for, and the untrained encoders they evaluate."""

    profile: str
    runs: tuple[Planned, ...]
    subjects: dict[str, Subject]
    wanted: int  # runs before sharing
    scale: Scale

    @property
    def missing(self) -> tuple[Planned, ...]:
        """What a sweep has to do; a run whose record is nonsense is set aside until a person has looked at it."""
        return tuple(run for run in self.runs if not run.finished and run.status != "unreadable")

    @property
    def shared(self) -> int:
        """Runs that sharing saves: those that another cell wants as well."""
        return self.wanted - len(self.runs)

    def without(self, datasets: Collection[str]) -> Plan:
        """The same, less the missing runs on these datasets."""
        lost = {run.key for run in self.missing if run.dataset in datasets}
        runs = tuple(run for run in self.runs if run.key not in lost)
        return replace(self, runs=runs, wanted=self.wanted - len(lost))

    def labels(self) -> dict[str, dict[str, str]]:
        """The tags that let a person find a run in MLflow: `table.5b` = `byol`."""
        labels: dict[str, dict[str, str]] = {}
        for run in self.runs:
            for name in run.cells:
                table, cell = name.split(":")
                tag = f"table.{table.removeprefix('table')}"
                known = labels.setdefault(run.key, {"harness.profile": self.profile})
                known[tag] = f"{known[tag]},{cell}" if tag in known else cell
        return labels


def make_plan(expansions: Sequence[Expansion], runs: Runs, scale: Scale) -> Plan:
    """Merge the runs of several tables and look up what is known of each."""
    specs: dict[str, Spec] = {}
    subjects: dict[str, Subject] = {}
    cells: dict[str, list[str]] = {}
    wanted = 0
    for expansion in expansions:
        specs.update(expansion.runs())
        subjects.update(expansion.subjects())
        for member in expansion.members:
            for key in member.keys:
                names = cells.setdefault(key, [])
                name = f"table{member.table}:{member.cell}"
                names += [] if name in names else [name]
                wanted += key in specs
    seeds = {key: m.seed for e in expansions for m in e.members for key in reversed(m.keys)}
    ordered = sorted(specs.items(), key=lambda item: STAGES[item[1].kind])
    known = {**subjects, **specs}
    planned = tuple(
        Planned(key, spec, status(runs, key, spec), tuple(cells[key]), seeds[key], cost(spec, known, scale))
        for key, spec in ordered
    )
    profile = expansions[0].profile if expansions else ""  # tables that no runs are declared for
    return Plan(profile, planned, subjects, wanted, scale)


def status(runs: Runs, key: str, spec: Spec) -> Status:
    """What the record says.

    A run that began and did not end is `running` while somebody holds its lease; else it is `interrupted`, and goes on
    from its checkpoint. Of a diverged run there is no encoder to evaluate: its evaluations have diverged with it.
    """
    try:
        record = runs.read(key)
        subject = subject_of(spec)
        measured = runs.read(subject) if subject is not None and record is None else None
    except RecordError:
        return "unreadable"
    if record is None:
        return "diverged" if measured is not None and measured.state == "diverged" else "missing"
    if record.state == "running":
        return "interrupted" if is_free(runs.folder(key)) else "running"
    return "missing" if record.state == "retired" else record.state


def subject_of(spec: Spec) -> str | None:
    """The key of what a run evaluates; None where it is no evaluation."""
    return getattr(spec, "subject", None)


def needs(spec: Spec) -> tuple[str, ...]:
    """The keys that a run waits for: an evaluation for its subject, a choice for all its candidates."""
    if isinstance(spec, Choice):
        return spec.candidates
    subject = subject_of(spec)
    return () if subject is None else (subject,)
