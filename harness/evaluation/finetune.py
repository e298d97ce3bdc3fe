"""Fine-tuning as a task of the loop: encoder and a new linear classifier, trained together on labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from harness.config.durable import write_durably
from harness.config.schema import Finetune, Optimizer
from harness.data.beton import Beton
from harness.data.draws import crop_flip
from harness.data.errors import DataError
from harness.data.prepare import Dataset
from harness.evaluation.scoring import Scorer
from harness.models import norm
from harness.models.networks import Classifier
from harness.models.resnet import ResNet
from harness.objectives.supervised import supervised_loss
from harness.optim.build import build_optimizer
from harness.optim.schedules import cosine, peak_learning_rate, total_updates
from harness.training import preflight
from harness.training.feed import Fed, Feed
from harness.training.loop import Diverged
from harness.training.ranks import Ranks
from harness.training.step import descend

HELD_OUT = "finetune.valid.top1"  # by which candidates are compared


@torch.no_grad()
def logits(network: Classifier, view: Tensor) -> Tensor:
    """What a network says of images, as a scorer asks: (1, B, classes)."""
    said: Tensor = network(view.to(network.classifier.weight.dtype))
    return said[None]


def updates(spec: Finetune, images: int) -> int:
    """As many as the spec says, or as its epochs of so many images make."""
    if spec.epochs is not None:
        return total_updates(spec.epochs, images, spec.batch)
    assert spec.steps is not None, "a spec has epochs or steps"
    return spec.steps


class Finetuning:
    """Batch statistics are those of the whole update batch, and the running ones are what the network is scored by."""

    name = "finetune"

    def __init__(
        self, spec: Finetune, encoder: ResNet, dataset: Dataset, device: torch.device, ranks: Ranks, threads: int
    ) -> None:
        check_classes(dataset, spec.data.train)
        self.spec, self.ranks = spec, ranks
        self._feed = Feed(spec, (crop_flip(spec.data.crop_area, spec.data.flip),), dataset, device, ranks, threads)
        self._scorer = Scorer(dataset, spec.data.image_size, device, ranks, threads)
        self.total = updates(spec, self._feed.images)
        if self.total < 1:
            shape = f"{spec.epochs} epochs of {self._feed.images} images with a batch of {spec.batch}"
            raise ValueError(f"{shape} make no update")
        torch.manual_seed(spec.seed)
        self.network = Classifier(encoder, dataset.classes)
        self.network.to(device, getattr(torch, spec.precision)).train()
        norm.set_group(self.network, ranks.group)
        rule = Optimizer(
            name="sgd",
            base_lr=spec.learning_rate,
            weight_decay=spec.weight_decay,
            momentum=spec.momentum,
            trust=None,
        )
        self.optimizer = build_optimizer(rule, self.network.encoder, self.network.classifier, None)
        self.updates = 0
        self._last: tuple[Tensor, Tensor] | None = None  # of the update just made: the loss, the share named rightly

    @property
    def networks(self) -> list[nn.Module]:
        return [self.network]

    def parameters(self) -> list[nn.Parameter]:
        return list(self.network.parameters())

    def learning_rate(self, step: int) -> float:
        return cosine(step, self.total, peak_learning_rate(self.spec.learning_rate, self.spec.batch))

    def feed(self, first: int) -> Iterator[Fed]:
        return self._feed.batches(first, self.total)

    def update(self, step: int, batch: Fed) -> None:
        seen = []

        def losses() -> Iterator[Tensor]:
            for (view,), labels in zip(batch.groups, batch.labels.split(self.ranks.plan.microbatch), strict=True):
                seen.append(self.network(view))
                yield supervised_loss(seen[-1], labels, 0.0)

        loss = descend(self, self, step, losses(), self.ranks)
        self._last = loss, (torch.cat(seen).argmax(1) == batch.labels).double().mean()
        if step < preflight.UPDATES:
            preflight.inspect_images(batch.images, self._feed.wanted(step), self.ranks)

    def diagnose(self) -> dict[str, float]:
        assert self._last is not None, "diagnostics follow an update"
        loss, correct = (float(self.ranks.average(one)) for one in self._last)
        numbers = {"loss": loss, "learning_rate": self.learning_rate(self.updates - 1), "updates": float(self.updates)}
        if not math.isfinite(loss):
            raise Diverged(self.updates, numbers)
        return {**numbers, "train_top1": 100 * correct}

    def results(self) -> dict[str, float]:
        """The accuracy on what was held out. Of a list's images none is counted that it was trained on."""
        data, network = self.spec.data, self.network.eval()
        ((top1, _),) = self._scorer.accuracies(data.select, 1, partial(logits, network), apart_from=data.train)
        return {HELD_OUT: top1}

    def save_network(self, path: Path) -> None:
        """Encoder and classifier with running statistics, for the choice to test."""
        tensors = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        write_durably(path, lambda file: file.write(save(tensors)))

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state["updates"]

    def close(self) -> None:
        self._feed.close()


def check_classes(dataset: Dataset, split: str) -> None:
    """Raise DataError where the images to train on leave out a class: its images could never be named rightly."""
    labels = Beton(dataset.beton(split)).labels[dataset.indices(split)]
    absent = np.setdiff1d(np.arange(dataset.classes), labels)
    if absent.size:
        first = ", ".join(dataset.manifest.classes[number] for number in absent[:3])
        raise DataError(
            f"{dataset.folder}: the list {split} has no image of {absent.size} of the {dataset.classes} classes "
            f"({first}{', ...' if absent.size > 3 else ''}); train on a list that has some of every class"
        )
