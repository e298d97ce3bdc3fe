"""Training detection: updates against plain torch, what is drawn, its test; and that no rank or crash changes it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from steady import resumes, same_on_two_ranks, updated
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from harness.config.datasets import DATASETS
from harness.config.schema import Detection, SceneData
from harness.data.beton import Beton
from harness.data.dataset import Dataset
from harness.data.prepare import open_dataset, prepare
from harness.data.records import decode_boxes
from harness.evaluation.detection import LOSSES, DetectionTraining, Example, longest_edge
from harness.evaluation.detections import BoxTally
from harness.evaluation.sealed import Seal
from harness.models.detection import Detections
from harness.models.norm import norms
from harness.models.resnet import ResNet
from harness.training import loop
from harness.training.ranks import Ranks

CPU = torch.device("cpu")
NAME = "voc2007-boxes-stand-in"


@pytest.fixture(scope="module")
def scenes(data: Path) -> Dataset:
    """VOC 2007's generated twin with boxes: 150 images to train on, 50 to test on."""
    prepare(NAME, data, lambda _: None)
    return open_dataset(NAME, data)


@pytest.fixture
def spec() -> Detection:
    """Four updates of two images of some 32 pixels, the last at a tenth of the learning rate."""
    facts = SceneData(dataset=NAME, train="train+valid", select="valid", test="test", **DATASETS[NAME].identity())
    return Detection(
        kind="detection",
        evaluation="detection",
        evaluation_version=1,
        subject="encoder",
        data=facts,
        edges=(24, 40),
        test_edge=32,
        anchors=(8, 16),
        samples=32,
        frozen=False,
        learning_rate=0.01,
        warmup_steps=2,
        drops=(0.75,),
        steps=4,
        batch=2,
        momentum=0.9,
        weight_decay=1e-2,
        seed=3,
    )


def begun(spec: Detection, scenes: Dataset) -> DetectionTraining:
    """A detection on a fixed random encoder."""
    torch.manual_seed(5)
    return DetectionTraining(spec, ResNet("resnet_tiny"), scenes, CPU, Ranks.join(spec.batch, 1), 1)


@pytest.fixture
def task(spec: Detection, scenes: Dataset) -> Iterator[DetectionTraining]:
    made = begun(spec, scenes)
    yield made
    made.close()


def normalised(pixels: Tensor, scenes: Dataset) -> Tensor:
    """(H, W, 3) in uint8 to what a network sees."""
    colour = (pixels.double() / 255 - torch.tensor(scenes.mean)) / torch.tensor(scenes.std)
    return colour.permute(2, 0, 1)


@pytest.mark.usefixtures("float64")
def test_the_updates_are_those_of_plain_torch(spec: Detection, scenes: Dataset) -> None:
    """Protects the protocol: images apart and their losses averaged, all objects trained on, Nesterov's momentum, decay
    on weights alone, the learning rate not scaled by the batch, warmed up, and dropped.
    """
    task = begun(spec, scenes)
    network = copy.deepcopy(task.network)
    weights, others = ([p for p in network.parameters() if (p.ndim > 1) is more] for more in (True, False))
    groups = [{"params": weights, "weight_decay": 1e-2}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)
    for step, (batch, rate) in enumerate(zip(task.feed(0), (0.0, 0.005, 0.01, 0.001), strict=True)):
        total = torch.zeros(())
        for example in batch:
            boxes, classes = example.objects[:, :4], example.objects[:, 4]
            torch.manual_seed(example.seed)
            losses = network.losses([normalised(example.pixels, scenes)], [example.edge], [boxes], [classes])
            total = total + sum(losses.values()) / 2
        optimizer.zero_grad()
        total.backward()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        task.update(step, batch)
        numbers = task.diagnose()
        assert numbers["loss"] == pytest.approx(float(total.detach()), rel=1e-7)
        assert numbers["loss"] == pytest.approx(sum(numbers[name] for name in LOSSES), rel=1e-7)
        assert numbers["learning_rate"] == pytest.approx(rate)
    assert step == 3
    task.close()
    ours = task.network.state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-8, msg=lambda text, name=name: name + text)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 2000), st.integers(0, 2000))
