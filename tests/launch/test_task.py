"""One run from its spec to its record, in this process."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score

from harness.config.expand import expand
from harness.config.identity import run_key
from harness.config.schema import Choice, Finetune, Linear, Pretrain, RandomEncoder
from harness.data import augment
from harness.data.draws import Draws, centre
from harness.data.errors import DataError
from harness.data.loader import Loader
from harness.data.prepare import open_dataset
from harness.evaluation.choice import held_out
from harness.launch.encoder import encoder_of
from harness.launch.place import Place
from harness.launch.specs import read_spec, write_spec
from harness.launch.task import execute, fail
from harness.models.networks import classifier
from harness.tracking.record import Runs
from harness.tracking.spool import Spool
from harness.training.pretraining import Pretraining
from harness.training.ranks import Ranks
from harness.training.state import build_state

Tiny = tuple[Pretrain, Linear]
NEVER_STARTED = "0123456789abcdef"
EMPTY = {"loss", "spread", "effective_rank", "projection_norm", "align", "uniform"}


def test_a_spec_survives_the_disk(runs: Runs, tiny: Tiny) -> None:
    """What a worker reads is what the driver wrote: the same spec, under its key."""
    for spec in (*tiny, RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=0)):
        key = write_spec(runs, spec)
        assert key == run_key(spec)
        assert read_spec(runs, key) == spec


def test_a_pretraining_and_its_evaluation(runs: Runs, place: Place, tiny: Tiny) -> None:
    """From two specs to two records, an encoder, a sealed choice and a spool; as the table needs them."""
    subject, evaluation = tiny
    record = execute(write_spec(runs, subject), replace(place, checkpoint_seconds=3600.0))
    assert record == runs.read(record.key)
    assert (record.state, record.kind, record.commit, record.error) == ("done", "pretrain", "test", None)
    assert set(record.results) == {f"pretrain.{name}" for name in EMPTY}
    assert all(math.isfinite(value) for value in record.results.values())
    assert record.flags == {"collapsed": False}
    assert record.cost["updates"] == 20
    assert record.cost["worker_s"] >= record.cost["first_update_s"] > 0
    assert record.environment["world"] == 1
    folder = runs.folder(record.key)
    assert [point.step for point in Spool(folder / "spool.jsonl").read()] == list(range(1, 21))
    assert len(list((folder / "checkpoints").iterdir())) == 1

    measured = execute(write_spec(runs, evaluation), place)
    assert measured.state == "done"
    assert 30 < measured.results["linear_imagenet.top1"] <= measured.results["linear_imagenet.top5"] <= 100
    assert measured.selection == json.loads((runs.folder(measured.key) / "selection.json").read_text())
    assert measured.selection["chosen"] in measured.selection["candidates"]


def test_a_supervised_pretraining_and_its_evaluation(runs: Runs, place: Place, tiny: Tiny) -> None:
    """Labels learned in 3 epochs, the test scored once by the network's own classifier, the encoder taken as any."""
    subject = expand("extras", "laptop", seeds=1, cell="supervised").members[0].subject
    assert isinstance(subject, Pretrain)
    subject = replace(subject, schedule=replace(subject.schedule, epochs=3))
    record = execute(write_spec(runs, subject), place)
    assert (record.state, record.kind, record.flags) == ("done", "pretrain", {})
    assert set(record.results) == {f"pretrain.{name}" for name in ("loss", "train_top1", "top1", "top5")}
    assert record.results["pretrain.top1"] > 70
    checkpoint = torch.load(max((runs.folder(record.key) / "checkpoints").iterdir()))["state"]["network"]
    assert record.results["pretrain.top1"] == pytest.approx(_top1(subject, checkpoint, Path(place.data)))
    measured = execute(write_spec(runs, replace(tiny[1], subject=record.key)), place)
    assert measured.results["linear_imagenet.top1"] > 70


def _top1(spec: Pretrain, state: dict[str, torch.Tensor], data: Path) -> float:
    """Of a network's checkpoint on the test images, by hand: scikit-learn's digits are small enough to take whole."""
    dataset = open_dataset("digits", data)
    network = classifier(spec.model, dataset.classes).eval()
    network.load_state_dict(state)

    def middle(_part: range, _index: Any, height: Any, width: Any) -> tuple[Draws]:
        return (centre(height, width),)

    with Loader(dataset.beton("test"), 500, spec.data.image_size) as loader:
        (batch,) = loader.batches(dataset.indices("test"), middle)
    with torch.no_grad():
        named = network(augment.by_torch(batch.crops[0], batch.draws[0], dataset.mean, dataset.std)).argmax(1)
    return 100 * float(accuracy_score(batch.label, named))


