"""Fine-tuning as a task of the loop: encoder and a new linear classifier, trained together on labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from harness.config.datasets import DATASETS, RecordType
from harness.config.durable import write_durably
from harness.config.schema import Finetune
from harness.data.beton import Beton
from harness.data.draws import crop_flip
from harness.data.errors import DataError
from harness.data.prepare import Dataset
from harness.data.records import DIFFICULT, PRESENT, decode_labels
from harness.evaluation.choice import held_out
from harness.evaluation.scoring import Scorer
from harness.models import norm
from harness.models.networks import Classifier
from harness.models.resnet import ResNet
from harness.objectives.supervised import flags_loss, supervised_loss
from harness.optim.schedules import cosine, peak_learning_rate, total_updates
from harness.training import preflight
from harness.training.feed import Fed, Feed
from harness.training.loop import Diverged
from harness.training.ranks import Ranks
from harness.training.step import descend
from harness.training.supervision import diagnosed
from harness.training.tuned import Tuned


@torch.no_grad()
def logits(network: Classifier, view: Tensor) -> Tensor:
    """What a network says of images, as a scorer asks: (1, B, classes)."""
    said: Tensor = network(view.to(network.classifier.weight.dtype))
    return said[None]


def updates(spec: Finetune, images: int) -> int:
    """As many as the spec says, or as its epochs of so many images make."""
    if spec.epochs is None:
        assert spec.steps is not None, "a spec has epochs or steps"
        return spec.steps
    total = total_updates(spec.epochs, images, spec.batch)
    if total < 1:
        raise ValueError(f"{spec.epochs} epochs of {images} images with a batch of {spec.batch} make no update")
    return total


def statistics_share(steps: float, images: int, batch: int) -> float:
    """How much of each update's statistics goes into the running ones, which keep the paper's max(1 - n / s, 0.9) of
    what they were: n `steps`, s updates an epoch.
    """
    return min(steps * batch / images, 0.1)


class HopelessError(Diverged):
    """A candidate has learned too little to go on: as one that diverged, it ends without a score and is not chosen."""

    def __init__(self, updates: int, score: float, guessed: float) -> None:
        super().__init__(updates, {})
        self.args = (f"ended at update {updates}: {score:.1f} on what was held out, where chance is {guessed:.1f}",)


class Finetuning(Tuned[Classifier]):
    """Batch statistics are those of the whole update batch, and the running ones are what the network is scored by."""

    name = "finetune"

    def __init__(
        self, spec: Finetune, encoder: ResNet, dataset: Dataset, device: torch.device, ranks: Ranks, threads: int
    ) -> None:
        check_classes(dataset, spec.data.train)
        self.spec, self.ranks, self._dataset = spec, ranks, dataset
        self._feed = Feed(spec, (crop_flip(spec.data.crop_area, spec.data.flip),), dataset, device, ranks, threads)
        self._scorer = Scorer(dataset, spec.data.image_size, device, ranks, threads)
        self._loss = loss_of(dataset.facts.record)
        self.total = updates(spec, self._feed.images)
        torch.manual_seed(spec.seed)
        network = Classifier(encoder, dataset.classes)
        network.to(device, getattr(torch, spec.precision)).train()
        norm.set_group(network, ranks.group)
        if spec.statistics_steps is not None:
            norm.set_momentum(network, statistics_share(spec.statistics_steps, self._feed.images, spec.batch))
        super().__init__(spec, self._feed, network, network.encoder, network.classifier)
        self._last: tuple[Tensor, Tensor] | None = None  # of the update just made: the loss, the share named rightly

    def learning_rate(self, step: int) -> float:
        return cosine(step, self.total, peak_learning_rate(self.spec.learning_rate, self.spec.batch))

    def feed(self, first: int) -> Iterator[Fed]:
        return self._feed.batches(first, self.total)

    def update(self, step: int, batch: Fed) -> None:
        seen = []

        def losses() -> Iterator[Tensor]:
            for (view,), labels in zip(batch.groups, batch.labels.split(self.ranks.plan.microbatch), strict=True):
                seen.append(self.network(view))
                yield self._loss(seen[-1], labels)

        loss = descend(self, self, step, losses(), self.ranks)
        self._last = loss, named_rightly(torch.cat(seen), batch.labels)
        if step < preflight.UPDATES:
            preflight.inspect_images(batch.images, self._feed.wanted(step), self.ranks)
        if self.spec.hopeless_points is not None and self.updates == max(1, self.total // 2):
            self._end_if_hopeless(self.spec.hopeless_points)

    def _end_if_hopeless(self, points: float) -> None:
        (score,) = self.results().values()
        self.network.train()
        guessed = chance(self._dataset, self.spec.data.select)
        if score < guessed + points:
            raise HopelessError(self.updates, score, guessed)

    def diagnose(self) -> dict[str, float]:
        assert self._last is not None, "diagnostics follow an update"
        return diagnosed(self._last, self, self.updates, self.ranks)

    def results(self) -> dict[str, float]:
        """The score on what was held out. Of a list's images none is counted that it was trained on."""
        data = self.spec.data
        return {held_out(self.spec): self.scores(data.select, apart_from=data.train)[DATASETS[data.dataset].metric]}

    def scores(self, split: str, apart_from: str | None = None) -> dict[str, float]:
        """The metrics of the network by their short names, as Scorer has them."""
        (found,) = self._scorer.scores(split, 1, partial(logits, self.network.eval()), apart_from)
        return found

    @property
    def tested(self) -> bool:
        """Whether a choice tests this network itself: one of so many steps is compared, and the best trained anew."""
        return self.spec.steps is None

    def save_network(self, path: Path) -> None:
        """Encoder and classifier with running statistics, for the choice to test."""
        tensors = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        write_durably(path, lambda file: file.write(save(tensors)))


