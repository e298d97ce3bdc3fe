"""Speeds from records of finished runs: which count, and that a plan built on them predicts those very runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.expand import Expansion
from harness.config.identity import plain, run_key
from harness.config.schema import Linear, Pretrain
from harness.config.structure import structure
from harness.launch.cost import Form, Scale, cost, work
from harness.launch.machines import Machine, machine_named
from harness.launch.measured import device_seconds, speeds
from harness.launch.place import Place
from harness.launch.plan import make_plan
from harness.launch.specs import write_spec
from harness.launch.task import execute
from harness.tracking.record import Record, Runs

Writing = Callable[..., Record]
ON_A100: dict[str, Any] = {"environment": {"device": "NVIDIA A100-SXM4-80GB", "threads": 12, "world": 8}}


@pytest.fixture
def a100() -> Machine:
    """The machine that these records are of."""
    return machine_named("a100", "here")


def test_speed_is_all_operations_over_all_device_time(
    runs: Runs, write: Writing, two_cells: Expansion, a100: Machine
) -> None:
    """Two pretrainings of one form count together, long ones for more; evaluations are a form of their own."""
    first, second, _ = two_cells.members
    flops = [work(member.subject, {}).flops for member in (first, second)]
    write(first.subject, "done", cost={"wall_s": 1.0, "worker_s": 8.0}, **ON_A100)
    write(second.subject, "done", cost={"wall_s": 3.0, "worker_s": 24.0}, **ON_A100)
    found = speeds(runs, a100)
    assert list(found) == [Form("pretrain", "resnet_tiny_x1", 16)]
    assert found["pretrain", "resnet_tiny_x1", 16].runs == 2
    assert found["pretrain", "resnet_tiny_x1", 16].tflops == pytest.approx(sum(flops) / 32 / 1e12, rel=1e-12)
    write_spec(runs, first.subject)
    write(first.evaluation, "done", cost={"worker_s": 2.0}, **ON_A100)
    one = speeds(runs, a100)["linear", "resnet_tiny_x1", 16]
    assert one.tflops == pytest.approx(work(first.evaluation, two_cells.subjects()).flops / 2 / 1e12, rel=1e-12)


def test_a_plan_says_of_a_finished_run_what_it_took(
    runs: Runs, write: Writing, two_cells: Expansion, a100: Machine
) -> None:
    """One of three seeds took 2 hours: the others are planned at 2 hours each."""
    subject = two_cells.members[0].subject
    assert isinstance(subject, Pretrain)
    write(subject, "done", cost={"worker_s": 7200.0}, **ON_A100)
    scale = Scale(a100, speeds(runs, a100))
    assert cost(replace(subject, seed=1), {}, scale).device_hours == pytest.approx(2, rel=1e-12)
    assert make_plan([two_cells], runs, scale).runs[0].cost.device_hours == pytest.approx(2, rel=1e-12)


@pytest.mark.parametrize("state", ["running", "failed", "diverged", "retired"])
def test_only_what_is_done_counts(runs: Runs, write: Writing, two_cells: Expansion, a100: Machine, state: str) -> None:
    """A run that ended early has not done its operations."""
    write(two_cells.members[0].subject, state, cost={"worker_s": 8.0}, **ON_A100)
    assert speeds(runs, a100) == {}


def test_other_devices_and_nonsense_do_not_count(
    runs: Runs, write: Writing, two_cells: Expansion, a100: Machine
) -> None:
    """Another GPU, no time, an encoder nobody counted, an evaluation of nothing known, a record that is none."""
    first, second, third = two_cells.members
    subject = first.subject
    assert isinstance(subject, Pretrain)
    write(subject, "done", cost={"worker_s": 8.0}, environment={"device": "NVIDIA H200"})
    write(second.subject, "done", cost={}, **ON_A100)
    odd = replace(subject, model=replace(subject.model, width=9))
    write(odd, "done", cost={"worker_s": 8.0}, **ON_A100)
    write(third.evaluation, "done", cost={"worker_s": 8.0}, **ON_A100)
    damaged = runs.folder("0" * 16) / "record.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    assert speeds(runs, a100) == {}
    assert set(speeds(runs, machine_named("h200", "here"))) == {Form("pretrain", "resnet_tiny_x1", 16)}


def test_a_core_is_the_device_of_a_cpu(write: Writing, two_cells: Expansion) -> None:
    """Two workers of three threads for 4 s are 24 core-seconds; on a GPU threads only load."""
    spent: dict[str, Any] = {"cost": {"worker_s": 8.0}}
    cpu = write(two_cells.members[0].subject, "done", environment={"device": "cpu", "threads": 3}, **spent)
    gpu = write(two_cells.members[0].subject, "done", **ON_A100, **spent)
    assert device_seconds(cpu, machine_named("cpu", "here")) == 24
    assert device_seconds(gpu, machine_named("a100", "here")) == 8
    assert device_seconds(gpu, machine_named("cpu", "here")) == 0


def test_a_shared_pass_is_no_faster(write: Writing, two_cells: Expansion, a100: Machine) -> None:
    """An evaluation that paid 4 s of a pass of 12 s with its companions is one of 12 s: alone, it would take that."""
    spent = {"worker_s": 4.0, "companions_worker_s": 8.0}
    assert device_seconds(write(two_cells.members[0].evaluation, "done", cost=spent, **ON_A100), a100) == 12


@settings(max_examples=20, deadline=None)
@given(seconds=st.lists(st.floats(0.1, 1e6), min_size=1, max_size=6))
def test_the_hours_of_what_was_measured_add_up(
    tmp_path_factory: pytest.TempPathFactory, tiny: tuple[Pretrain, Linear], seconds: list[float]
) -> None:
    """Whatever single runs took, the planned hours of all of them together are the hours they took together."""
    runs, machine = Runs(tmp_path_factory.mktemp("runs")), machine_named("a100", "here")
    specs = [replace(tiny[0], seed=seed) for seed in range(len(seconds))]
    for spec, one in zip(specs, seconds, strict=True):
        facts = {"key": run_key(spec), "kind": "pretrain", "state": "done", "spec": plain(spec), "commit": ""}
        runs.write(structure(Record, {**facts, "started_unix_s": 0.0, "cost": {"worker_s": one}, **ON_A100}))
    scale = Scale(machine, speeds(runs, machine))
    planned = sum(cost(spec, {}, scale).device_hours for spec in specs)
    assert planned == pytest.approx(sum(seconds) / 3600, rel=1e-9)


def test_a_real_run(runs: Runs, place: Place, tiny: tuple[Pretrain, Linear]) -> None:
    """What a worker writes into a record is what is read here: the same run is planned at the time it took."""
    subject, evaluation = tiny
    took = {}
    for spec in (subject, evaluation):
        took[spec.kind] = execute(write_spec(runs, spec), place).cost["worker_s"]
    cpu = machine_named("cpu", "here")
    scale = Scale(cpu, speeds(runs, cpu))
    subjects = {evaluation.subject: subject}
    for spec in (subject, evaluation):
        assert scale.speed(cost(spec, subjects, scale).form).runs == 1
        assert cost(spec, subjects, scale).device_hours == pytest.approx(took[spec.kind] / 3600, rel=1e-9)


def test_a_part_of_a_gpu_is_a_part_of_its_time(write: Writing, two_cells: Expansion, a100: Machine) -> None:
    """Four runs side by side for an hour take an hour of the GPU, not four."""
    environment = ON_A100["environment"] | {"world": 1, "gpu_share": 0.25}
    record = write(two_cells.members[0].subject, "done", cost={"worker_s": 3600.0}, environment=environment)
    assert device_seconds(record, a100) == 900
