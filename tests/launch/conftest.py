"""What the tests of the launch room share: a small spec, records and runs in a temporary folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.config.expand import Expansion, expand
from harness.config.identity import plain, run_key
from harness.config.schema import Linear, Pretrain, Spec
from harness.launch.cost import Scale
from harness.launch.machines import machine_named
from harness.launch.place import Place
from harness.launch.plan import Plan, make_plan
from harness.tracking.record import Record, Runs


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """An empty folder of runs."""
    return Runs(tmp_path / "runs")


@pytest.fixture
def place(runs: Runs, data: Path) -> Place:
    """Where tasks run in tests."""
    return Place(runs=str(runs.path), data=str(data), commit="test")


@pytest.fixture(scope="session")
def tiny() -> tuple[Pretrain, Linear]:
    """BYOL at the laptop profile in 2 epochs (20 updates), and its linear evaluation in 2 (17)."""
    member = expand("5b", "laptop", seeds=1, cell="byol").members[0]
    assert isinstance(member.subject, Pretrain)
    subject = replace(member.subject, schedule=replace(member.subject.schedule, epochs=2, warmup_epochs=0))
    return subject, replace(member.evaluation, subject=run_key(subject), epochs=2)


@pytest.fixture(scope="session")
def two_cells() -> Expansion:
    """Two cells of Table 5b and the untrained encoder, one seed: two pretrainings, three evaluations."""
    whole = expand("5b", "laptop", seeds=1)
    kept = ("byol", "simclr", "untrained")
    return replace(whole, cells=kept, members=tuple(member for member in whole.members if member.cell in kept))


@pytest.fixture
def planned(runs: Runs) -> Callable[..., Plan]:
    """A plan of expansions from what the folder of runs holds now."""

    def make(*expansions: Expansion) -> Plan:
        return make_plan(expansions, runs, Scale(machine_named("cpu", "here")))

    return make


@pytest.fixture
def write(runs: Runs) -> Callable[..., Record]:
    """Write the record of a spec in some state."""

    def record(spec: Spec, state: Any, **changes: Any) -> Record:
        made = Record(
            key=run_key(spec),
            kind=spec.kind,
            state=state,
            spec=plain(spec),
            commit="test",
            started_unix_s=0.0,
            **{"environment": {}, **changes},
        )
        runs.write(made)
        return made

    return record
