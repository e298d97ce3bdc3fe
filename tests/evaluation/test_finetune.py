"""Fine-tuning: its first updates against plain torch, what it leaves, and that no rank, crash or list changes it."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, balanced_accuracy_score, precision_recall_curve
from steady import resumes, same_on_two_ranks, updated
from told import run

from harness.config.datasets import DATASETS
from harness.config.expand import expand
from harness.config.schema import Finetune
from harness.data import augment
from harness.data.beton import Beton
from harness.data.dataset import Dataset
from harness.data.draws import Draws, centre
from harness.data.errors import DataError
from harness.data.loader import Loader
from harness.data.prepare import add_list, open_dataset
from harness.data.records import ABSENT, DIFFICULT, PRESENT, decode_labels
from harness.evaluation.choice import held_out
from harness.evaluation.finetune import Finetuning, HopelessError, chance, check_classes, statistics_share
from harness.evaluation.scoring import Scorer
from harness.models.norm import BatchNorm
from harness.models.resnet import ResNet
from harness.training import loop
from harness.training.ranks import Ranks

CPU = torch.device("cpu")


@pytest.fixture
def spec() -> Finetune:
    """The first candidate of the laptop's Table 2a on 10 % of the labels: 2 epochs of 110 digits, 6 updates."""
    candidate = expand("2a", "laptop", seeds=1, cell="byol_10pct").members[0].candidates[0]
    return replace(candidate, epochs=2, precision=str(torch.get_default_dtype()).removeprefix("torch."))


def begun(spec: Finetune, digits: Dataset) -> Finetuning:
    """A fine-tuning of a fixed random encoder."""
    torch.manual_seed(5)
    return Finetuning(spec, ResNet("resnet_tiny", 1, "batch"), digits, CPU, Ranks.join(spec.batch, spec.batch), 1)


@pytest.fixture
def task(spec: Finetune, digits: Dataset) -> Iterator[Finetuning]:
    made = begun(spec, digits)
    yield made
    made.close()


@pytest.mark.usefixtures("float64")
def test_first_updates_are_those_of_plain_torch(digits: Dataset, spec: Finetune) -> None:
    """Protects the protocol: Nesterov's momentum, the scaled cosine rate, decay on weights alone, batch statistics."""
    spec = replace(spec, weight_decay=1e-2, precision="float64")
    task = begun(spec, digits)
    torch.manual_seed(5)
    encoder = ResNet("resnet_tiny", 1, "batch").double()
    classifier = torch.nn.Linear(encoder.features, 10).double()
    classifier.load_state_dict(task.network.classifier.state_dict())
    network = torch.nn.Sequential(encoder, classifier)
    weights, others = ([p for p in network.parameters() if (p.ndim > 1) is more] for more in (True, False))
    groups = [{"params": weights, "weight_decay": 1e-2}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)
    peak, total = spec.learning_rate * spec.batch / 256, 2 * 110 // spec.batch
    assert task.total == total
    for step, batch in zip(range(4), task.feed(0), strict=False):
        ((view,),) = batch.groups
        optimizer.zero_grad()
        loss = F.cross_entropy(network(view), batch.labels)
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = peak * (1 + math.cos(math.pi * step / total)) / 2
        optimizer.step()
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.commit()
        task.update(step, batch)
        assert task.diagnose()["loss"] == pytest.approx(float(loss.detach()), rel=1e-12)
    task.close()
    ours = task.network.encoder.state_dict()
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: name + text)


def transfer(spec: Finetune, dataset: str, **changes: Any) -> Finetune:
    """The same as transfer has it, on another dataset: so many updates, and statistics that the dataset's size sets."""
    data = replace(spec.data, dataset=dataset, train="train", **DATASETS[dataset].identity())
    return replace(spec, data=data, epochs=None, **{"steps": 5, "statistics_steps": 10.0, **changes})


def test_the_running_statistics_keep_what_the_paper_says() -> None:
    """Protects the formula's sense, max(1 - 10/s, 0.9) of the old: the larger the dataset, the slower they move."""
    for updates, kept in ((4, 0.9), (100, 0.9), (125, 0.92), (1000, 0.99)):  # of 256 images, an epoch
        assert 1 - statistics_share(10.0, 256 * updates, 256) == pytest.approx(kept, rel=1e-12)
    food101 = 1 - 10 / 266.3086  # updates of its train split's 68,175 images
    assert 1 - statistics_share(10.0, 68_175, 256) == pytest.approx(food101, abs=1e-7)


