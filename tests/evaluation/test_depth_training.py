"""Depth estimation: its updates against plain torch, that it learns, and that no rank or crash changes it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from steady import resumes, same_on_two_ranks, updated
from told import run
from torch import Tensor

from harness.config.datasets import DATASETS
from harness.config.schema import Depth, SceneData
from harness.data.beton import Beton
from harness.data.dataset import Dataset
from harness.data.depth_frames import CentralFrame, Frames
from harness.data.prepare import open_dataset, prepare
from harness.data.records import decode_depth
from harness.data.scenes import Scenes
from harness.evaluation.depth import DepthTraining, filters
from harness.evaluation.sealed import Seal
from harness.models.depth import FILTERS
from harness.models.norm import BatchNorm
from harness.models.resnet import ResNet
from harness.training import loop
from harness.training.ranks import Ranks

CPU = torch.device("cpu")
STAND_IN = "nyu-depth-stand-in"


@pytest.fixture(scope="module")
def nyu(data: Path) -> Dataset:
    """NYU's generated twin: 30 frames to train on and 10 to test, of which what is bright is near."""
    prepare(STAND_IN, data, lambda _: None)
    return open_dataset(STAND_IN, data)


@pytest.fixture
def spec() -> Depth:
    """The paper's colours, on small frames and batches."""
    return Depth(
        kind="depth",
        evaluation="depth",
        evaluation_version=1,
        subject="0" * 16,
        data=SceneData(
            dataset=STAND_IN, train="train+valid", select="valid", test="test", **DATASETS[STAND_IN].identity()
        ),
        frame=(36, 48),
        crop=(34, 46),
        flip=0.5,
        grayscale=0.3,
        brightness=0.1255,
        saturation=(0.5, 1.5),
        hue=0.2,
        learning_rate=0.02,
        steps=6,
        batch=8,
        momentum=0.9,
        weight_decay=5e-4,
        seed=0,
    )


def begun(spec: Depth, nyu: Dataset) -> DepthTraining:
    """On a fixed random encoder."""
    torch.manual_seed(5)
    return DepthTraining(spec, ResNet("resnet_tiny"), nyu, CPU, Ranks.join(spec.batch, spec.batch), 2)


@pytest.fixture
def task(spec: Depth, nyu: Dataset) -> Iterator[DepthTraining]:
    made = begun(spec, nyu)
    yield made
    made.close()


def plain_loss(predicted: Tensor, depth: Tensor) -> Tensor:
    """The reverse Huber loss on the pixels with a depth."""
    known = depth > 0
    x = (predicted[known] - depth[known]).abs()
    c = x.detach().max() / 5
    return torch.where(x <= c, x, (x**2 + c**2) / (2 * c)).mean()


@pytest.mark.usefixtures("float64")
def test_first_updates_are_those_of_plain_torch(nyu: Dataset, spec: Depth) -> None:
    """Protects the protocol: a constant rate, momentum, decay on weights alone, batch statistics, and depths at pixels
    where one was measured.
    """
    task = begun(replace(spec, weight_decay=1e-2), nyu)
    network = copy.deepcopy(task.network)
    weights, others = ([p for p in network.parameters() if (p.ndim > 1) is more] for more in (True, False))
    groups = [{"params": weights, "weight_decay": 1e-2}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=spec.learning_rate, momentum=0.9, nesterov=True)
    for step, batch in zip(range(3), task.feed(0), strict=False):
        batch.depths[0, :9] = 0
        optimizer.zero_grad()
        loss = plain_loss(network(batch.images(nyu.mean, nyu.std, torch.float64)), batch.depths.double())
        loss.backward()
        optimizer.step()
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.commit()
        task.update(step, batch)
        numbers = task.diagnose()
        assert numbers["loss"] == pytest.approx(float(loss.detach()), rel=1e-12)
        assert numbers["learning_rate"] == spec.learning_rate
    task.close()
    ours = task.network.state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: name + text)


def errors(said: list[np.ndarray], truth: list[np.ndarray]) -> dict[str, float]:
    """The paper's five numbers over all pixels."""
    p, d = (np.concatenate([one.ravel() for one in each]).astype(np.float64) for each in (said, truth))
    ratio = np.maximum(d / p, p / d)
    within = {
        name: 100 * (ratio < 1.25**n).mean() for n, name in enumerate(("pct_1.25", "pct_1.25_2", "pct_1.25_3"), 1)
    }
    return {**within, "rms": np.sqrt(((d - p) ** 2).mean()), "rel": (np.abs(d - p) / d).mean()}


def centres(nyu: Dataset, spec: Depth, split: str) -> list[np.ndarray]:
    """The depths of a split that a network is asked for."""
    scenes = Scenes(nyu, split, 1)
    (found,) = scenes.batches(np.arange(len(scenes)), 100, CentralFrame(spec.frame, spec.crop))
    scenes.close()
    return [one.depth.numpy() for one in found]


