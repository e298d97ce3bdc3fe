"""Semantic segmentation as a task of the loop: a fully convolutional network on the encoder, trained on masks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from harness.config.schema import Segmentation
from harness.data.dataset import Dataset
from harness.data.mask_crops import CentralCrop, MaskCrop, MaskCrops, RandomCrop
from harness.data.records import VOID
from harness.data.scenes import Scenes
from harness.evaluation.choice import held_out
from harness.evaluation.iou import MaskTally
from harness.models import norm
from harness.models.resnet import ResNet
from harness.models.segmentation import FCN
from harness.objectives.pixels import pixel_loss
from harness.optim.schedules import tenths
from harness.training import preflight
from harness.training.ranks import Ranks
from harness.training.scene_feed import SceneFeed
from harness.training.step import descend
from harness.training.supervision import descended
from harness.training.tuned import Tuned

SCORE_BATCH = 16


class SegmentationTraining(Tuned[FCN]):
    """Batch statistics are those of the whole update batch, and the running ones are what the network is scored by."""

    name = "segmentation"

    def __init__(
        self, spec: Segmentation, encoder: ResNet, dataset: Dataset, device: torch.device, ranks: Ranks, threads: int
    ) -> None:
        self.spec, self.ranks, self.total = spec, ranks, spec.steps
        self._dataset, self._device, self._threads = dataset, device, threads
        crop = RandomCrop(spec.crop, spec.scales, spec.flip, spec.seed)
        self._feed = SceneFeed[MaskCrop](dataset, spec.data.train, spec.seed, crop, ranks, threads)
        torch.manual_seed(spec.seed)
        network = FCN(encoder, dataset.classes)
        network.to(device).train()
        norm.set_group(network, ranks.group)
        head = nn.ModuleList([network.head, network.classifier])
        super().__init__(spec, self._feed, network, network.encoder, head)
        # of the update just made: the loss, the pixels that have a class, and those of them that were named rightly
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def learning_rate(self, step: int) -> float:
        return tenths(step, self.total, self.spec.learning_rate, self.spec.drops)

    def feed(self, first: int) -> Iterator[MaskCrops]:
        return (MaskCrops.of(crops, self._device) for crops in self._feed.batches(first, self.total))

    def update(self, step: int, batch: MaskCrops) -> None:
        seen = []

        def losses() -> Iterator[Tensor]:
            logits = self.network(self._images(batch))
            seen.append(logits.detach())
            yield pixel_loss(logits, batch.masks, void=VOID, gather=self.ranks.gather)

        loss = descend(self, self, step, losses(), self.ranks)
        named = (seen[0].argmax(1) == batch.masks).sum().double()  # no class is VOID
        self._last = loss, (batch.masks != VOID).sum().double(), named
        if step < preflight.UPDATES:
            preflight.inspect_images(batch.numbers, self._feed.wanted(step), self.ranks)

    def diagnose(self) -> dict[str, float]:
        assert self._last is not None, "diagnostics follow an update"
        loss, pixels, named = self._last
        numbers = descended(loss, self, self.updates, self.ranks)
        shown, right = (float(self.ranks.average(each)) for each in (pixels, named))
        return {**numbers, "train_pixels": 100 * right / max(shown, 1.0)}

    def results(self) -> dict[str, float]:
        """The score on what was held out."""
        metric = self._dataset.facts.metric
        return {held_out(self.spec): self.scores(self.spec.data.select)[metric]}

    @torch.no_grad()
    def scores(self, split: str) -> dict[str, float]:
        """The metrics of the network by their short names, on the central square of each image of a split.

        Pixels outside it are not scored. Each rank looks at its own share of the images.
        """
        scenes, plan = Scenes(self._dataset, split, self._threads), self.ranks.plan
        tally = MaskTally(self._dataset.classes, self._device)
        network = self.network.eval()
        order = np.arange(len(scenes))[plan.rank :: plan.world]
        try:
            for crops in scenes.batches(order, SCORE_BATCH, CentralCrop(self.spec.crop)):
                batch = MaskCrops.of(crops, self._device)
                tally.add(network(self._images(batch)), batch.masks)
        finally:
            scenes.close()
            network.train()
        tally.gather(self.ranks)
        return tally.results()

    def _images(self, batch: MaskCrops) -> Tensor:
        """As the network takes them."""
        return batch.images(self._dataset.mean, self._dataset.std, self.network.classifier.weight.dtype)