def test_the_statistics_of_a_large_dataset_move_slowly(spec: Finetune, digits: Dataset) -> None:
    """Protects every layer, and the images counted, from another split's: 1097 digits or 1297 in updates of 32."""
    for split, images in (("train", 1097), ("train+valid", 1297)):
        cell = transfer(spec, "digits", statistics_steps=1.0, batch=32)
        task = begun(replace(cell, data=replace(cell.data, train=split)), digits)
        momenta = {module.momentum for module in task.network.modules() if isinstance(module, BatchNorm)}
        assert momenta == {32 / images}
        before = task.network.encoder.bn1.running_mean.clone()
        seen = []
        task.network.encoder.conv1.register_forward_hook(
            lambda _m, _i, out, seen=seen: seen.append(out.mean((0, 2, 3)))
        )
        task.update(0, next(task.feed(0)))
        moved = task.network.encoder.bn1.running_mean
        torch.testing.assert_close(moved, before * (1 - 32 / images) + seen[0].detach() * 32 / images)
        task.close()


def test_so_many_updates(spec: Finetune, digits: Dataset) -> None:
    """Protects transfer's 20,000 steps: as many as the spec says however many images there are, the rate down to 0."""
    task = begun(transfer(spec, "digits", steps=5, batch=64), digits)
    assert task.total == sum(1 for _ in task.feed(0)) == 5
    peak = spec.learning_rate * 64 / 256
    assert [task.learning_rate(step) for step in (0, 5)] == pytest.approx([peak, 0.0])
    assert not task.tested, "the choice trains another of these"
    task.close()


@pytest.mark.usefixtures("float64")
def test_flags_are_learned_class_by_class(spec: Finetune, voc: Dataset) -> None:
    """Protects VOC 2007: each image comes with its own flags, and the loss is that of a class at a time by hand,
    without what is difficult.
    """
    task = begun(transfer(spec, "voc2007-stand-in", precision="float64"), voc)
    batch = next(task.feed(0))
    file, stored = Beton(voc.beton("train")), voc.numbers("train+valid")
    flags = [decode_labels(file.target(int(np.searchsorted(stored, number)))) for number in batch.images.tolist()]
    assert np.array_equal(batch.labels.numpy(), np.stack(flags))
    assert {DIFFICULT, PRESENT, ABSENT} == set(batch.labels.unique().tolist())
    ((view,),) = batch.groups
    said = copy.deepcopy(task.network)(view).detach()
    task.update(0, batch)
    total = 0.0
    for row, own in zip(said.tolist(), flags, strict=True):
        total += sum(math.log1p(math.exp(-flag * x)) for x, flag in zip(row, own.tolist(), strict=True) if flag)
    numbers = task.diagnose()
    assert numbers["loss"] == pytest.approx(total / len(flags), rel=1e-12)
    right = [own[np.argmax(row)] == PRESENT for row, own in zip(said.tolist(), flags, strict=True)]
    assert numbers["train_top1"] == pytest.approx(100 * np.mean(right))
    task.close()


def held_out_logits(task: Finetuning, dataset: Dataset) -> torch.Tensor:
    """What a network says of the centres of the images that choose, in their order."""

    def middle(_part: range, _index: Any, height: Any, width: Any) -> tuple[Draws]:
        return (centre(height, width),)

    with Loader(dataset.beton("valid"), 1000, task.spec.data.image_size) as loader:
        (batch,) = loader.batches(dataset.indices("valid"), middle)
    with torch.no_grad():
        return task.network.eval()(augment.by_torch(batch.crops[0], batch.draws[0], dataset.mean, dataset.std))


def test_the_mean_per_class_is_held_out_where_it_is_the_metric(spec: Finetune, pets: Dataset, tmp_path: Path) -> None:
    """Protects the choice on Pets, Caltech, Flowers and Aircraft: scikit-learn's balanced accuracy."""
    task = begun(transfer(spec, "pets-stand-in"), pets)
    run(task, tmp_path)
    labels = Beton(pets.beton("valid")).labels[pets.indices("valid")]
    expected = 100 * balanced_accuracy_score(labels, held_out_logits(task, pets).argmax(1))
    assert task.results() == {"finetune.valid.mean_per_class": pytest.approx(expected)}
    task.close()


