"""A choice among segmentations: its best is trained anew on train and validation, and tested once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.datasets import DATASETS
from harness.config.schema import Choice, RandomEncoder, SceneData, Segmentation
from harness.data.prepare import open_dataset, prepare
from harness.evaluation.segmentation import SegmentationTraining
from harness.launch.encoder import encoder_of
from harness.launch.housekeeping import NETWORK
from harness.launch.place import Place
from harness.launch.specs import read_spec, write_spec
from harness.launch.task import execute
from harness.tracking.record import Record, Runs
from harness.training.ranks import Ranks

NAME = "voc2012-stand-in"
STEPS, BATCH = 4, 4
RATES = (1e30, 0.02, 0.1)  # the first diverges


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with images and their masks."""
    directory = tmp_path_factory.mktemp("masks")
    prepare(NAME, directory, lambda _: None)
    return directory


def place(runs: Runs, data: Path) -> Place:
    return Place(runs=str(runs.path), data=str(data), commit="test", checkpoint_seconds=0.0)


@pytest.fixture(scope="module")
def ready(masks: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of runs in which the candidates have ended, and the key of the choice."""
    runs = Runs(tmp_path_factory.mktemp("ready"))
    subject = write_spec(runs, RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=3))
    data = SceneData(dataset=NAME, train="train", select="valid", test="test", **DATASETS[NAME].identity())
    first = Segmentation(
        kind="segmentation",
        evaluation_version=1,
        subject=subject,
        data=data,
        crop=33,
        scales=(0.5, 2.0),
        flip=0.5,
        learning_rate=0.1,
        drops=(0.7, 0.9),
        steps=STEPS,
        batch=BATCH,
        momentum=0.9,
        weight_decay=1e-4,
        seed=5,
    )
    tried = [replace(first, learning_rate=rate) for rate in RATES]
    choice = Choice(
        kind="choice",
        evaluation="segmentation",
        evaluation_version=1,
        subject=subject,
        data=data,
        candidates=tuple(execute(write_spec(runs, one), place(runs, masks)).key for one in tried),
        retrain="train+valid",
    )
    return runs.path, write_spec(runs, choice)


@pytest.fixture
def runs(ready: tuple[Path, str], tmp_path: Path) -> Runs:
    """A copy, to choose in."""
    shutil.copytree(ready[0], tmp_path / "runs")
    return Runs(tmp_path / "runs")


def plainly(runs: Runs, masks: Path, key: str) -> dict[str, float]:
    """The test of a candidate's training on train and validation, update after update."""
    best = read_spec(runs, key)
    assert isinstance(best, Segmentation)
    spec, ranks = replace(best, data=replace(best.data, train="train+valid")), Ranks.join(BATCH, BATCH)
    dataset = open_dataset(NAME, masks)
    task = SegmentationTraining(spec, encoder_of(runs, best.subject), dataset, torch.device("cpu"), ranks, 1)
    for step, batch in enumerate(task.feed(0)):
        task.update(step, batch)
    task.close()
    return task.scores("test")


def test_the_best_is_trained_on_train_and_validation_and_tested(
    ready: tuple[Path, str], runs: Runs, masks: Path
) -> None:
    """Protects Table 4a: of the learning rates the best mean IoU on what is held out; its training again, from the
    encoder, on all of train_aug; one number of the test.
    """
    record = execute(ready[1], place(runs, masks))
    spec = read_spec(runs, ready[1])
    assert isinstance(spec, Choice)
    ended = [runs.read(key) for key in spec.candidates]
    assert [one.state for one in ended if one] == ["diverged", "done", "done"]
    scores = [one.results.get("segmentation.valid.miou") for one in ended if one]
    assert scores[0] is None
    assert record.selection["scores"] == scores
    assert record.selection["metric"] == "segmentation.valid.miou"
    best = max((score, -number) for number, score in enumerate(scores) if score is not None)[1]
    assert str(record.selection["chosen"]).startswith(f"learning_rate={RATES[-best]}, steps={STEPS}, run ")
    found = plainly(runs, masks, spec.candidates[-best])
    assert record.results == {f"segmentation.{name}": value for name, value in found.items()}
    assert set(found) == {"miou"}
    assert record.cost["updates"] == STEPS
    for key in (*spec.candidates, ready[1]):
        assert not (runs.folder(key) / NETWORK).exists()


@pytest.mark.parametrize("where", [2, "test"])
def test_a_killed_choice_ends_as_an_undisturbed_one(
    ready: tuple[Path, str], runs: Runs, masks: Path, where: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects results from crashes, amid the retraining or before the test: the recorded choice goes on."""
    made = SegmentationTraining.update

    def update(self: SegmentationTraining, number: int, batch: Any) -> None:
        if number == where:
            raise KeyboardInterrupt
        made(self, number, batch)

    def scores(*_all: Any) -> None:
        raise KeyboardInterrupt

    def chosen() -> Record:
        return execute(ready[1], place(runs, masks))

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTraining, "update", update)
        if where == "test":
            patch.setattr(SegmentationTraining, "scores", scores)
        with pytest.raises(KeyboardInterrupt):
            chosen()
    assert (runs.folder(ready[1]) / "selection.json").exists()
    record = chosen()
    spec = read_spec(runs, ready[1])
    assert isinstance(spec, Choice)
    (best,) = (key for key in spec.candidates if str(record.selection["chosen"]).endswith(key))
    assert record.results == {"segmentation.miou": plainly(runs, masks, best)["miou"]}
