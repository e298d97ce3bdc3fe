"""Data that nobody prepared holds up its own cells alone, and Table 10 counts what is prepared."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.cli import main
from harness.config.datasets import DATASETS
from harness.config.expand import expand
from harness.config.identity import plain
from harness.config.schema import Pretrain
from harness.reporting.described import DATASETS_COUNTED
from harness.tracking.record import Record, Runs

REPOSITORY = Path(__file__).parents[2]
TWELVE = sorted(name for name in DATASETS_COUNTED if name not in ("imagenet", "voc2012", "places365"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, a HARNESS_HOME and a HARNESS_DATA of the test's own."""
    for folder in ("experiments", "tables"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("built"))
    monkeypatch.delenv("PROFILE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    return tmp_path / "home"


def pretrained(home: Path, table: str, profile: str) -> None:
    """The records of all pretrainings of a table, as if they had been done."""
    for key, spec in expand(table, profile).runs().items():
        if isinstance(spec, Pretrain):
            facts = {"key": key, "kind": spec.kind, "state": "done", "spec": plain(spec), "commit": "", "results": {}}
            Runs(home / "runs").write(Record(**facts, environment={}, started_unix_s=1.0))  # type: ignore[arg-type]


def test_a_sweep_goes_on_without_data(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Table 3 where none of the twelve is prepared: each is asked for once, its cells show `--`, make hears of it."""
    pretrained(home, "3", "cifar10")
    assert main(["run", "table3", "--profile", "cifar10"]) == 1
    told = capsys.readouterr()
    complaints = [line for line in told.err.splitlines() if "has not been prepared" in line]
    assert [line.split()[1] for line in complaints] == TWELVE
    assert all(f"run `harness prepare {line.split()[1]} --source FOLDER`" in line for line in complaints)
    assert "2 of 170 runs are finished; 168 wait for data" in told.out
    (pets,) = [line for line in told.out.splitlines() if "`harness prepare pets --source FOLDER`" in line]
    cells = ("linear_byol_pets", "linear_simclr_repro_pets", "finetune_byol_pets", "finetune_simclr_repro_pets")
    assert pets.strip() == (
        "Pending, 0 of 1 seeds finished; data not prepared here, run `harness prepare pets --source FOLDER`: "
        f"{', '.join(cells)}, finetune_random_pets."
    )


def test_what_is_pretrained_on_is_needed_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Without it nothing could run: one sentence with the command, and no table."""
    assert main(["run", "table3", "--profile", "cifar10"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("harness: cifar10 has not been prepared: ")
    assert "run `harness prepare cifar10 --source FOLDER`" in told.err
    assert told.err.count("\n") == 1


def test_a_report_names_the_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A person who only reports learns what a cell waits for: its own data, and that of its pretraining."""
    assert main(["report", "table3", "--profile", "imagenet"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "linear_byol_dtd" in line]
    assert [
        "run `harness prepare imagenet --source FOLDER` and `harness prepare dtd --source FOLDER`: " in line
        for line in lines
    ] == [True]


def test_generated_data_is_asked_of_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """At the laptop profile a sweep generates what it needs, so that a report has no command to give."""
    assert main(["report", "table3"]) == 0
    assert "harness prepare" not in capsys.readouterr().out


def counted(profile: str) -> dict[tuple[str, str], dict[str, str]]:
    """Table 10 as it was written, by cell and metric."""
    with Path(f"tables/built/{profile}/table10.csv").open() as file:
        return {(row["cell"], row["metric"].removeprefix("split.")): row for row in csv.DictReader(file)}


def test_table_10_counts_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours is the length of the lists on disk and the classes of their labels; what is not there is `--`."""
    for name in ("flowers-stand-in", "pets-stand-in"):
        assert main(["prepare", name]) == 0
    capsys.readouterr()
    assert main(["report", "table10"]) == 0
    told, rows = capsys.readouterr().out, counted("laptop")
    for name, owners in (("flowers", ("train",)), ("pets", ("train", "valid"))):
        lists = tmp_path / "data" / f"{name}-stand-in" / "lists"
        there = {split: len(np.load(lists / f"{split}.npy")) for split in ("train", "valid", "test")}
        there |= {"original_train": sum(there[split] for split in owners), "classes": 5}
        assert {what: float(rows[name, what]["ours"]) for what in there} == there
        for what in there:
            assert [rows[name, what][column] for column in ("status", "delta", "verdict")] == ["complete", "", ""]
    assert rows["dtd", "train"]["ours"] == ""
    assert "Data not prepared here, run `harness prepare dtd-stand-in`: dtd." in told
    assert "Ours counts stand-ins, small generated sets" in told


def test_table_10_generates_its_stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make table10` from nothing at the laptop profile counts them all: here three, of three kinds."""
    three = {"dtd", "voc2012", "cifar10"}
    monkeypatch.setattr("harness.commands.prepared.DATASETS_COUNTED", tuple(three))
    assert main(["run", "table10"]) == 0
    complete = {cell for (cell, _), row in counted("laptop").items() if row["status"] == "complete"}
    assert complete == three
    assert {path.name for path in (tmp_path / "data").iterdir() if path.is_dir()} == {
        f"{one}-stand-in" for one in three
    }


def test_table_10_at_the_papers_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real sets are counted by their own manifests, which hold the paper's counts but where the layout says not."""
    for name in DATASETS_COUNTED:
        if name != "dtd":
            manifest_of(name, tmp_path / "data" / name)
    assert main(["run", "table10", "--profile", "imagenet"]) == 1, "one is missing"
    assert "`harness prepare dtd --source FOLDER`: dtd." in capsys.readouterr().out
    differing = {
        key: (float(row["ours"]), float(row["paper"]))
        for key, row in counted("imagenet").items()
        if row["ours"] and row["paper"] and row["ours"] != row["paper"]
    }
    assert differing == {
        ("voc2007", "original_train"): (2501, 5011),
        ("caltech101", "classes"): (102, 101),
        ("places365", "train"): (1785210, 1803460),
    }


def manifest_of(name: str, folder: Path) -> None:
    """What `harness prepare` writes last, for a dataset whose images are nowhere."""
    facts = DATASETS[name]
    splits = {split: facts.images(split) for split in ("train", "valid", "test")}
    told = {"dataset": name, "format": 2, "encoding": "jpeg", "source": "there", "counts": splits, "class_counts": {}}
    told |= {"version": facts.version, "split_id": facts.split_id, "record": facts.record, "store": facts.store}
    told |= {"classes": [str(number) for number in range(facts.classes)], "images": {"skipped": []}}
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({**told, "lists": {}, "files": {}}))