def test_map11_is_held_out_of_flags(spec: Finetune, voc: Dataset, tmp_path: Path) -> None:
    """Protects the choice on VOC 2007: the 11-point mean of scikit-learn's precisions, without what is difficult."""
    task = begun(transfer(spec, "voc2007-stand-in", steps=20), voc)
    told = run(task, tmp_path)
    losses = [told.reports[step]["finetune.loss"] for step in range(1, 21)]
    assert np.mean(losses[10:]) < np.mean(losses[:5]), "and it learns"
    file, logits = Beton(voc.beton("valid")), held_out_logits(task, voc).double()
    flags = np.stack([decode_labels(file.target(int(position))) for position in voc.indices("valid")])
    found = []
    for own, scores in zip(flags.T, logits.numpy().T, strict=True):
        precision, recall, _ = precision_recall_curve(own[own != DIFFICULT] == PRESENT, scores[own != DIFFICULT])
        reached = [precision[:-1][recall[:-1] >= tenth / 10 - 1e-9] for tenth in range(11)]  # the last names no image
        found.append(np.mean([max(one) for one in reached]))
    assert task.results() == {"finetune.valid.map11": pytest.approx(100 * np.mean(found))}
    task.close()


def test_it_trains_on_its_list_alone(task: Finetuning, digits: Dataset) -> None:
    """Protects the 1 % and 10 % columns: no image outside the list is seen, and over the epochs every one of it is."""
    listed = set(digits.numbers("balanced-10").tolist())
    assert len(listed) == 110
    seen = {int(number) for batch in task.feed(0) for number in batch.images}
    assert seen <= listed
    assert len(seen) > 0.8 * len(listed)


def test_a_resumed_one_ends_as_an_undisturbed_one(spec: Finetune, digits: Dataset, tmp_path: Path) -> None:
    """Protects results from crashes: stopped after any update, network and accuracy are bit for bit equal."""
    resumes(lambda: begun(spec, digits), lambda task, _: task.results(), tmp_path, (1, 4))


def test_the_held_out_accuracy(task: Finetuning, digits: Dataset, tmp_path: Path) -> None:
    """Protects the choice: what is saved scores by hand, on the 200 held-out digits, what the run says it does."""
    run(task, tmp_path)
    results = task.results()
    task.save_network(tmp_path / "network.safetensors")
    again = begun(task.spec, digits)
    again.network.load_state_dict(load_file(tmp_path / "network.safetensors"))
    labels = Beton(digits.beton("valid")).labels[digits.indices("valid")]
    named = held_out_logits(again, digits).argmax(1)
    assert results == {held_out(task.spec): pytest.approx(100 * accuracy_score(labels, named))}


def test_a_loss_that_is_no_number_ends_it(task: Finetuning) -> None:
    """Protects the sweep over learning rates: a candidate that diverges says so at its next report."""
    feed = task.feed(0)
    task.update(0, next(feed))
    task.diagnose()
    task.network.classifier.weight.data.fill_(torch.nan)
    task.update(1, next(feed))
    with pytest.raises(loop.Diverged, match="not finite at update 2"):
        task.diagnose()


def test_a_hopeless_candidate_ends_at_half_time(spec: Finetune, digits: Dataset, tmp_path: Path) -> None:
    """Saves half of what a useless learning rate would cost, only where asked, and ends none that has learned."""
    useless = replace(spec, learning_rate=1e-9, hopeless_points=30.0)
    with pytest.raises(HopelessError, match=r"ended at update 3: \d+\.\d on what was held out, where chance is 10.0"):
        run(begun(useless, digits), tmp_path / "useless")
    unasked = begun(replace(useless, hopeless_points=None), digits)
    run(unasked, tmp_path / "unasked")
    assert unasked.results()[held_out(spec)] < 40
    plain, watched = begun(spec, digits), begun(replace(spec, hopeless_points=0.0), digits)
    assert run(plain, tmp_path / "plain").reports == run(watched, tmp_path / "watched").reports


