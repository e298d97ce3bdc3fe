"""The paper's linear evaluation: a linear layer on frozen features for each learning rate, trained in one pass.

With the two changes of Table 7, each alone or both: the views of pretraining, and a loss that holds the logits small,
    cross_entropy(tclip(x), y) + beta * average(tclip(x)^2),  tclip(x) = a * tanh(x / a).
tclip keeps the order of the logits, so that it decides nothing where accuracy is measured, and is left out there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.config.schema import Linear, LinearData, View
from harness.data import augment
from harness.data.batch import Batch, Integers
from harness.data.draws import Draws, crop_flip, draw
from harness.data.loader import Loader
from harness.data.prepare import Dataset
from harness.data.stream import Stream
from harness.evaluation.scoring import Scorer
from harness.evaluation.sealed import Seal, Selection
from harness.models.initial import initialise
from harness.models.resnet import ResNet
from harness.optim.schedules import cosine, peak_learning_rate, total_updates
from harness.training.loop import Diverged
from harness.training.ranks import Ranks

CHUNK_IMAGES = 1 << 16


@dataclass(frozen=True)
class Scores:
    """What an evaluation found: results by metric name, and the record of the choice behind them."""

    results: dict[str, float]
    selection: dict[str, object]


class LinearEvaluation:
    """All heads see the same features of the same views; each has its own learning rate and nothing else of its own."""

    name = "linear"

    def __init__(
        self,
        spec: Linear,
        encoder: ResNet,
        dataset: Dataset,
        device: torch.device,
        ranks: Ranks,
        threads: int,
    ) -> None:
        self.spec, self.device, self.ranks = spec, device, ranks
        self._dataset, self._threads = dataset, threads
        self._indices = dataset.indices(spec.data.train)
        self._stream = Stream(len(self._indices), spec.seed)
        self._view = training_view(spec.data)
        self.total = total_updates(spec.epochs, len(self._indices), spec.batch)
        self.encoder = encoder.to(device).eval().requires_grad_(False)
        torch.manual_seed(spec.seed)
        first = nn.Linear(encoder.features, dataset.classes)
        initialise(first)  # as the release's classifier
        self.heads = [nn.Linear(encoder.features, dataset.classes).to(device) for _ in spec.learning_rates]
        for head in self.heads:  # the heads differ by their learning rate alone
            head.load_state_dict(first.state_dict())
        groups = [{"params": list(head.parameters()), "lr": 0.0} for head in self.heads]
        self.optimizer: torch.optim.Optimizer
        if spec.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(groups, momentum=spec.momentum, nesterov=True)
        else:
            self.optimizer = torch.optim.Adam(groups, betas=(spec.momentum, 0.999))
        size = spec.data.image_size
        self._loader = Loader(dataset.beton(spec.data.train), ranks.plan.microbatch, size, threads, device)
        self._scorer = Scorer(dataset, size, device, ranks, threads)
        self._last: tuple[int, Tensor] | None = None  # the update just made, and the loss of each head

    def feed(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        plan = self.ranks.plan
        chunk = max(1, CHUNK_IMAGES // plan.microbatch)
        for start in range(first, self.total, chunk):
            stop = min(start + chunk, self.total)
            epochs, offsets = self._stream.locate(plan.positions(start, stop))
            batches = self._loader.batches(self._indices[offsets], functools.partial(self._draws, epochs))
            for batch in batches:
                yield self._features(batch), batch.label

    def _draws(self, epochs: Integers, part: range, index: Integers, height: Integers, width: Integers) -> tuple[Draws]:
        """The training view of the images at `part` of a chunk."""
        epoch, seed = epochs[part.start : part.stop], self.spec.seed
        view = draw(self._view, seed=seed, epoch=epoch, index=index, view_number=0, height=height, width=width)
        return (view,)

    def _features(self, batch: Batch) -> Tensor:
        data = self._dataset
        return frozen(self.encoder, augment.views(batch.crops[0], batch.draws[0], data.mean, data.std, self._threads))

    @staticmethod
    def _logits(features: Tensor, heads: list[nn.Linear]) -> Tensor:
        """(heads, B, classes) in one matrix product."""
        weight = torch.cat([head.weight for head in heads])
        bias = torch.cat([head.bias for head in heads])
        return F.linear(features, weight, bias).view(len(features), len(heads), -1).transpose(0, 1)

    def update(self, step: int, batch: tuple[Tensor, Tensor]) -> None:
        features, labels = batch
        self.optimizer.zero_grad(set_to_none=True)
        losses = classification_losses(self._logits(features, self.heads), labels, self.spec)
        losses.sum().backward()  # no head's gradient depends on another
        self.ranks.average_gradients(parameter for head in self.heads for parameter in head.parameters())
        for group, base in zip(self.optimizer.param_groups, self.spec.learning_rates, strict=True):
            group["lr"] = self._learning_rate(step, base)
        self.optimizer.step()
        self._last = step, losses.detach()

    def _learning_rate(self, step: int, base: float) -> float:
        if self.spec.optimizer == "adam":
            return base
        return cosine(step, self.total, peak_learning_rate(base, self.spec.batch))

    def diagnose(self) -> dict[str, float]:
        """The best head's loss. A head that diverged is passed over; when all have, so has the evaluation."""
        assert self._last is not None, "diagnostics follow an update"
        losses = self.ranks.average(self._last[1])
        finite = losses[torch.isfinite(losses)]
        if len(finite) == 0:
            raise Diverged(self._last[0] + 1, {})
        return {"loss": float(finite.min())}

    def state_dict(self) -> dict[str, Any]:
        return {"heads": [head.state_dict() for head in self.heads], "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for head, saved in zip(self.heads, state["heads"], strict=True):
            head.load_state_dict(saved)
        self.optimizer.load_state_dict(state["optimizer"])

    def score(self, seal: Seal) -> Scores:
        """Choose on the held-out split, write the choice down, then open the test split for it once."""
        held_out = self._scores(self.spec.data.select, self.heads)
        selection = Selection(
            metric=f"{self.spec.evaluation}.{self.spec.data.select}.top1",
            candidates=tuple(f"learning_rate={rate}" for rate in self.spec.learning_rates),
            scores=tuple(found["top1"] for found in held_out),
        )
        record = self.ranks.first_alone(lambda: seal.record(selection))
        chosen = [self.heads[selection.chosen]]
        (found,) = seal.open(selection, lambda: self._scores(self.spec.data.test, chosen))
        return Scores({f"{self.spec.evaluation}.{name}": found[name] for name in ("top1", "top5")}, record)

    def _scores(self, split: str, heads: list[nn.Linear]) -> list[dict[str, float]]:
        """What each of `heads` scores over a split."""
        return self._scorer.scores(split, len(heads), lambda view: self._logits(frozen(self.encoder, view), heads))

    def close(self) -> None:
        self._loader.close()


def training_view(data: LinearData) -> View:
    """Crop and flip, and whatever else a view of pretraining has."""
    if data.view is None:
        return crop_flip(data.crop_area, data.flip)
    return replace(data.view, crop_area=data.crop_area, flip=data.flip)


def in_bfloat16(device: torch.device) -> bool:
    """Whether the frozen encoder computes in bfloat16; the heads never do."""
    return device.type == "cuda"


@torch.no_grad()
def frozen(encoder: ResNet, view: Tensor) -> Tensor:
    """Features as the heads see them."""
    with torch.autocast(view.device.type, torch.bfloat16, enabled=in_bfloat16(view.device)):
        features: Tensor = encoder(view)
    return features.to(view.dtype)


def classification_losses(logits: Tensor, labels: Tensor, spec: Linear) -> Tensor:
    """The loss of every head: (heads, B, classes), (B) -> (heads)."""
    if spec.logit_clip is not None:
        logits = spec.logit_clip * torch.tanh(logits / spec.logit_clip)
    each = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
    losses = each.view(len(logits), -1).mean(1)
    if spec.logit_penalty:
        losses = losses + spec.logit_penalty * logits.square().mean((1, 2))
    return losses
