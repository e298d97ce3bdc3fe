"""What a training sees: the stream's images in its views, update by update, as this rank's statistics groups."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.config.schema import Finetune, Pretrain, View
from harness.data import augment
from harness.data.batch import Batch, Integers
from harness.data.draws import Draws, draw
from harness.data.labels import labels_of
from harness.data.loader import Loader
from harness.data.prepare import Dataset
from harness.data.stream import Stream
from harness.training.ranks import Ranks

CHUNK_IMAGES = 1 << 16  # the stream is handed to the loader in pieces of about this many images


@dataclass(frozen=True)
class Fed:
    """What an update sees on this rank: the views of each of its statistics groups, the images' numbers and labels, of
    which those of flags are (B, classes).
    """

    groups: list[tuple[Tensor, ...]]
    images: Tensor
    labels: Tensor


class Feed:
    """The batches of a spec; `images` is how many an epoch has."""

    def __init__(
        self,
        spec: Pretrain | Finetune,
        views: tuple[View, ...],
        dataset: Dataset,
        device: torch.device,
        ranks: Ranks,
        threads: int,
    ) -> None:
        self._spec, self._drawn, self._plan = spec, views, ranks.plan
        self._dataset, self._threads = dataset, threads
        split = spec.data.split if isinstance(spec, Pretrain) else spec.data.train
        self._indices, self._numbers = dataset.indices(split), dataset.numbers(split)
        self.images = len(self._indices)
        self._stream = Stream(self.images, spec.seed)
        self._loader = Loader(dataset.beton(split), ranks.plan.microbatch, spec.data.image_size, threads, device)

    def batches(self, first: int, total: int) -> Iterator[Fed]:
        """Of updates first ... total - 1."""
        plan = self._plan
        chunk = max(1, CHUNK_IMAGES // (plan.microbatch * plan.groups_per_rank))
        for start in range(first, total, chunk):
            stop = min(start + chunk, total)
            epochs, offsets = self._stream.locate(plan.positions(start, stop))
            batches = self._loader.batches(self._indices[offsets], functools.partial(self._draws, epochs))
            for _ in range(start, stop):
                read = [next(batches) for _ in range(plan.groups_per_rank)]
                images = torch.cat([batch.index for batch in read])
                labels = torch.cat([labels_of(batch, self._dataset.facts.record) for batch in read])
                yield Fed([self._views(batch) for batch in read], images, labels)

    def wanted(self, step: int) -> np.ndarray:
        """The numbers of the images of an update, all ranks together."""
        size = self._plan.update_batch
        _, offsets = self._stream.locate(np.arange(step * size, (step + 1) * size))
        return self._numbers[offsets]

    def close(self) -> None:
        self._loader.close()

    def _draws(
        self, epochs: Integers, part: range, index: Integers, height: Integers, width: Integers
    ) -> tuple[Draws, ...]:
        """What is drawn for each view of the images at `part` of a chunk."""
        seed, epoch = self._spec.seed, epochs[part.start : part.stop]
        return tuple(
            draw(view, seed=seed, epoch=epoch, index=index, view_number=number, height=height, width=width)
            for number, view in enumerate(self._drawn)
        )

    def _views(self, batch: Batch) -> tuple[Tensor, ...]:
        mean, std = self._dataset.mean, self._dataset.std
        each = zip(batch.crops, batch.draws, strict=True)
        if self._spec.precision == "float64":  # not by the kernels of the CPU, which are of single precision
            return tuple(augment.by_torch(crops, draws, mean, std, torch.float64) for crops, draws in each)
        return tuple(augment.views(crops, draws, mean, std, self._threads) for crops, draws in each)
