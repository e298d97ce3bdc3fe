"""Data that runs need: prepared, missing, damaged, or without a list of labels."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config.expand import expand
from harness.config.finding import Finding, ok
from harness.config.schema import Finetune, FinetuneData
from harness.data.prepare import prepare
from harness.launch.cost import Scale
from harness.launch.doctor.datasets import datasets
from harness.launch.machines import machine_named
from harness.launch.plan import Plan, make_plan
from harness.launch.site import Site
from harness.tracking.record import Runs


@pytest.fixture
def here(tmp_path: Path) -> Site:
    """With nothing prepared."""
    return Site(home=tmp_path, data=tmp_path / "data", tracking_uri="")


def plan_of(table: str, profile: str, here: Site) -> Plan:
    """One seed of a table."""
    scale = Scale(machine_named("cpu", "here"))
    return make_plan([expand(table, profile, seeds=1)], Runs(here.home / "runs"), scale)


def found(table: str, profile: str, here: Site) -> list[Finding]:
    """What is said of its data."""
    return list(datasets(plan_of(table, profile, here), (), here))


def test_what_is_generated_need_not_be_there(here: Site, data: Path) -> None:
    """The laptop's digits: written on first use, and counted once they are there."""
    assert found("5b", "laptop", here) == [ok("dataset digits", "generated on first use")]
    (told,) = found("5b", "laptop", replace(here, data=data))
    assert (told.state, " train, " in told.found) == ("ok", True)


def test_what_a_person_has_to_prepare(here: Site) -> None:
    """A failure with the very command, for every dataset that the runs want."""
    (told,) = found("5b", "imagenet", here)
    assert (told.name, told.state) == ("dataset imagenet", "fail")
    assert told.remedy == "run `harness prepare imagenet --source FOLDER`"
    assert {one.name for one in found("3", "cifar10", here)} >= {"dataset food101", "dataset pets", "dataset dtd"}


def test_tables_without_runs(here: Site) -> None:
    """Need no data, unless they count it."""
    nothing = replace(plan_of("5b", "laptop", here), runs=())
    assert list(datasets(nothing, (), here)) == [ok("dataset", "none is needed")]
    (told,) = datasets(nothing, ["pets"], here)
    assert (told.name, told.state) == ("dataset pets", "fail")


def test_prepared_data_that_was_damaged(here: Site) -> None:
    """A file that a copy cut short is found by its size, without reading an image."""
    prepare("food101-stand-in", here.data, lambda _: None)
    (twin,) = {run.dataset for run in plan_of("3", "laptop", here).runs if run.dataset.startswith("food101")}
    assert twin == "food101-stand-in"
    whole = {one.name: one for one in found("3", "laptop", here)}["dataset food101-stand-in"]
    assert (whole.state, whole.found.endswith("images, stand-in")) == ("ok", True)
    file = here.data / twin / "train.beton"
    file.write_bytes(file.read_bytes()[:-1])
    again = {one.name: one for one in found("3", "laptop", here)}["dataset food101-stand-in"]
    assert again == ok("dataset food101-stand-in", "generated on first use"), "a sweep makes it anew"


def test_a_list_of_labels_that_is_missing(here: Site, data: Path) -> None:
    """A fine-tuning on part of the labels needs the list of them: said with the command that adds it."""
    shutil.copytree(data / "digits", here.data / "digits")
    plan = plan_of("2a", "laptop", here)
    run = next(one for one in plan.runs if isinstance(one.spec, Finetune))
    assert isinstance(run.spec, Finetune)
    assert isinstance(run.spec.data, FinetuneData)
    spec = replace(run.spec, data=replace(run.spec.data, dataset="digits", train="mine-1"))
    (told,) = datasets(replace(plan, runs=(replace(run, spec=spec),)), (), here)
    assert (told.state, "has no list of images mine-1" in told.found) == ("fail", True)
    assert told.remedy.startswith("add it with `harness prepare digits --list mine-1=FILE`")
    drawn = replace(spec, data=replace(spec.data, train="balanced-50"))
    (told,) = datasets(replace(plan, runs=(replace(run, spec=drawn),)), (), here)
    assert told.state == "ok", "a sweep draws such a list itself"