def test_an_edge_lies_between_the_two(u: float, low: int, more: int) -> None:
    """Protects against an off-by-one at either end."""
    assert low <= longest_edge(u, (low, low + more)) <= low + more


def test_every_edge_is_as_likely() -> None:
    """Both ends included: equal parts of [0, 1) for each of the 545 edges from 480 to 1024."""
    drawn = [longest_edge((i + 0.5) / 5450, (480, 1024)) for i in range(5450)]
    assert np.bincount(drawn)[480:].tolist() == [10] * 545


def seen(spec: Detection, scenes: Dataset) -> list[Example]:
    """All that is trained on."""
    task = begun(spec, scenes)
    examples = [example for batch in task.feed(0) for example in batch]
    task.close()
    return examples


def test_images_come_whole_with_their_objects(spec: Detection, scenes: Dataset) -> None:
    """Protects "no other augmentation": every image of trainval once an epoch, as decoded, difficult objects too; its
    size changes from epoch to epoch.
    """
    examples = seen(replace(spec, steps=150), scenes)
    numbers = [example.number for example in examples]
    assert sorted(numbers[:150]) == sorted(numbers[150:]) == sorted(scenes.numbers("train+valid").tolist())
    file = Beton(scenes.beton("train"))
    difficult = 0
    for example in examples[:20]:
        at = int(np.searchsorted(file.indices, example.number))
        jpeg = decode_jpeg(torch.from_numpy(file.image(at).copy()), mode=ImageReadMode.RGB)
        assert torch.equal(example.pixels, jpeg.permute(1, 2, 0))
        assert np.array_equal(example.objects.numpy(), decode_boxes(file.target(at)))
        difficult += int(example.objects[:, 5].sum())
    assert difficult
    edges = np.array([example.edge for example in examples])
    assert set(edges.tolist()) == set(range(24, 41))
    assert edges.mean() == pytest.approx(32, abs=1)
    first, second = ({e.number: (e.edge, e.seed) for e in part} for part in (examples[:150], examples[150:]))
    assert len({*first.values(), *second.values()}) == 300, "nothing is drawn twice"


def test_what_is_drawn_is_the_images_own(spec: Detection, scenes: Dataset) -> None:
    """Protects ranks and resumption: batches of another size draw the same for an image, another seed does not."""
    drawn, other, reseeded = (
        {e.number: (e.edge, e.seed) for e in seen(one, scenes)}
        for one in (spec, replace(spec, batch=8, steps=1), replace(spec, seed=4, steps=75))
    )
    assert drawn == other
    assert all(reseeded[number][1] != pair[1] for number, pair in drawn.items())


def test_a_resumed_one_ends_as_an_undisturbed_one(spec: Detection, scenes: Dataset, tmp_path: Path) -> None:
    """Protects results from crashes: stopped after any update, reports and network are bit for bit equal."""
    resumes(lambda: begun(spec, scenes), lambda *_: None, tmp_path, (1, 3))


def test_a_frozen_representation(spec: Detection, scenes: Dataset) -> None:
    """Protects the appendix's variant: what comes before the last stage stays, and nothing else does."""
    task = begun(replace(spec, frozen=True), scenes)
    before = copy.deepcopy(task.network.state_dict())
    for step, batch in enumerate(task.feed(0)):
        task.update(step, batch)
    task.close()
    stayed = {name for name, value in task.network.state_dict().items() if torch.equal(value, before[name])}
    statistics = {name for name in before if "running" in name}
    trunk = {name for name in before if name.startswith("encoder.") and not name.startswith("encoder.layer3")}
    assert stayed == trunk | statistics


def test_a_loss_that_is_no_number_ends_it(task: DetectionTraining) -> None:
    """Protects the sweep: a detection that diverges says so at its next report, and torchvision's parts bear it."""
    feed = task.feed(0)
    task.update(0, next(feed))
    task.diagnose()
    task.network.encoder.conv1.weight.data.fill_(torch.nan)
    task.update(1, next(feed))
    with pytest.raises(loop.Diverged, match="not finite at update 2"):
        task.diagnose()


