"""Supervised pretraining as a task of the loop: the same images, updates and checkpoints, one view, and labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.config.schema import Pretrain
from harness.data.prepare import Dataset
from harness.training import diagnostics, preflight
from harness.training.encoder import save_encoder
from harness.training.feed import Fed, Feed
from harness.training.loop import Diverged
from harness.training.ranks import Ranks
from harness.training.state import build_supervised
from harness.training.step import Plan, Rates, update_supervised


class Supervised:
    """Trains encoder and classifier of a spec; its accuracy is measured by whoever may open the test split."""

    name = "pretrain"

    def __init__(self, spec: Pretrain, dataset: Dataset, device: torch.device, ranks: Ranks, threads: int) -> None:
        self.spec, self.ranks = spec, ranks
        self._feed = Feed(spec, (spec.data.views.first,), dataset, device, ranks, threads)
        self.plan = Plan(spec, self._feed.images)
        self.total = self.plan.total
        self.state = build_supervised(spec, dataset.classes, device, ranks)
        self._last: tuple[Tensor, Tensor] | None = None  # of the update just made: the loss, the share named rightly

    def feed(self, first: int) -> Iterator[Fed]:
        return self._feed.batches(first, self.total)

    def update(self, step: int, batch: Fed) -> None:
        labels = batch.labels.split(self.ranks.plan.microbatch)
        groups = ((view, own) for (view,), own in zip(batch.groups, labels, strict=True))
        loss, logits = update_supervised(self.state, self.plan, step, groups, self.ranks)
        self._last = loss, (logits.argmax(1) == batch.labels).double().mean()
        if step < preflight.UPDATES:
            preflight.inspect(self.state, self.spec, loss, self.ranks)
            preflight.inspect_images(batch.images, self._feed.wanted(step), self.ranks)

    def diagnose(self) -> dict[str, float]:
        assert self._last is not None, "diagnostics follow an update"
        numbers = diagnosed(self._last, self.plan, self.state.updates, self.ranks)
        self.state.history = [*self.state.history, numbers][-diagnostics.LAST :]
        return numbers

    @torch.no_grad()
    def logits(self, view: Tensor) -> Tensor:
        """What the network says of images, by its running statistics."""
        network = self.state.network.eval()
        logits: Tensor = network(view.to(network.classifier.weight.dtype))
        network.train()
        return logits

    def results(self) -> dict[str, float]:
        """The last diagnostics averaged."""
        names = ("loss", "train_top1")
        means = {name: float(np.mean([one[name] for one in self.state.history])) for name in names}
        return {f"{self.name}.{name}": mean for name, mean in means.items()}

    def flags(self) -> dict[str, bool]:
        """None: the rule that flags a collapse looks at projections."""
        return {}

    def save_encoder(self, path: Path) -> None:
        """The classifier is dropped."""
        save_encoder(path, self.state.network.encoder)

    def state_dict(self) -> dict[str, Any]:
        return self.state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state.load_state_dict(state)

    def close(self) -> None:
        self._feed.close()


def diagnosed(last: tuple[Tensor, Tensor], rates: Rates, updates: int, ranks: Ranks) -> dict[str, float]:
    """Numbers on the last of so many updates, of which each rank has its loss and the share that it named rightly."""
    loss, named = last
    return {**descended(loss, rates, updates, ranks), "train_top1": 100 * float(ranks.average(named))}


def descended(loss: Tensor, rates: Rates, updates: int, ranks: Ranks) -> dict[str, float]:
    """Numbers on the last of so many updates, of which each rank has its loss. Raises Diverged where that is none."""
    mean = float(ranks.average(loss))
    numbers = {"loss": mean, "learning_rate": rates.learning_rate(updates - 1), "updates": float(updates)}
    if not math.isfinite(mean):
        raise Diverged(updates, numbers)
    return numbers
