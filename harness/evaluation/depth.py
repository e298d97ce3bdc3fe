"""Depth estimation as a task of the loop: up-projections on the encoder, trained on depths, tested once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from harness.config.schema import Depth
from harness.data.dataset import Dataset
from harness.data.depth_frames import CentralFrame, Frame, Frames, RandomFrame
from harness.data.scenes import Scenes
from harness.evaluation.choice import take
from harness.evaluation.depth_errors import DepthTally
from harness.evaluation.linear import Scores
from harness.evaluation.sealed import Seal
from harness.models import norm
from harness.models.depth import FILTERS, DepthNetwork
from harness.models.resnet import ResNet
from harness.objectives.huber import reverse_huber
from harness.training import preflight
from harness.training.ranks import Ranks
from harness.training.scene_feed import SceneFeed
from harness.training.step import descend
from harness.training.supervision import descended
from harness.training.tuned import Tuned

PAPERS_FEATURES = 2048  # of the ResNet-50, on which the paper has FILTERS
SCORE_BATCH = 16


class DepthTraining(Tuned[DepthNetwork]):
    """Batch statistics are those of the whole update batch, and the running ones are what the network is tested by.

    The learning rate is constant, as the paper states one number.
    """

    name = "depth"

    def __init__(
        self, spec: Depth, encoder: ResNet, dataset: Dataset, device: torch.device, ranks: Ranks, threads: int
    ) -> None:
        self.spec, self.ranks, self.total = spec, ranks, spec.steps
        self._dataset, self._device, self._threads = dataset, device, threads
        drawn = (spec.flip, spec.grayscale, spec.brightness, spec.saturation, spec.hue, spec.seed)
        frame = RandomFrame(spec.frame, spec.crop, *drawn)
        self._feed = SceneFeed[Frame](dataset, spec.data.train, spec.seed, frame, ranks, threads)
        torch.manual_seed(spec.seed)
        network = DepthNetwork(encoder, filters(encoder))
        network.to(device).train()
        norm.set_group(network, ranks.group)
        decoder = nn.ModuleList([network.head, network.prediction])
        super().__init__(spec, self._feed, network, network.encoder, decoder)
        self._last: Tensor | None = None  # the loss of the update just made

    def learning_rate(self, _step: int) -> float:
        return self.spec.learning_rate

    def feed(self, first: int) -> Iterator[Frames]:
        return (Frames.of(frames, self._device) for frames in self._feed.batches(first, self.total))

    def update(self, step: int, batch: Frames) -> None:
        def losses() -> Iterator[Tensor]:
            yield reverse_huber(self.network(self._images(batch)), batch.depths, gather=self.ranks.gather)

        self._last = descend(self, self, step, losses(), self.ranks)
        if step < preflight.UPDATES:
            preflight.inspect_images(batch.numbers, self._feed.wanted(step), self.ranks)

    def diagnose(self) -> dict[str, float]:
        assert self._last is not None, "diagnostics follow an update"
        return descended(self._last, self, self.updates, self.ranks)

    def score(self, seal: Seal) -> Scores:
        """Open the test split for what the last update left."""
        return take(self.spec.evaluation, "pct_1.25", self._tested, seal, self.ranks)

    def _images(self, batch: Frames) -> Tensor:
        """As the network takes them."""
        return batch.images(self._dataset.mean, self._dataset.std, self.network.prediction.weight.dtype)

    @torch.no_grad()
    def _tested(self) -> dict[str, float]:
        """The errors on the centres of the test frames, at the size that they are trained at. Each rank looks at its
        own share of the frames.
        """
        scenes, plan = Scenes(self._dataset, self.spec.data.test, self._threads), self.ranks.plan
        tally, network = DepthTally(self._device), self.network.eval()
        order = np.arange(plan.rank, len(scenes), plan.world)
        try:
            for frames in scenes.batches(order, SCORE_BATCH, CentralFrame(self.spec.frame, self.spec.crop)):
                batch = Frames.of(frames, self._device)
                tally.add(network(self._images(batch)), batch.depths)
        finally:
            scenes.close()
            network.train()
        tally.gather(self.ranks)
        return tally.results()


def filters(encoder: ResNet) -> tuple[int, ...]:
    """The paper's on a ResNet-50; on an encoder with more or fewer features, in proportion to them."""
    return tuple(number * encoder.features // PAPERS_FEATURES for number in FILTERS)
