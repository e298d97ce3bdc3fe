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
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import top_k_accuracy_score
from torch import Tensor, nn

from harness.config.datasets import DATASETS
from harness.config.expand import expand
from harness.config.schema import Linear, Pretrain
from harness.data import augment
from harness.data.beton import Beton
from harness.data.draws import centre, draw
from harness.data.prepare import Dataset
from harness.data.stream import Stream
from harness.evaluation import linear, metrics, scoring
from harness.evaluation.linear import LinearEvaluation, classification_losses, frozen, in_bfloat16
from harness.evaluation.sealed import Seal, SealError, Selection
from harness.models.resnet import ResNet
from harness.training import loop
from harness.training.checkpoint import Checkpoints
from harness.training.ranks import Ranks

CPU = torch.device("cpu")
PROTOCOLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped": {"logit_clip": 2.0},
    "penalised": {"logit_penalty": 0.05},
    "both": {"logit_clip": 2.0, "logit_penalty": 0.05},
}


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

    def stopping(self) -> bool:
        return False


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
        loop.Training(
            task,
            checkpoints=Checkpoints(folder),
            device=CPU,
            observer=observer,
            cadence=loop.Cadence(),
            ranks=task.ranks,
        )
    )
    return observer


def written_out(logits: Tensor, labels: Tensor, logit_clip: float = math.inf, logit_penalty: float = 0.0) -> Tensor:
    """Table 7's loss from its definition: cross-entropy of the clipped logits, and the penalty on their squares."""
    clipped = logits
    if math.isfinite(logit_clip):
        rise, fall = torch.exp(logits / logit_clip), torch.exp(-logits / logit_clip)
        clipped = logit_clip * (rise - fall) / (rise + fall)
    likelihood = torch.log(torch.exp(clipped).sum(1)) - clipped[torch.arange(len(labels)), labels]
    return likelihood.mean() + logit_penalty * (clipped**2).sum() / clipped.numel()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_heads_in_one_pass_are_separate_trainings(spec: Linear, digits: Dataset, protocol: str) -> None:
    """Five heads in one pass end where five loops of plain torch end: Nesterov SGD, cosine from lr * batch / 256."""
    spec = replace(spec, **PROTOCOLS[protocol])
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
            written_out(alone(features), labels, **PROTOCOLS[protocol]).backward()
            optimizer.step()
        torch.testing.assert_close(head.weight, alone.weight, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(head.bias, alone.bias, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_loss_of_table_7(spec: Linear, protocol: str) -> None:
    """Each head's loss is the written-out one, on logits far into the clip too, and its gradient the numerical one."""
    spec = replace(spec, **PROTOCOLS[protocol])
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(3, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 7, (5,), generator=generator)
    losses = classification_losses(logits, labels, spec)
    expected = torch.stack([written_out(head, labels, **PROTOCOLS[protocol]) for head in logits])
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(lambda given: classification_losses(given, labels, spec), logits)


def test_it_reaches_logistic_regression(spec: Linear, digits: Dataset) -> None:
    """On fixed features, the digits' own 64 pixels, it comes within half a point of scikit-learn."""
    task = begun(replace(spec, epochs=80), digits)
    task.close()
    pixels, labels = load_digits(return_X_y=True)
    parts = {split: digits.numbers(split) for split in ("train", "valid", "test")}
    features, truth = torch.from_numpy(pixels / 16).float(), torch.from_numpy(labels)
    stream = Stream(len(parts["train"]), seed=0)
    for step in range(task.total):
        rows = parts["train"][stream.locate(np.arange(128 * step, 128 * (step + 1)))[1]]
        task.update(step, (features[rows], truth[rows]))

    def top1(split: str) -> list[float]:
        with torch.no_grad():
            logits = torch.stack([head(features[parts[split]]) for head in task.heads])
        return [100 * float(each.double().mean()) for each in metrics.hits(logits, truth[parts[split]])[..., 0]]

    theirs = [
        LogisticRegression(C=strength, max_iter=2000).fit(pixels[parts["train"]] / 16, labels[parts["train"]])
        for strength in (0.1, 1.0, 10.0, 100.0)
    ]
    best = max(theirs, key=lambda model: model.score(pixels[parts["valid"]] / 16, labels[parts["valid"]]))
    ours = top1("test")[int(np.argmax(top1("valid")))]
    assert ours >= 100 * best.score(pixels[parts["test"]] / 16, labels[parts["test"]]) - 0.5


def test_heads_start_equal_from_the_seed(spec: Linear, digits: Dataset) -> None:
    """Heads differ by their learning rate alone; another seed is another start."""
    one, again = begun(spec, digits), begun(replace(spec, seed=spec.seed + 1), digits)
    for task in (one, again):
        task.close()
        assert all(torch.equal(head.weight, task.heads[0].weight) for head in task.heads)
    assert not torch.equal(one.heads[0].weight, again.heads[0].weight)


@pytest.mark.parametrize("changed", [False, True])
def test_what_training_sees(digits: Dataset, changed: bool) -> None:
    """Crop and flip alone, or all of pretraining's T, drawn as pretraining draws it, cropped as the evaluation is."""
    table, cell = ("7", "r50x1_aug") if changed else ("5b", "byol")
    member = expand(table, "laptop", 1, cell).members[0]
    assert isinstance(member.evaluation, Linear)
    assert isinstance(member.subject, Pretrain)
    task = begun(member.evaluation, digits)
    features, labels = next(task.feed(0))
    task.close()
    spec, pretraining = member.evaluation, member.subject.data.views.first
    view = replace(pretraining, crop_area=spec.data.crop_area, flip=spec.data.flip)
    if not changed:
        view = replace(view, jitter=0.0, grayscale=0.0, blur=0.0, solarize=0.0)
    indices, beton = digits.indices("train"), Beton(digits.beton("train"))
    epoch, offsets = Stream(len(indices), spec.seed).locate(np.arange(spec.batch))
    chosen = indices[offsets]
    pixels = torch.from_numpy(beton.pixels(chosen))
    sides = {name: np.full(spec.batch, side) for name, side in zip(("height", "width"), pixels.shape[1:3], strict=True)}
    draws = draw(view, seed=spec.seed, epoch=epoch, index=chosen, view_number=0, **sides)
    assert bool(draws.jitter.any()) == changed
    crops = augment.crop(pixels, draws, spec.data.image_size)
    views = augment.views(crops, draws, digits.mean, digits.std)
    assert torch.equal(labels, torch.from_numpy(beton.labels[chosen]))
    torch.testing.assert_close(features, frozen(encoder().eval(), views), rtol=1e-5, atol=1e-5)


def test_a_gpu_computes_features_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder alone, and on a GPU alone: what the heads get is single precision, near to what a CPU gives them."""
    assert in_bfloat16(torch.device("cuda", 1))
    assert not in_bfloat16(CPU)
    net, view = encoder().eval(), torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    exact = frozen(net, view)
    seen: set[torch.dtype] = set()
    net.conv1.register_forward_hook(lambda _module, _given, out: seen.add(out.dtype))
    monkeypatch.setattr(linear, "in_bfloat16", lambda _device: True)
    features = frozen(net, view)
    assert seen == {torch.bfloat16}
    assert features.dtype == torch.float32
    assert not torch.equal(features, exact)
    torch.testing.assert_close(features, exact, rtol=0.05, atol=0.05 * float(exact.abs().max()))


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
