"""Training on labels: its first updates against plain torch, and what it leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from small import supervised

from harness.data.prepare import Dataset
from harness.models.networks import classifier
from harness.models.norm import BatchNorm
from harness.training.ranks import Ranks
from harness.training.supervision import Supervised

CPU = torch.device("cpu")


@pytest.fixture
def task(digits: Dataset) -> Iterator[Supervised]:
    """Updates of 64 in two statistics groups."""
    made = Supervised(supervised(update=64, statistics=32, epochs=2), digits, CPU, Ranks.join(64, 32), 1)
    yield made
    made.close()


@pytest.mark.usefixtures("float64")
def test_first_updates_are_those_of_plain_torch(task: Supervised, digits: Dataset) -> None:
    """Torch's SGD and cross-entropy in a loop by hand: the mean over groups, rates, decay, smoothing, running means."""
    torch.manual_seed(task.spec.seed)
    network = classifier(task.spec.model, digits.classes).double()
    decayed = [p for p in network.parameters() if p.ndim > 1]
    spared = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 1e-2}, {"params": spared, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)
    for step, batch in zip(range(4), task.feed(0), strict=False):
        optimizer.zero_grad()
        losses = []
        for (view,), labels in zip(batch.groups, batch.labels.split(32), strict=True):
            losses.append(F.cross_entropy(network(view), labels, label_smoothing=0.1))
        (sum(losses) / 2).backward()
        for group in optimizer.param_groups:
            group["lr"] = 64 / 256 * (1 + math.cos(math.pi * step / (2 * 1297 // 64))) / 2
        optimizer.step()
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.commit()
        task.update(step, batch)
        assert task.diagnose()["loss"] == pytest.approx(float(sum(losses)) / 2, rel=1e-12)
    ours = task.state.network.state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: name + text)


def test_what_is_saved_is_the_encoder(task: Supervised, tmp_path: Path) -> None:
    """Evaluations get the encoder under its own names, and no part of the classifier."""
    task.save_encoder(tmp_path / "encoder.safetensors")
    saved, encoder = load_file(tmp_path / "encoder.safetensors"), task.state.network.encoder.state_dict()
    assert saved.keys() == encoder.keys()
    assert all(torch.equal(saved[name], encoder[name]) for name in saved)


def test_logits_are_of_the_running_statistics(task: Supervised) -> None:
    """An image is named whatever else is in its batch, and training goes on with batch statistics afterwards."""
    feed = task.feed(0)
    for step in range(2):
        task.update(step, next(feed))
    (view,) = next(feed).groups[0]
    torch.testing.assert_close(task.logits(view)[:1], task.logits(view[:1]), rtol=1e-4, atol=1e-5)
    assert task.state.network.training
    assert all(module.pending is None for module in task.state.network.modules() if isinstance(module, BatchNorm))


def test_diagnostics(task: Supervised) -> None:
    """The share named rightly is that of the update's images; results are means of the last reports."""
    reports = []
    for step, batch in zip(range(7), task.feed(0), strict=False):
        before = [task.state.network(view).argmax(1) for (view,) in batch.groups]
        for module in task.state.network.modules():
            if isinstance(module, BatchNorm):
                module.pending, module.forwards = None, 0
        task.update(step, batch)
        reports.append(task.diagnose())
        rightly = (torch.cat(before) == batch.labels).double().mean()
        assert reports[-1]["train_top1"] == pytest.approx(100 * float(rightly))
    assert task.results() == {
        f"pretrain.{name}": pytest.approx(sum(one[name] for one in reports[-5:]) / 5) for name in ("loss", "train_top1")
    }
    assert task.flags() == {}
