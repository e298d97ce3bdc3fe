"""Pretraining as a task of the loop: a spec, a prepared dataset, a device and a place among the ranks."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from harness.config.schema import Pretrain
from harness.data import augment
from harness.data.batch import Batch, Integers
from harness.data.draws import Draws, draw
from harness.data.loader import Loader
from harness.data.prepare import Dataset
from harness.data.stream import Stream
from harness.training import diagnostics
from harness.training.checkpoint import write_durably
from harness.training.loop import Diverged
from harness.training.ranks import Ranks
from harness.training.state import build_state
from harness.training.step import Plan, update

T = TypeVar("T")
Pair = tuple[T, T]

CHUNK_IMAGES = 1 << 16  # the stream is handed to the loader in pieces of about this many images


class Pretraining:
    """Trains the encoder of a spec; `results` and `flags` are final after the last update."""

    name = "pretrain"

    def __init__(self, spec: Pretrain, dataset: Dataset, device: torch.device, ranks: Ranks, threads: int) -> None:
        self.spec, self.ranks, self.device = spec, ranks, device
        self._dataset = dataset
        self._indices = dataset.indices(spec.data.split)
        self._stream = Stream(len(self._indices), spec.seed)
        self.plan = Plan(spec, len(self._indices))
        self.total = self.plan.total
        self.state = build_state(spec, device, ranks)
        self._threads = threads
        beton, size = dataset.beton(spec.data.split), spec.data.image_size
        self._loader = Loader(beton, ranks.plan.microbatch, size, threads, device)
        self._last: tuple[Tensor, Tensor] | None = None

    def feed(self, first: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
        plan = self.ranks.plan
        chunk = max(1, CHUNK_IMAGES // (plan.microbatch * plan.groups_per_rank))
        for start in range(first, self.total, chunk):
            stop = min(start + chunk, self.total)
            epochs, offsets = self._stream.locate(plan.positions(start, stop))
            batches = self._loader.batches(self._indices[offsets], functools.partial(self._draws, epochs))
            for _ in range(start, stop):
                yield [self._views(next(batches)) for _ in range(plan.groups_per_rank)]

    def _draws(self, epochs: Integers, part: range, index: Integers, height: Integers, width: Integers) -> Pair[Draws]:
        """What is drawn for both views of the images at `part` of a chunk."""
        views, epoch = self.spec.data.views, epochs[part.start : part.stop]
        first, second = (
            draw(view, seed=self.spec.seed, epoch=epoch, index=index, view_number=number, height=height, width=width)
            for number, view in enumerate((views.first, views.second))
        )
        return first, second

    def _views(self, batch: Batch) -> Pair[Tensor]:
        facts = self._dataset.facts
        first, second = (
            augment.views(crops, draws, facts.mean, facts.std, self._threads).to(getattr(torch, self.spec.precision))
            for crops, draws in zip(batch.crops, batch.draws, strict=True)
        )
        return first, second

    def update(self, step: int, batch: list[tuple[Tensor, Tensor]]) -> None:
        self._last = update(self.state, self.plan, step, batch, self.ranks)

    def diagnose(self) -> dict[str, float]:
        assert self._last is not None, "diagnostics follow an update"
        state, (loss, projections) = self.state, self._last
        step = state.updates - 1
        numbers = {
            "loss": float(self.ranks.average(loss)),
            "learning_rate": self.plan.learning_rate(step),
            "updates": float(state.updates),
            "ema_updates": float(state.ema_updates),
        }
        tau = self.plan.tau(step)
        if tau is not None:
            numbers["tau"] = tau
        if not math.isfinite(numbers["loss"]):
            raise Diverged(state.updates, numbers)
        everyone = self.ranks.gather_all(projections)
        numbers["spread"] = diagnostics.spread(everyone)
        numbers["effective_rank"] = diagnostics.effective_rank(everyone)
        state.history = [*state.history, numbers][-diagnostics.LAST :]
        return numbers

    def results(self) -> dict[str, float]:
        """The last diagnostics, averaged."""
        history = self.state.history
        names = ("loss", "spread", "effective_rank")
        return {f"{self.name}.{name}": float(np.mean([one[name] for one in history])) for name in names}

    def flags(self) -> dict[str, bool]:
        history = self.state.history
        spreads, ranks = [one["spread"] for one in history], [one["effective_rank"] for one in history]
        return {"collapsed": diagnostics.collapsed(spreads, ranks)}

    def save_encoder(self, path: Path) -> None:
        """What evaluations start from: the encoder alone, projector and predictor are dropped."""
        tensors = {name: value.contiguous() for name, value in self.state.online.encoder.state_dict().items()}
        write_durably(path, lambda file: file.write(save(tensors)))

    def state_dict(self) -> dict[str, Any]:
        return self.state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state.load_state_dict(state)

    def close(self) -> None:
        self._loader.close()