def test_chance_on_flags(voc: Dataset) -> None:
    """Protects the bar of hopeless candidates on VOC 2007: the share of flags that are set, of those that count."""
    file, counted = Beton(voc.beton("valid")), []
    for position in voc.indices("valid").tolist():
        counted += [flag for flag in decode_labels(file.target(position)).tolist() if flag != 0]
    assert chance(voc, "valid") == pytest.approx(100 * counted.count(1) / len(counted))
    assert 0 < chance(voc, "valid") < 60


def test_too_few_images_for_an_update(spec: Finetune, digits: Dataset) -> None:
    """Protects from a run that trains nothing and scores an initial network."""
    with pytest.raises(ValueError, match="1 epochs of 110 images with a batch of 256 make no update"):
        begun(replace(spec, epochs=1, batch=256), digits)


@pytest.fixture
def listed(digits: Dataset, tmp_path: Path) -> Callable[[Iterable[int]], Dataset]:
    """The digits with a list `own-10` of these numbers, added as a person adds one."""

    def make(numbers: Iterable[int]) -> Dataset:
        shutil.copytree(digits.folder, tmp_path / "digits", dirs_exist_ok=True)
        names = (digits.folder / "names.txt").read_text().splitlines()
        file = tmp_path / "own.txt"
        file.write_text("\n".join(names[number] for number in numbers))
        add_list("digits", tmp_path, "own-10", file, lambda _: None)
        return open_dataset("digits", tmp_path)

    return make


def test_a_list_without_some_classes_is_refused(digits: Dataset, listed: Callable[[Iterable[int]], Dataset]) -> None:
    """Protects from a number that cannot be right: classes nobody was shown are named, with how many they are."""
    stored = Beton(digits.beton("train"))
    own = listed(stored.indices[np.isin(stored.labels, (0, 1, 2, 3, 4, 6))])
    with pytest.raises(DataError, match=r"the list own-10 has no image of 4 of the 10 classes \(5, 7, 8, \.\.\.\)"):
        check_classes(own, "own-10")
    check_classes(digits, "balanced-1")


def test_a_class_that_is_always_difficult_is_shown_by_no_image(voc: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects flags likewise: a class of which no image is a good example is named, and others are not."""
    check_classes(voc, "train")
    made = decode_labels

    def decode(content: bytes) -> Any:
        flags = made(content)
        flags[1], flags[3] = ABSENT, DIFFICULT if flags[3] == PRESENT else flags[3]
        return flags

    monkeypatch.setattr("harness.evaluation.finetune.decode_labels", decode)
    named = ", ".join(voc.manifest.classes[number] for number in (1, 3))
    with pytest.raises(DataError, match=f"the list train has no image of 2 of the 5 classes \\({named}\\)"):
        check_classes(voc, "train")


def scored(dataset: Dataset) -> int:
    """How many held-out images are looked at beside the list."""
    seen = 0

    def count(view: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += len(view)
        return torch.zeros(1, len(view), 10)

    ranks = Ranks.join(2, 2)
    Scorer(dataset, 16, CPU, ranks, 1).scores("valid", 1, count, apart_from="own-10")
    return seen


def test_held_out_images_of_a_list_do_not_choose(digits: Dataset, listed: Callable[[Iterable[int]], Dataset]) -> None:
    """Protects the choice where a list, as SimCLR's, was drawn before anything was held out: the rest is scored."""
    own = listed([*digits.numbers("balanced-1"), *digits.numbers("valid")[:150]])
    assert scored(own) == 50


def test_a_list_of_all_that_was_held_out_is_refused(
    digits: Dataset, listed: Callable[[Iterable[int]], Dataset]
) -> None:
    """Protects from a choice by nothing."""
    with pytest.raises(DataError, match="every image of valid is in own-10 too; none is left to score"):
        scored(listed(digits.numbers("valid")))


def shared(spec: Finetune, digits: Dataset, _folder: Path) -> dict[str, Any]:
    """Two updates, whatever this process's place among the ranks."""
    return updated(begun(spec, digits), Finetuning.results)


@pytest.mark.usefixtures("float64")
def test_two_ranks_make_the_update_of_one(digits: Dataset, spec: Finetune, tmp_path: Path) -> None:
    """Protects numbers from the size of a cluster: batch statistics over the whole batch, every held-out image once."""
    same_on_two_ranks(shared, tmp_path, spec, digits)