def loss_of(record: RecordType) -> Callable[[Tensor, Tensor], Tensor]:
    """Of logits and labels, which are classes or flags."""
    return flags_loss if record == "labels" else partial(supervised_loss, smoothing=0.0)


def named_rightly(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of images whose highest logit is that of their class, or of one of those that they show."""
    first = logits.argmax(1)
    if labels.ndim == 1:
        return (first == labels).double().mean()
    return (labels.gather(1, first[:, None]) == PRESENT).double().mean()


def chance(dataset: Dataset, split: str) -> float:
    """What guessing scores, in percent; of flags a random order's average precision, which is the share that is set."""
    if dataset.facts.record == "class":
        return 100 / dataset.classes
    flags = _flags(dataset, split)
    return 100 * float((flags == PRESENT).sum() / (flags != DIFFICULT).sum())


def check_classes(dataset: Dataset, split: str) -> None:
    """Raise DataError where the images to train on leave out a class: its images could never be named rightly."""
    absent = np.setdiff1d(np.arange(dataset.classes), _shown(dataset, split))
    if absent.size:
        first = ", ".join(dataset.manifest.classes[number] for number in absent[:3])
        raise DataError(
            f"{dataset.folder}: the list {split} has no image of {absent.size} of the {dataset.classes} classes "
            f"({first}{', ...' if absent.size > 3 else ''}); train on a list that has some of every class"
        )


def _shown(dataset: Dataset, split: str) -> NDArray[np.int64]:
    """The classes that a split's images show; one that is difficult wherever it occurs is none."""
    if dataset.facts.record != "labels":
        return Beton(dataset.beton(split)).labels[dataset.indices(split)]
    return np.flatnonzero((_flags(dataset, split) == PRESENT).any(0))


def _flags(dataset: Dataset, split: str) -> NDArray[np.int8]:
    """(images, classes)."""
    file = Beton(dataset.beton(split))
    return np.stack([decode_labels(file.target(position)) for position in dataset.indices(split).tolist()])