def truths(scenes: Dataset) -> list[tuple[tuple[int, ...], Tensor]]:
    """Sizes of the test images, as a network is given them, and their objects."""
    file = Beton(scenes.beton("test"))
    return [
        ((3, int(file.heights[at]), int(file.widths[at])), torch.from_numpy(decode_boxes(file.target(at))))
        for at in scenes.indices("test").tolist()
    ]


def test_the_truth_said_again_is_perfect(
    task: DetectionTraining, scenes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the test: all of test2007, each image beside its own objects, at the size asked for, behind the seal."""
    left = iter(truths(scenes))

    def said(images: list[Tensor], longest: list[int]) -> list[Detections]:
        size, objects = next(left)
        assert (longest, not task.network.training) == ([32], True)
        assert images[0].shape == size
        return [Detections(objects[:, :4].float(), torch.ones(len(objects)), objects[:, 4].long())]

    monkeypatch.setattr(task.network, "detections", said)
    scores = task.score(Seal(tmp_path))
    assert scores.results == {"detection.ap50": pytest.approx(100)}
    assert scores.selection["chosen"] == "as printed"
    assert next(left, None) is None


def constant(scenes: Dataset, tally: BoxTally) -> float:
    """AP50 of the mean box of the training images, as a part of the image, said of every class in every image."""
    file, share = Beton(scenes.beton("train")), []
    for at in range(len(file)):
        objects, (height, width) = decode_boxes(file.target(at))[:, :4], (file.heights[at], file.widths[at])
        share.append(objects / np.array([width, height, width, height]))
    mean = torch.from_numpy(np.concatenate(share).mean(0))
    for row, ((_, height, width), objects) in enumerate(truths(scenes)):
        boxes = (mean * torch.tensor([width, height, width, height])).expand(scenes.classes, 4)
        tally.add(row, boxes, torch.ones(scenes.classes), torch.arange(scenes.classes), objects)
    return tally.results()["ap50"]


def calibrated(scenes: Dataset) -> ResNet:
    """A random encoder whose batch norms have the statistics of some images, as pretraining leaves them."""
    torch.manual_seed(0)
    encoder, file = ResNet("resnet_tiny"), Beton(scenes.beton("train"))
    images = [decode_jpeg(torch.from_numpy(file.image(at).copy()), mode=ImageReadMode.RGB) for at in range(32)]
    views = torch.stack([normalised(image[:, :60, :60].permute(1, 2, 0), scenes).float() for image in images])
    for norm in norms(encoder):
        norm.momentum = 1.0
    encoder.train()(views)
    for norm in norms(encoder):
        norm.commit()
    return encoder


def test_it_learns(spec: Detection, scenes: Dataset, tmp_path: Path) -> None:
    """Protects the whole: from small images, four epochs, it finds far more than the mean box said everywhere."""
    more = replace(spec, edges=(32, 48), test_edge=40, anchors=(12, 24), learning_rate=0.03, drops=(0.9,))
    more = replace(more, warmup_steps=20, steps=150, batch=4, weight_decay=1e-4)
    task = DetectionTraining(more, calibrated(scenes), scenes, CPU, Ranks.join(4, 1), 1)
    for step, batch in enumerate(task.feed(0)):
        task.update(step, batch)
    found = task.score(Seal(tmp_path)).results["detection.ap50"]
    task.close()
    mean_box = constant(scenes, BoxTally(50, 5, scenes.classes, CPU))
    assert mean_box < 3
    assert found > mean_box + 5


def shared(spec: Detection, scenes: Dataset, _folder: Path) -> dict[str, Any]:
    """Two updates, whatever this process's place among the ranks, and the test."""
    task = begun(spec, scenes)
    task.network.regions.score_thresh = 0.0  # so that the test finds more than nothing
    task.network.proposals._post_nms_top_n["testing"] = 20  # and not too much for a test of the test
    found = updated(task, DetectionTraining._tested)
    assert found["numbers"]["ap50"] > 0
    return found


@pytest.mark.usefixtures("float64")
def test_two_ranks_make_the_update_of_one(spec: Detection, scenes: Dataset, tmp_path: Path) -> None:
    """Protects numbers from the size of a cluster: the same anchors, regions and mean loss, every test image once."""
    same_on_two_ranks(shared, tmp_path, replace(spec, batch=4, warmup_steps=0), scenes, exact=1e-6)