def test_a_fine_tuning_and_its_choice(runs: Runs, place: Place) -> None:
    """A cell of Table 2a from an initial network: two candidates, of which the better is tested, as it was trained."""
    member = expand("fractions", "laptop", seeds=1, cell="supervised_10").members[0]
    encoder = replace(member.subject, seed=3)
    write_spec(runs, encoder)
    first, second = (replace(one, subject=run_key(encoder), epochs=10) for one in member.candidates)
    assert isinstance(member.evaluation, Choice)
    keys = (run_key(first), run_key(second))
    choice = replace(member.evaluation, subject=run_key(encoder), candidates=keys)
    key = write_spec(runs, choice)
    write_spec(runs, first)
    with pytest.raises(RuntimeError, match=f"candidate {keys[0]} has not finished"):
        execute(key, place)
    found = [execute(write_spec(runs, one), place) for one in (first, second)]
    assert [record.state for record in found] == ["done", "done"]
    assert all(set(record.results) == {held_out(first)} for record in found)
    record = execute(key, place)
    scores = [one.results[held_out(first)] for one in found]
    best = scores.index(max(scores))
    assert record.selection["scores"] == scores
    assert record.selection["chosen"] == record.selection["candidates"][best]
    assert keys[best] in str(record.selection["chosen"])
    network = load_file(runs.folder(keys[best]) / "network.safetensors")
    assert record.results["finetune.top1"] == pytest.approx(_top1(_as_pretrained(first), network, Path(place.data)))
    assert record.results["finetune.top1"] <= record.results["finetune.top5"] <= 100


def _as_pretrained(spec: Finetune) -> Pretrain:
    """A training on labels of the same network, for `_top1`."""
    subject = expand("extras", "laptop", seeds=1, cell="supervised").members[0].subject
    assert isinstance(subject, Pretrain)
    assert subject.data.image_size == spec.data.image_size
    return subject


def test_a_choice_passes_over_what_diverged(runs: Runs, place: Place, write: Any) -> None:
    """One candidate that diverged ranks last; where all have, the choice has, and the test is not opened."""
    member = expand("fractions", "laptop", seeds=1, cell="supervised_10").members[0]
    write_spec(runs, member.subject)
    good = replace(member.candidates[0], epochs=1)
    bad = replace(good, learning_rate=1e9)
    keys = tuple(write_spec(runs, one) for one in (bad, good))
    assert execute(keys[0], place).state == "diverged"
    execute(keys[1], place)
    choice = write_spec(runs, replace(member.evaluation, candidates=keys))
    record = execute(choice, place)
    assert record.selection["scores"][0] is None
    assert keys[1] in str(record.selection["chosen"])
    none = execute(write_spec(runs, replace(member.evaluation, candidates=keys[:1])), place)
    assert (none.state, none.error, none.results) == ("diverged", "all 1 candidates diverged", {})
    assert not (runs.folder(none.key) / "selection.json").exists()


def test_the_saved_encoder_is_the_trained_one(runs: Runs, place: Place, tiny: Tiny) -> None:
    """Evaluations start from the online encoder of the last update, its running statistics included."""
    key = write_spec(runs, tiny[0])
    execute(key, place)
    encoder = load_file(runs.folder(key) / "encoder.safetensors")
    checkpoint = torch.load(next((runs.folder(key) / "checkpoints").iterdir()))["state"]["networks"][0]
    kept = {name.removeprefix("encoder."): value for name, value in checkpoint.items() if name.startswith("encoder.")}
    assert encoder.keys() == kept.keys()
    assert all(torch.equal(encoder[name], kept[name]) for name in kept)
    loaded = encoder_of(runs, key).state_dict()
    assert all(torch.equal(loaded[name], kept[name]) for name in kept)


