"""Detection as a task of the loop: Faster R-CNN on the encoder, trained on boxes, tested once by AP50."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, unique
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.config.schema import Detection
from harness.data.prepare import Dataset
from harness.data.records import decode_boxes
from harness.data.scenes import Scenes, uniforms
from harness.evaluation.choice import take
from harness.evaluation.detections import BoxTally
from harness.evaluation.linear import Scores
from harness.evaluation.sealed import Seal
from harness.models.detection import DETECTIONS, FasterRCNN
from harness.models.resnet import ResNet
from harness.optim.schedules import tenths
from harness.training import preflight
from harness.training.ranks import Ranks
from harness.training.scene_feed import SceneFeed
from harness.training.step import descend
from harness.training.supervision import descended
from harness.training.tuned import Tuned

SCORE_BATCH = 16  # images that are read at once; each passes the network alone
LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")  # as torchvision names them


@unique
class Slot(IntEnum):
    """What is drawn for an image. New slots go at the end; none ever moves."""

    EDGE = 0  # its longest edge
    SAMPLES = 1  # the anchors and regions that are trained on: the seed of torch's generator


class Example(NamedTuple):
    """An image to train on, (H, W, 3) in uint8, its objects (n, BOX), and what has been drawn for it."""

    number: int
    pixels: Tensor
    objects: Tensor
    edge: int
    seed: int


class DetectionTraining(Tuned[FasterRCNN]):
    """The loss of an update is the mean over its images of each one's own, for which it passes the network alone.

    Batch norm keeps the statistics of pretraining, and what is drawn is drawn for each image by its number: the other
    images of an update, and the ranks among which it is shared, change nothing. `ranks` are Ranks.join(batch, 1).
    Difficult objects train as others do, and count for nothing in the test.
    """

    name = "detection"

    def __init__(
        self, spec: Detection, encoder: ResNet, dataset: Dataset, device: torch.device, ranks: Ranks, threads: int
    ) -> None:
        assert ranks.plan.statistics_batch == 1, "no image shares statistics with another"
        self.spec, self.device, self.ranks, self.total = spec, device, ranks, spec.steps
        self._dataset, self._threads = dataset, threads
        self._feed = SceneFeed(dataset, spec.data.train, spec.seed, self._example, ranks, threads)
        torch.manual_seed(spec.seed)
        network = FasterRCNN(encoder, dataset.classes, frozen=spec.frozen, anchors=spec.anchors, sampled=spec.samples)
        network.to(device, torch.get_default_dtype()).train()
        super().__init__(spec, self._feed, network, network.encoder, network.proposals, network.regions)
        self._last: Tensor | None = None  # the losses of the update just made, in the order of LOSSES

    def learning_rate(self, step: int) -> float:
        spec = self.spec
        rising = min(1.0, step / spec.warmup_steps) if spec.warmup_steps else 1.0
        return rising * tenths(step, self.total, spec.learning_rate, spec.drops)

    def feed(self, first: int) -> Iterator[list[Example]]:
        return self._feed.batches(first, self.total)

    def update(self, step: int, batch: list[Example]) -> None:
        seen = []

        def losses() -> Iterator[Tensor]:
            for example in batch:
                parts = self._losses(example)
                seen.append(parts.detach())
                yield parts.sum()

        descend(self, self, step, losses(), self.ranks)
        self._last = torch.stack(seen).mean(0)
        if step < preflight.UPDATES:
            images = torch.tensor([example.number for example in batch], device=self.device)
            preflight.inspect_images(images, self._feed.wanted(step), self.ranks)

    def diagnose(self) -> dict[str, float]:
        """The loss, and the four of which it is the sum."""
        assert self._last is not None, "diagnostics follow an update"
        numbers = descended(self._last.sum(), self, self.updates, self.ranks)
        return numbers | dict(zip(LOSSES, self.ranks.average(self._last).tolist(), strict=True))

    def score(self, seal: Seal) -> Scores:
        """Open the test split for what the last update left."""
        return take(self.spec.evaluation, "ap50", self._tested, seal, self.ranks)

    def _example(self, epoch: int, number: int, pixels: Tensor, target: bytes) -> Example:
        drawn = uniforms(self.spec.seed, epoch, number, len(Slot))
        edge = longest_edge(float(drawn[Slot.EDGE]), self.spec.edges)
        seed = int(drawn[Slot.SAMPLES] * 2**53)  # all the bits that there are
        return Example(number, pixels, torch.from_numpy(decode_boxes(target)), edge, seed)

    def _losses(self, example: Example) -> Tensor:
        """Of one image, in the order of LOSSES."""
        torch.manual_seed(example.seed)
        objects = example.objects.to(self.device)
        boxes, classes = objects[:, :4], objects[:, 4]
        found = self.network.losses([self._image(example.pixels)], [example.edge], [boxes], [classes])
        return torch.stack([found[name] for name in LOSSES])

    def _image(self, pixels: Tensor) -> Tensor:
        """(3, H, W), normalised."""
        image = pixels.to(self.device).permute(2, 0, 1).to(torch.get_default_dtype()) / 255
        mean, std = (image.new_tensor(each)[:, None, None] for each in (self._dataset.mean, self._dataset.std))
        return (image - mean) / std

    def _tested(self) -> dict[str, float]:
        """Each rank looks at its own share of the test split."""
        plan, network = self.ranks.plan, self.network.eval()
        scenes = Scenes(self._dataset, self.spec.data.test, self._threads)
        tally = BoxTally(len(scenes), DETECTIONS, self._dataset.classes, self.device)
        order = np.arange(plan.rank, len(scenes), plan.world)
        try:
            batches = scenes.batches(order, SCORE_BATCH, lambda at, _, pixels, target: (int(order[at]), pixels, target))
            for row, pixels, target in (one for batch in batches for one in batch):
                (found,) = network.detections([self._image(pixels)], [self.spec.test_edge])
                tally.add(row, *found, torch.from_numpy(decode_boxes(target)))
        finally:
            scenes.close()
            network.train()
        tally.gather(self.ranks)
        return tally.results()


def longest_edge(u: float, edges: tuple[int, int]) -> int:
    """Of whole pixels from the first to the last, each as likely, by a number in [0, 1)."""
    low, high = edges
    return low + int(u * (high - low + 1))
