"""A logistic evaluation as a run: its record, its features beside the encoder's run, and what a kill leaves of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.config.datasets import DATASETS
from harness.config.identity import plain, run_key
from harness.config.schema import FrozenData, Linear, Logistic, Pretrain, RandomEncoder, Strengths
from harness.data.prepare import prepare
from harness.launch.encoder import architecture
from harness.launch.housekeeping import FEATURES
from harness.launch.kinds import solver_of
from harness.launch.place import Place, Solver
from harness.launch.specs import write_spec
from harness.launch.task import execute
from harness.tracking.record import Record, Runs
from harness.tracking.spool import Spool

pytestmark = pytest.mark.timeout(180)
SUBJECT = RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=0)


def logistic(dataset: str = "digits", subject: str = run_key(SUBJECT), count: int = 3) -> Logistic:
    """At 16 pixels, with few lambdas."""
    data = FrozenData(
        dataset=dataset,
        train="train",
        select="valid",
        test="test",
        image_size=16,
        **DATASETS[dataset].identity(),
    )
    return Logistic(
        kind="logistic",
        evaluation="transfer",
        evaluation_version=1,
        subject=subject,
        data=data,
        strengths=Strengths(count=count, low=1e-1, high=1e3),
    )


def ended(runs: Runs, place: Place, spec: Logistic) -> Record:
    """Its record, of an untrained encoder."""
    write_spec(runs, SUBJECT)
    return execute(write_spec(runs, spec), place)


def test_a_record_has_what_its_table_asks_for(runs: Runs, place: Place) -> None:
    """The dataset's own metric for Table 3, the choice, the cost, a point a fit, and progress to the end."""
    record = ended(runs, place, logistic())
    assert (record.state, record.kind, record.notes) == ("done", "logistic", ())
    assert 50 < record.results["transfer.top1"] < record.results["transfer.top5"] <= 100
    folder = runs.folder(record.key)
    assert record.selection == json.loads((folder / "selection.json").read_text())
    assert record.selection["chosen"] in ("lambda=0.1", "lambda=10", "lambda=1000")
    assert record.cost["updates"] == 4
    assert record.cost["worker_s"] >= record.cost["first_update_s"] > 0
    points = Spool(folder / "spool.jsonl").read()
    assert [point.step for point in points] == [1, 2, 3, 4]
    assert [point.metrics["logistic.valid.top1"] for point in points[2::-1]] == record.selection["scores"]
    progress = json.loads((folder / "progress.json").read_text())
    assert (progress["done"], progress["total"]) == (4, 4)


def test_flags_get_their_precision(runs: Runs, place: Place, data: Path) -> None:
    """VOC 2007 is chosen and scored by what Table 3 prints of it."""
    prepare("voc2007-stand-in", data, lambda _: None)
    record = ended(runs, place, logistic("voc2007-stand-in"))
    assert record.state == "done"
    assert record.selection["metric"] == "transfer.valid.map11"
    assert set(record.results) == {"transfer.map11"}
    assert 0 < record.results["transfer.map11"] <= 100


def test_features_are_shared_by_the_evaluations_of_an_encoder(runs: Runs, place: Place) -> None:
    """They lie in the encoder's folder, and another evaluation of the same images leaves them as they are."""
    first = ended(runs, place, logistic())
    files = sorted((runs.folder(run_key(SUBJECT)) / FEATURES).iterdir())
    assert [file.name.rsplit("-", 1)[0] for file in files] == ["digits-test", "digits-train", "digits-valid"]
    written = [file.stat().st_mtime_ns for file in files]
    second = ended(runs, place, logistic(count=5))
    assert second.key != first.key
    assert [file.stat().st_mtime_ns for file in files] == written
    assert sorted((runs.folder(run_key(SUBJECT)) / FEATURES).iterdir()) == files


def test_damaged_features_are_told_in_the_record(runs: Runs, place: Place) -> None:
    """The next evaluation makes them anew, gets the same number, and a person reads of it."""
    first = ended(runs, place, logistic())
    (train,) = (runs.folder(run_key(SUBJECT)) / FEATURES).glob("digits-train-*")
    os.truncate(train, 1000)
    runs.write(replace(first, state="retired"))
    again = ended(runs, place, logistic())
    assert again.results == first.results
    (note,) = again.notes
    assert note.startswith(str(train))


def test_an_encoder_of_no_numbers_has_diverged(runs: Runs, place: Place, tiny: tuple[Pretrain, Linear]) -> None:
    """The cell gets the mark and chance, not an error that is tried again and again."""
    subject = write_spec(runs, tiny[0])
    state = {name: value.contiguous() for name, value in architecture(tiny[0]).state_dict().items()}
    state["conv1.weight"].fill_(torch.nan)
    save_file(state, runs.folder(subject) / "encoder.safetensors")
    record = execute(write_spec(runs, logistic(subject=subject)), place)
    assert record.state == "diverged"
    assert "features that are not finite" in str(record.error)
    assert record.results == {}


@pytest.mark.parametrize("solver", ["torch", "scikit-learn"])
def test_the_place_says_who_solves(solver: Solver, runs: Runs, place: Place) -> None:
    """It is no identity: both write the record of one key, and nearly the same numbers."""
    assert solver_of(replace(place, solver=solver)).__name__ == {"torch": "fit_path"}.get(solver, "fit_path_sklearn")
    record = ended(runs, replace(place, solver=solver), logistic())
    assert record.key == run_key(logistic())
    written_out = json.loads((runs.folder(record.key) / "spec.json").read_text())
    assert "solver" not in json.dumps(written_out)
    assert 50 < record.results["transfer.top1"] < 100


def _started(spec: Path, home: Path, data: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness", "train", str(spec), "--home", str(home), "--data", str(data)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def test_a_killed_process_is_taken_up(runs: Runs, place: Place, data: Path, tmp_path: Path) -> None:
    """SIGKILL amid the fits of `harness train`: the same command ends with the numbers of an undisturbed run."""
    spec = logistic(count=60)
    undisturbed = ended(runs, place, spec)
    home, file = tmp_path / "home", tmp_path / "spec.json"
    file.write_text(json.dumps(plain(spec)))
    write_spec(Runs(home / "runs"), SUBJECT)
    folder = Runs(home / "runs").folder(undisturbed.key)
    process = _started(file, home, data)
    deadline = time.monotonic() + 90
    while len(Spool(folder / "spool.jsonl").read()) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "selection.json").exists()
    assert getattr(Runs(home / "runs").read(undisturbed.key), "state", None) == "running"
    assert _started(file, home, data).wait(90) == 0
    record = Runs(home / "runs").read(undisturbed.key)
    assert record is not None
    assert record.results == undisturbed.results
    assert record.selection["scores"] == undisturbed.selection["scores"]
    assert [point.step for point in Spool(folder / "spool.jsonl").read()] == list(range(1, 62))