def test_the_untrained_encoder_is_where_pretraining_starts(runs: Runs, tiny: Tiny) -> None:
    """The footer's `untrained` number and a run of the same seed have the same initial weights."""
    spec = RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=tiny[0].seed)
    untrained = encoder_of(runs, write_spec(runs, spec)).state_dict()
    started = build_state(tiny[0], torch.device("cpu"), Ranks.join(128, 128)).online.encoder.state_dict()
    assert all(torch.equal(untrained[name], started[name]) for name in started)


def test_a_failing_run_says_why(runs: Runs, place: Place, tiny: Tiny, tmp_path: Path) -> None:
    """The record holds the error, and the caller gets it too."""
    key = write_spec(runs, tiny[0])
    with pytest.raises(DataError):
        execute(key, replace(place, data=str(tmp_path / "nowhere")))
    record = runs.read(key)
    assert record is not None
    assert record.state == "failed"
    assert str(record.error).startswith("DataError: digits has not been prepared")
    assert record.ended_unix_s is not None
    assert "in open_dataset" in (runs.folder(key) / "traceback.txt").read_text(), "and where, for who has to mend it"


def test_an_impossible_sharing_is_recorded(
    runs: Runs, place: Place, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that the ranks cannot share fails the run with those numbers, not with a lost worker."""
    monkeypatch.setattr("harness.training.ranks.world_and_rank", lambda: (3, 0))
    for room in ("task", "begun"):  # no process group stands behind the 3
        monkeypatch.setattr(f"harness.launch.{room}.from_rank_0", lambda act: act())
    key = write_spec(runs, tiny[1])
    with pytest.raises(ValueError, match="3 ranks cannot share a batch of 128 evenly"):
        execute(key, place)
    assert "3 ranks cannot share" in str(getattr(runs.read(key), "error", ""))


class Killed(BaseException):
    """As a signal would: nothing in the task catches it."""


def test_a_killed_run_goes_on(runs: Runs, place: Place, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """It still says `running`, and its next attempt ends as an undisturbed run does, with one spool line a step."""
    other = Runs(runs.path.parent / "undisturbed")
    key = write_spec(runs, tiny[0])
    execute(write_spec(other, tiny[0]), replace(place, runs=str(other.path)))
    made = Pretraining.update

    def update(self: Pretraining, step: int, batch: Any) -> None:
        if step == 11:
            raise Killed
        made(self, step, batch)

    monkeypatch.setattr(Pretraining, "update", update)
    with pytest.raises(Killed):
        execute(key, replace(place, checkpoint_seconds=0.0))
    monkeypatch.setattr(Pretraining, "update", made)
    assert getattr(runs.read(key), "state", None) == "running"
    record = execute(key, place)
    assert record.state == "done"
    one, two = (load_file(folder.folder(key) / "encoder.safetensors") for folder in (runs, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert [point.step for point in Spool(runs.folder(key) / "spool.jsonl").read()] == list(range(1, 21))
    assert record.results == getattr(other.read(key), "results", None)


def test_a_diverged_run_is_an_outcome(runs: Runs, place: Place, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record has the mark, the update and what was last known; nothing is raised and no encoder is left."""
    made = Pretraining.update

    def update(self: Pretraining, step: int, batch: Any) -> None:
        if step == 4:
            self.state.online.encoder.conv1.weight.data.fill_(torch.nan)
        made(self, step, batch)

    monkeypatch.setattr(Pretraining, "update", update)
    key = write_spec(runs, tiny[0])
    record = execute(key, place)
    assert record == runs.read(key)
    assert record.state == "diverged"
    assert "update 5" in str(record.error)
    assert record.results["pretrain.updates"] == 5
    assert "pretrain.loss" not in record.results
    assert record.cost["wall_s"] > 0
    assert not (runs.folder(key) / "encoder.safetensors").exists()


def test_a_lost_rank_is_recorded_by_whoever_noticed(runs: Runs, write: Any, tiny: Tiny) -> None:
    """`fail` speaks for a run that cannot; a run that has ended keeps what it said itself."""
    key = write(tiny[0], "running").key
    fail(runs, key, "rank 1 is gone")
    fail(runs, key, "something else")
    record = runs.read(key)
    assert record is not None
    assert (record.state, record.error) == ("failed", "rank 1 is gone")
    fail(runs, NEVER_STARTED, "nothing")
    assert runs.read(NEVER_STARTED) is None
