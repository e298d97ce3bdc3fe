"""Segmentation: its first updates against plain torch, its score pixel by pixel, and that it learns from any start."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import jaccard_score
from steady import resumes, same_on_two_ranks, updated
from told import run

from harness.config.datasets import DATASETS
from harness.config.schema import SceneData, Segmentation
from harness.data.beton import Beton
from harness.data.dataset import Dataset
from harness.data.mask_crops import CentralCrop, MaskCrops
from harness.data.plain import decoded
from harness.data.prepare import open_dataset, prepare
from harness.data.records import VOID, decode_mask
from harness.data.scenes import Scenes
from harness.evaluation.segmentation import SegmentationTraining
from harness.models.norm import BatchNorm
from harness.models.resnet import ResNet
from harness.training import loop, preflight
from harness.training.ranks import Ranks

CPU = torch.device("cpu")
NAME = "voc2012-stand-in"
SPEC = Segmentation(
    kind="segmentation",
    evaluation_version=1,
    subject="random",
    data=SceneData(dataset=NAME, train="train", select="valid", test="test", **DATASETS[NAME].identity()),
    crop=33,
    scales=(0.5, 2.0),
    flip=0.5,
    learning_rate=0.1,
    drops=(0.5, 0.75),
    steps=8,
    batch=4,
    momentum=0.9,
    weight_decay=1e-4,
    seed=3,
)


@pytest.fixture(scope="module")
def voc2012(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    directory = tmp_path_factory.mktemp("voc2012")
    prepare(NAME, directory, lambda _: None)
    return open_dataset(NAME, directory)


def begun(dataset: Dataset, **changes: Any) -> SegmentationTraining:
    """Of a fixed random encoder."""
    torch.manual_seed(5)
    spec = replace(SPEC, **changes)
    return SegmentationTraining(spec, ResNet("resnet_tiny"), dataset, CPU, Ranks.join(spec.batch, spec.batch), 1)


@pytest.fixture
def task(voc2012: Dataset) -> Iterator[SegmentationTraining]:
    made = begun(voc2012)
    yield made
    made.close()


@pytest.mark.usefixtures("float64")
def test_first_updates_are_those_of_plain_torch(voc2012: Dataset) -> None:
    """Protects the protocol: a rate of its own for any batch, a tenth of it at each drop, Nesterov's momentum, decay on
    weights alone, batch statistics, void pixels in no loss.
    """
    task = begun(voc2012, weight_decay=1e-2, drops=(0.25, 0.5))
    network = copy.deepcopy(task.network)
    weights, others = ([p for p in network.parameters() if (p.ndim > 1) is more] for more in (True, False))
    groups = [{"params": weights, "weight_decay": 1e-2}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)
    for (step, batch), rate in zip(enumerate(task.feed(0)), (0.1, 0.1, 0.01, 0.01, 0.001), strict=False):
        images = batch.images(voc2012.mean, voc2012.std, torch.float64)
        optimizer.zero_grad()
        said = network(images)
        loss = F.cross_entropy(said, batch.masks.long(), ignore_index=VOID)
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.commit()
        task.update(step, batch)
        numbers = task.diagnose()
        assert numbers["loss"] == pytest.approx(float(loss.detach()), rel=1e-12)
        assert numbers["learning_rate"] == pytest.approx(rate, rel=1e-12)
        classed = batch.masks != VOID
        right = (said.argmax(1)[classed] == batch.masks[classed]).double().mean()
        assert numbers["train_pixels"] == pytest.approx(100 * float(right))
    task.close()
    ours = task.network.state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: name + text)


def test_the_score_is_that_of_central_pixels(task: SegmentationTraining, voc2012: Dataset, tmp_path: Path) -> None:
    """Protects the choice: scikit-learn's Jaccard index of each class, over what lies in the centre and is not void, by
    running statistics, and the network goes on training as it was.
    """
    run(task, tmp_path)
    before = copy.deepcopy(task.network.state_dict())
    results = task.results()
    assert task.network.training
    assert all(torch.equal(value, before[name]) for name, value in task.network.state_dict().items())
    file, said, true = Beton(voc2012.beton("valid")), [], []
    task.network.eval()
    for position in voc2012.indices("valid").tolist():
        pixels, mask = decoded(file, position), decode_mask(file.target(position))
        crop = CentralCrop(SPEC.crop)(0, 0, pixels, file.target(position))
        with torch.no_grad():
            logits = task.network(MaskCrops.of([crop], CPU).images(voc2012.mean, voc2012.std, torch.float32))
        top, left = ((side - SPEC.crop) // 2 for side in mask.shape)
        own = mask[top : top + SPEC.crop, left : left + SPEC.crop]
        said.append(logits[0].argmax(0).numpy()[own != VOID])
        true.append(own[own != VOID])
    classes = np.unique(np.concatenate([*said, *true]))
    expected = jaccard_score(np.concatenate(true), np.concatenate(said), labels=classes, average=None)
    assert results == {"segmentation.valid.miou": pytest.approx(100 * expected.mean(), rel=1e-6)}
    assert set(task.scores("test")) == {"miou"}


def test_it_learns(voc2012: Dataset) -> None:
    """Protects the table from a network that says background everywhere, whose mean IoU is fifteen points lower."""
    learning = begun(voc2012, scales=(0.8, 1.25), steps=60, batch=8, crop=41, learning_rate=0.05, drops=(0.7, 0.9))
    losses = []
    for step, batch in enumerate(learning.feed(0)):
        learning.update(step, batch)
        losses.append(learning.diagnose()["loss"])
    learning.close()
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:20])
    shown = np.zeros(voc2012.classes)
    scenes = Scenes(voc2012, "test", 1)
    for batch in scenes.batches(np.arange(len(scenes)), 10, CentralCrop(41)):
        shown += np.bincount(torch.stack([crop.mask for crop in batch]).flatten(), minlength=256)[: len(shown)]
    scenes.close()
    constant = 100 * shown[0] / shown.sum() / len(shown)
    assert learning.scores("test")["miou"] > constant + 15


def test_a_resumed_one_ends_as_an_undisturbed_one(voc2012: Dataset, tmp_path: Path) -> None:
    """Protects results from crashes: stopped after any update, network and score are bit for bit equal."""
    resumes(lambda: begun(voc2012), lambda task, _: task.results(), tmp_path, (1, 6))


def test_seeds_vary_the_evaluation(voc2012: Dataset) -> None:
    """Protects Table 4a's five seeds of one encoder: another head, other images first, the same encoder."""
    first, other = begun(voc2012), begun(voc2012, seed=4)
    assert torch.equal(first.network.encoder.conv1.weight, other.network.encoder.conv1.weight)
    assert not torch.equal(first.network.classifier.weight, other.network.classifier.weight)
    assert not torch.equal(next(first.feed(0)).numbers, next(other.feed(0)).numbers)
    first.close()
    other.close()


def test_a_loss_that_is_no_number_ends_it(task: SegmentationTraining) -> None:
    """Protects the sweep over learning rates: a candidate that diverges says so at its next report."""
    feed = task.feed(0)
    task.update(0, next(feed))
    task.diagnose()
    task.network.classifier.weight.data.fill_(torch.nan)
    task.update(1, next(feed))
    with pytest.raises(loop.Diverged, match="not finite at update 2"):
        task.diagnose()


def test_an_update_of_other_images_is_refused(task: SegmentationTraining) -> None:
    """Protects from ranks that read the same images, or those of another update."""
    feed = task.feed(0)
    next(feed)
    with pytest.raises(preflight.InvariantError, match="not those of the stream"):
        task.update(0, next(feed))


def shared(voc2012: Dataset, _folder: Path) -> dict[str, Any]:
    """Two updates, whatever this process's place among the ranks."""
    return updated(begun(voc2012), SegmentationTraining.results)


@pytest.mark.usefixtures("float64")
def test_two_ranks_make_the_update_of_one(voc2012: Dataset, tmp_path: Path) -> None:
    """Protects numbers from the size of a cluster: statistics and void pixels over the whole batch, each image scored
    once.
    """
    same_on_two_ranks(shared, tmp_path, voc2012)