def test_it_learns(nyu: Dataset, spec: Depth, tmp_path: Path) -> None:
    """Protects the whole: after 100 updates errors are well below those of the mean depth, which knows the answer's
    scale but nothing of a picture: a third less in rms and rel, a quarter of the pixels beyond 1.25. Depth is
    brightness in these frames, so colours leave it nearly as it is.
    """
    task = begun(replace(spec, steps=100, brightness=0.02, saturation=(0.8, 1.2)), nyu)
    run(task, tmp_path)
    found = task.score(Seal(tmp_path)).results
    task.close()
    truth = centres(nyu, spec, "test")
    mean = np.mean(np.concatenate([one.ravel() for one in centres(nyu, spec, "train+valid")]))
    constant = errors([np.full_like(one, mean) for one in truth], truth)
    assert 100 - found["depth.pct_1.25"] < 0.25 * (100 - constant["pct_1.25"])
    assert found["depth.rms"] < 0.67 * constant["rms"]
    assert found["depth.rel"] < 0.67 * constant["rel"]


def test_the_test(nyu: Dataset, task: DepthTraining, tmp_path: Path) -> None:
    """Protects the table: all five numbers by hand on each test frame's centre, by the running statistics, and the test
    opened for one candidate alone, which is written down.
    """
    run(task, tmp_path)
    scores = task.score(Seal(tmp_path))
    file, network = Beton(nyu.beton("test")), task.network.eval()
    scenes = Scenes(nyu, "test", 1)
    said, truth = [], []
    (frames,) = scenes.batches(np.arange(10), 10, CentralFrame(task.spec.frame, task.spec.crop))
    for frame, position in zip(frames, nyu.indices("test"), strict=True):
        x = frame.pixels.permute(2, 0, 1)[None] / 255
        x = (x - torch.tensor(nyu.mean).view(3, 1, 1)) / torch.tensor(nyu.std).view(3, 1, 1)
        with torch.no_grad():
            said.append(network(x)[0].numpy())
        whole = torch.from_numpy(decode_depth(file.target(int(position))))
        resized = torch.nn.functional.interpolate(whole[None, None], task.spec.frame, mode="nearest-exact")
        truth.append(resized[0, 0, 1:35, 1:47].numpy())
    scenes.close()
    wanted = {f"depth.{name}": value for name, value in errors(said, truth).items()}
    assert scores.results == pytest.approx(wanted, rel=1e-4)
    assert network.training is False
    recorded = json.loads((tmp_path / "selection.json").read_text())
    assert recorded == scores.selection
    assert recorded["candidates"] == ["as printed"]


def test_it_trains_on_its_split_alone(nyu: Dataset, spec: Depth) -> None:
    """Protects the test, and what is held out: no other frame is seen, and over the epochs every one of it is."""
    for split, frames in (("train", 24), ("train+valid", 30)):
        task = begun(replace(spec, data=replace(spec.data, train=split), steps=8), nyu)
        seen = {int(number) for batch in task.feed(0) for number in batch.numbers}
        assert seen == set(nyu.numbers(split).tolist())
        assert len(seen) == frames
        task.close()


def test_a_resumed_one_ends_as_an_undisturbed_one(spec: Depth, nyu: Dataset, tmp_path: Path) -> None:
    """Protects results from crashes: stopped after any update, reports, network and errors are bit for bit equal."""
    resumes(lambda: begun(spec, nyu), on_the_test, tmp_path, (1, 4))


def on_the_test(task: DepthTraining, folder: Path) -> dict[str, float]:
    """Its errors on the test."""
    return task.score(Seal(folder)).results


def test_a_loss_that_is_no_number_ends_it(task: DepthTraining) -> None:
    """Protects a sweep's time: what diverges says so at its next report."""
    feed = task.feed(0)
    task.update(0, next(feed))
    task.diagnose()
    task.network.prediction.weight.data.fill_(torch.nan)
    task.update(1, next(feed))
    with pytest.raises(loop.Diverged, match="not finite at update 2"):
        task.diagnose()


def test_the_decoder_is_as_wide_as_the_encoder() -> None:
    """Protects the paper's 512, 256, 128 and 64 on its ResNet-50; half of them where there are half the features."""
    with torch.device("meta"):
        assert filters(ResNet("resnet50")) == FILTERS == (512, 256, 128, 64)
        assert filters(ResNet("resnet50", 2)) == (1024, 512, 256, 128)
        assert filters(ResNet("resnet_tiny")) == (16, 8, 4, 2)


def shared(spec: Depth, nyu: Dataset, folder: Path) -> dict[str, Any]:
    """Two updates, whatever this process's place among the ranks, and the test."""

    def gaps(batch: Frames) -> None:
        batch.depths[batch.numbers % 3 == 0] = 0  # so that the ranks' shares differ in how many depths they have

    return updated(begun(spec, nyu), lambda task: on_the_test(task, folder), gaps)


@pytest.mark.usefixtures("float64")
def test_two_ranks_make_the_update_of_one(nyu: Dataset, spec: Depth, tmp_path: Path) -> None:
    """Protects numbers from the size of a cluster: statistics, the largest error and the pixels of the whole batch,
    every test frame once.
    """
    same_on_two_ranks(shared, tmp_path, spec, nyu)
