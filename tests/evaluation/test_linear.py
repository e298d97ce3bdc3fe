"""The linear evaluation: its heads against plain torch, its scores against scikit-learn, its seal, its encoder."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from torch import Tensor, nn

from harness.config.datasets import DATASETS
from harness.config.schema import Linear
from harness.data import augment
from harness.data.beton import Beton
from harness.data.draws import centre
from harness.data.prepare import Dataset
from harness.evaluation import scoring
from harness.evaluation.linear import LinearEvaluation
from harness.evaluation.sealed import Seal, SealError, Selection
from harness.models.resnet import ResNet
from harness.training import loop
from harness.training.checkpoint import Checkpoints
from harness.training.ranks import Ranks

CPU = torch.device("cpu")


class Silent:
    """An observer that only keeps the reports."""

    def __init__(self) -> None:
        self.reports: list[dict[str, float]] = []

    def resumed(self, step: int) -> None:
        """Nothing to forget."""

    def report(self, step: int, metrics: dict[str, float]) -> None:
        self.reports.append(metrics)

    def progress(self, progress: loop.Progress) -> None:
        """Nobody watches."""


def encoder() -> ResNet:
    """A random one, whose running statistics are not the trivial ones."""
    torch.manual_seed(0)
    made = ResNet("resnet_tiny")
    for name, buffer in made.named_buffers():
        buffer.uniform_(0.5, 1.5) if name.endswith("var") else buffer.normal_(0, 0.1)
    return made


def begun(spec: Linear, digits: Dataset) -> LinearEvaluation:
    """An evaluation before its first update."""
    return LinearEvaluation(spec, encoder(), digits, CPU, Ranks.split(spec.batch), 1)


@pytest.fixture
def trained(spec: Linear, digits: Dataset, tmp_path: Path) -> Iterator[LinearEvaluation]:
    """One that has made its updates."""
    task = begun(spec, digits)
    run(task, tmp_path / "checkpoints")
    yield task
    task.close()


def run(task: LinearEvaluation, folder: Path) -> Silent:
    """All its updates."""
    observer = Silent()
    loop.run(
        task,
        checkpoints=Checkpoints(folder),
        device=CPU,
        observer=observer,
        cadence=loop.Cadence(),
        ranks=task.ranks,
    )
    return observer


@pytest.mark.usefixtures("float64")
def test_heads_in_one_pass_are_separate_trainings(spec: Linear, digits: Dataset) -> None:
    """Five heads in one pass end where five loops of plain torch end: Nesterov SGD, cosine from lr * batch / 256."""
    together = begun(spec, digits)
    together.close()
    generator = torch.Generator().manual_seed(1)
    batches = [
        (torch.randn(128, 64, generator=generator), torch.randint(0, 10, (128,), generator=generator))
        for _ in range(together.total)
    ]
    initial = copy.deepcopy(together.heads[0].state_dict())
    for step, batch in enumerate(batches):
        together.update(step, batch)
    for rate, head in zip(spec.learning_rates, together.heads, strict=True):
        alone = nn.Linear(64, 10)
        alone.load_state_dict(initial)
        optimizer = torch.optim.SGD(alone.parameters(), momentum=0.9, nesterov=True)
        for step, (features, labels) in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = rate * 128 / 256 * (math.cos(math.pi * step / len(batches)) + 1) / 2
            optimizer.zero_grad()
            nn.functional.cross_entropy(alone(features), labels).backward()
            optimizer.step()
        torch.testing.assert_close(head.weight, alone.weight, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(head.bias, alone.bias, rtol=1e-10, atol=1e-12)


def test_heads_start_equal_from_the_seed(spec: Linear, digits: Dataset) -> None:
    """Heads differ by their learning rate alone; another seed is another start."""
    one, again = begun(spec, digits), begun(replace(spec, seed=spec.seed + 1), digits)
    for task in (one, again):
        task.close()
        assert all(torch.equal(head.weight, task.heads[0].weight) for head in task.heads)
    assert not torch.equal(one.heads[0].weight, again.heads[0].weight)


def features_of(split: str, digits: Dataset, network: ResNet, size: int) -> tuple[Tensor, np.ndarray]:
    """Features and labels of a split's centre crops, read without the loader."""
    beton, indices = Beton(digits.beton(split)), digits.indices(split)
    pixels, facts = torch.from_numpy(beton.pixels(indices)), DATASETS["digits"]
    height, width = (np.full(len(indices), side) for side in pixels.shape[1:3])
    draws = centre(height, width)
    view = augment.views(augment.crop(pixels, draws, size), draws, facts.mean, facts.std)
    with torch.no_grad():
        return network.eval()(view), beton.labels[indices]


