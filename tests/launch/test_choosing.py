"""A choice whose best is trained anew on train and validation before it is tested: transfer's fine-tuning."""

from __future__ import annotations

import math
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist

from harness.config.datasets import DATASETS
from harness.config.schema import Choice, Finetune, FinetuneData, RandomEncoder
from harness.data.prepare import open_dataset, prepare
from harness.evaluation.finetune import Finetuning, logits
from harness.evaluation.scoring import Scorer
from harness.launch.encoder import encoder_of
from harness.launch.housekeeping import NETWORK
from harness.launch.place import Place
from harness.launch.specs import read_spec, write_spec
from harness.launch.task import execute
from harness.tracking.record import Record, Runs
from harness.tracking.spool import Spool
from harness.training.ranks import Ranks

CPU = torch.device("cpu")
SUBJECT = RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=3)
STEPS, BATCH = 8, 32
CLASSES = ("digits", "pets-stand-in")
FLAGS = "voc2007-stand-in"


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory: the digits, and small stand-ins of a dataset that counts by class and of one that has flags."""
    directory = tmp_path_factory.mktemp("several")
    for name in (*CLASSES, FLAGS):
        prepare(name, directory, lambda _: None)
    return directory


class Cell(NamedTuple):
    """Runs in which the candidates of a choice have ended, and the key of the choice."""

    runs: Runs
    choice: str

    def choose(self, data: Path, **changes: Any) -> Record:
        """Carry the choice out."""
        place = Place(runs=str(self.runs.path), data=str(data), commit="test", checkpoint_seconds=0.0)
        return execute(self.choice, replace(place, **changes))

    def curve(self) -> list[tuple[int, dict[str, float]]]:
        """What the retraining reported."""
        return [(point.step, point.metrics) for point in Spool(self.runs.folder(self.choice) / "spool.jsonl").read()]


def candidates(dataset: str, subject: str) -> tuple[Finetune, ...]:
    """Learning rates and weight decays, of which the first diverges."""
    data = FinetuneData(
        dataset=dataset,
        train="train",
        select="valid",
        test="test",
        image_size=16,
        crop_area=(0.5, 1.0),
        flip=0.5,
        **DATASETS[dataset].identity(),
    )
    first = Finetune(
        kind="finetune",
        evaluation_version=1,
        subject=subject,
        data=data,
        learning_rate=1e200,
        epochs=None,
        batch=BATCH,
        momentum=0.9,
        weight_decay=0.0,
        seed=5,
        precision="float64",
        steps=STEPS,
        statistics_steps=10.0,
    )
    pairs = ((1e200, 0.0), (0.1, 0.0), (0.1, 0.01), (0.4, 0.0))
    return tuple(replace(first, learning_rate=rate, weight_decay=decay) for rate, decay in pairs)


def prepared(folder: Path, data: Path, dataset: str) -> Cell:
    """Train the candidates."""
    runs = Runs(folder)
    subject = write_spec(runs, SUBJECT)
    tried = candidates(dataset, subject)
    place = Place(runs=str(runs.path), data=str(data), commit="test")
    keys = tuple(execute(write_spec(runs, one), place).key for one in tried)
    choice = Choice(
        kind="choice",
        evaluation="transfer",
        evaluation_version=1,
        subject=subject,
        data=tried[0].data,
        candidates=keys,
        retrain="train+valid",
    )
    return Cell(runs, write_spec(runs, choice))


@pytest.fixture(scope="module")
def ready(several: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cell]:
    """By dataset."""
    folder = tmp_path_factory.mktemp("ready")
    return {name: prepared(folder / name, several, name) for name in (*CLASSES, FLAGS)}


@pytest.fixture
def cell(ready: dict[str, Cell], tmp_path: Path) -> Callable[[str], Cell]:
    """A copy of a dataset's cell, to choose in."""

    def copy(dataset: str = "digits") -> Cell:
        attempt = len(list(tmp_path.iterdir()))
        shutil.copytree(ready[dataset].runs.path, tmp_path / f"{dataset}{attempt}")
        return Cell(Runs(tmp_path / f"{dataset}{attempt}"), ready[dataset].choice)

    return copy


@pytest.mark.parametrize("dataset", [*CLASSES, FLAGS])
def test_the_best_is_trained_on_train_and_validation_and_tested(
    cell: Callable[[str], Cell], several: Path, dataset: str
) -> None:
    """Protects Table 3's lower half: of the candidates' scores the best, from the subject again, by a plain
    fine-tuning on train and validation; every metric of the dataset; the spool of a training.
    """
    here = cell(dataset)
    record = here.choose(several)
    spec = read_spec(here.runs, here.choice)
    assert isinstance(spec, Choice)
    ended = [here.runs.read(key) for key in spec.candidates]
    scores = [one.results.get(f"finetune.valid.{DATASETS[dataset].metric}") for one in ended if one is not None]
    assert scores[0] is None
    assert record.selection["scores"] == scores
    best = max((score, -number) for number, score in enumerate(scores) if score is not None)[1]
    assert record.selection["chosen"] == record.selection["candidates"][-best]
    assert record.selection["metric"] == f"transfer.valid.{DATASETS[dataset].metric}"
    results, losses = plainly(here, several, spec.candidates[-best])
    assert record.results == {f"transfer.{name}": value for name, value in results.items()}
    assert {metric["finetune.loss"] for _, metric in here.curve()} == set(losses)
    assert record.cost["updates"] == STEPS
    assert set(results) == ({"map11"} if dataset == FLAGS else {"top1", "top5", "mean_per_class"})