def test_the_held_out_split_chooses_and_the_test_split_scores(
    trained: LinearEvaluation, digits: Dataset, tmp_path: Path
) -> None:
    """The head that scikit-learn finds best on `valid` is reported with what scikit-learn finds for it on `test`."""
    accuracy: dict[str, list[tuple[float, float]]] = {}
    for split in ("valid", "test"):
        features, labels = features_of(split, digits, encoder(), trained.spec.data.image_size)
        logits = [head(features).detach().numpy() for head in trained.heads]
        accuracy[split] = [
            tuple(100 * float(top_k_accuracy_score(labels, one, k=k, labels=range(10))) for k in (1, 5))
            for one in logits
        ]
    scores = trained.score(Seal(tmp_path))
    best = max(range(5), key=lambda i: (accuracy["valid"][i][0], -i))
    assert scores.selection["scores"] == pytest.approx([top1 for top1, _ in accuracy["valid"]])
    assert scores.selection["chosen"] == f"learning_rate={trained.spec.learning_rates[best]}"
    assert scores.results == {
        "linear_imagenet.top1": pytest.approx(accuracy["test"][best][0]),
        "linear_imagenet.top5": pytest.approx(accuracy["test"][best][1]),
    }


def test_the_test_split_is_not_touched_before_the_choice_is_on_disk(
    trained: LinearEvaluation, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spy in the loader's place sees the test file opened once, and `selection.json` there by then."""
    opened: list[tuple[str, bool]] = []

    class Spy(scoring.Loader):
        def __init__(self, beton: Path, *rest: Any) -> None:
            opened.append((beton.name, (tmp_path / "selection.json").exists()))
            super().__init__(beton, *rest)

    monkeypatch.setattr(scoring, "Loader", Spy)
    trained.score(Seal(tmp_path))
    assert opened == [("train.beton", False), ("test.beton", True)]


def test_against_another_recorded_choice_the_test_split_stays_closed(
    trained: LinearEvaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation that would now choose differently ends, without a look at the test split."""
    Seal(tmp_path).record(Selection(metric="m", candidates=("x",), scores=(1.0,)))
    opened: list[str] = []

    class Spy(scoring.Loader):
        def __init__(self, beton: Path, *rest: Any) -> None:
            opened.append(beton.name)
            super().__init__(beton, *rest)

    monkeypatch.setattr(scoring, "Loader", Spy)
    with pytest.raises(SealError):
        trained.score(Seal(tmp_path))
    assert opened == ["train.beton"]


def test_scoring_again_after_a_crash_gives_the_same(spec: Linear, digits: Dataset, tmp_path: Path) -> None:
    """From the last checkpoint the same choice is made, so its seal opens, and the results are the same."""
    first, again = begun(spec, digits), begun(spec, digits)
    run(first, tmp_path / "checkpoints")
    before = first.score(Seal(tmp_path))
    run(again, tmp_path / "checkpoints")
    assert again.score(Seal(tmp_path)) == before
    first.close()
    again.close()


def test_the_encoder_is_frozen(spec: Linear, digits: Dataset, tmp_path: Path) -> None:
    """Features come in eval mode, and neither training nor scoring moves a weight or a running statistic."""
    before = encoder().state_dict()
    task = begun(spec, digits)
    modes: set[bool] = set()
    task.encoder.register_forward_hook(lambda module, *_: modes.update(m.training for m in module.modules()))
    run(task, tmp_path / "checkpoints")
    task.score(Seal(tmp_path))
    task.close()
    assert modes == {False}
    after = task.encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in task.encoder.parameters())


def test_a_diverged_head_leaves_the_others_alone(spec: Linear, digits: Dataset, tmp_path: Path) -> None:
    """A learning rate that blows up is reported past, scores nothing, and is not chosen."""
    task = begun(replace(spec, learning_rates=(1e38, 0.1)), digits)
    observer = run(task, tmp_path / "checkpoints")
    assert not torch.isfinite(task.heads[0].weight).all()
    assert torch.isfinite(task.heads[1].weight).all()
    assert all(math.isfinite(report["linear.loss"]) for report in observer.reports)
    scores = task.score(Seal(tmp_path))
    assert scores.selection["chosen"] == "learning_rate=0.1"
    assert json.loads((tmp_path / "selection.json").read_text())["scores"][0] == 0
    task.close()


def test_when_every_head_diverges_so_does_the_evaluation(spec: Linear, digits: Dataset, tmp_path: Path) -> None:
    """The outcome names the update it was seen at."""
    task = begun(replace(spec, learning_rates=(1e38, 2e38)), digits)
    with pytest.raises(loop.Diverged) as end:
        run(task, tmp_path / "checkpoints")
    task.close()
    assert 1 <= end.value.step <= task.total
    assert str(end.value.step) in str(end.value)