def plainly(here: Cell, data: Path, key: str) -> tuple[dict[str, float], list[float]]:
    """The training of a candidate on train and validation, update after update; its test, and its losses."""
    best = read_spec(here.runs, key)
    assert isinstance(best, Finetune)
    spec, ranks = replace(best, data=replace(best.data, train="train+valid")), Ranks.join(BATCH, BATCH)
    dataset = open_dataset(best.data.dataset, data)
    task = Finetuning(spec, encoder_of(here.runs, best.subject), dataset, CPU, ranks, 1)
    losses = []
    for step, batch in enumerate(task.feed(0)):
        task.update(step, batch)
        losses.append(task.diagnose()["loss"])
    task.close()
    scorer = Scorer(dataset, best.data.image_size, CPU, ranks, 1)
    return scorer.scores("test", 1, partial(logits, task.network.eval()))[0], losses


def test_candidates_leave_records_alone(cell: Callable[[], Cell], several: Path) -> None:
    """Protects disks: of thousands of candidates neither network nor checkpoint is kept, nor of what is chosen."""
    here = cell()
    here.choose(several)
    spec = read_spec(here.runs, here.choice)
    for key in (*spec.candidates, here.choice):  # type: ignore[union-attr]  # a choice's
        assert not (here.runs.folder(key) / NETWORK).exists()
        assert not (here.runs.folder(key) / "checkpoints").exists()


def test_its_candidates_are_named_by_what_was_tried(cell: Callable[[], Cell], several: Path) -> None:
    """Protects `explain`, and the record: learning rate, weight decay and length of each, with its run."""
    here = cell()
    names = here.choose(several).selection["candidates"]
    spec = read_spec(here.runs, here.choice)
    assert names[2].startswith("learning_rate=0.1, weight_decay=0.01, steps=8, run ")
    assert [name.rpartition(" ")[2] for name in names] == list(spec.candidates)  # type: ignore[union-attr]  # likewise
    assert len({name.rpartition(",")[0] for name in names}) == len(names)


class Killed(BaseException):
    """As a signal would: nothing in the task catches it."""


def _kill_training_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Finetuning.update

    def update(self: Finetuning, number: int, batch: Any) -> None:
        if number == step:
            raise Killed
        made(self, number, batch)

    monkeypatch.setattr(Finetuning, "update", update)


def _kill_test(monkeypatch: pytest.MonkeyPatch) -> None:
    def scores(*_all: Any, **_named: Any) -> None:
        raise Killed

    monkeypatch.setattr(Scorer, "scores", scores)


@pytest.mark.parametrize("where", [0, 1, 5, STEPS - 1, "test"])
def test_a_killed_choice_ends_as_an_undisturbed_one(
    cell: Callable[[], Cell], several: Path, where: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects results from crashes: behind the record, amid the retraining or before the test, the recorded choice
    goes on, bit by bit, with each update reported once.
    """
    whole, cut = cell(), cell()
    undisturbed = whole.choose(several)
    with monkeypatch.context() as patch:
        _kill_test(patch) if where == "test" else _kill_training_at(int(where), patch)
        with pytest.raises(Killed):
            cut.choose(several)
    assert getattr(cut.runs.read(cut.choice), "state", None) == "running"
    chosen = (cut.runs.folder(cut.choice) / "selection.json").read_bytes()
    record = cut.choose(several)
    assert (cut.runs.folder(cut.choice) / "selection.json").read_bytes() == chosen
    assert record.results == undisturbed.results
    assert cut.curve() == whole.curve()
    assert [step for step, _ in cut.curve()] == list(range(1, STEPS + 1))


def test_a_retraining_that_diverges(cell: Callable[[], Cell], several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from a number that nobody trained: the choice has diverged, says what did, and opens no test."""
    made = Finetuning.update

    def update(self: Finetuning, step: int, batch: Any) -> None:
        if step == 4:
            self.network.classifier.weight.data.fill_(math.nan)
        made(self, step, batch)

    monkeypatch.setattr(Finetuning, "update", update)
    _kill_test(monkeypatch)
    record = cell().choose(several)
    assert (record.state, record.results) == ("diverged", {})
    chosen = record.selection["chosen"]
    assert record.error == f"trained anew on train+valid, {chosen}: the loss is not finite at update 5"


def rank_main(rank: int, port: int, here: Cell, data: str, choices: str) -> None:
    """One of two ranks."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    record = here.choose(Path(data))
    torch.save(record.results, Path(choices) / f"rank{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_choose_as_one(cell: Callable[[], Cell], several: Path, tmp_path: Path) -> None:
    """Protects numbers from the size of a cluster: the same retraining, and the same test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one, two = cell(), cell()
    torch.multiprocessing.spawn(rank_main, (port, two, str(several), str(tmp_path)), nprocs=2)
    alone = one.choose(several)
    for rank in range(2):
        assert torch.load(tmp_path / f"rank{rank}.pt") == pytest.approx(alone.results, rel=1e-9)
    for (step, ours), (same, theirs) in zip(two.curve(), one.curve(), strict=True):
        assert (step, ours) == (same, pytest.approx(theirs, rel=1e-8))
