"""Pretraining as a task of the loop: a spec, a prepared dataset, a device and a place among the ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from harness.config.datasets import DATASETS
from harness.config.schema import Pretrain
from harness.data import augment
from harness.data.draws import draw
from harness.data.loader import Batch, Loader
from harness.data.prepare import Dataset
from harness.data.stream import Stream
from harness.training import diagnostics
from harness.training.checkpoint import write_durably
from harness.training.loop import Diverged
from harness.training.ranks import Ranks
from harness.training.state import build_state
from harness.training.step import Plan, update

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
        self._loader = Loader(dataset.beton(spec.data.split), ranks.plan.microbatch, threads)
        self._last: tuple[Tensor, Tensor] | None = None

    def feed(self, first: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
        plan = self.ranks.plan
        chunk = max(1, CHUNK_IMAGES // (plan.microbatch * plan.groups_per_rank))
        for start in range(first, self.total, chunk):
            stop = min(start + chunk, self.total)
            epochs, offsets = self._stream.locate(plan.positions(start, stop))
            batches = self._loader.batches(self._indices[offsets])
            parts = iter(np.split(epochs, (stop - start) * plan.groups_per_rank))
            for _ in range(start, stop):
                yield [self._views(next(batches), next(parts)) for _ in range(plan.groups_per_rank)]

    def _views(self, batch: Batch, epoch: np.ndarray) -> tuple[Tensor, Tensor]:
        data, facts = self.spec.data, DATASETS[self.spec.data.dataset]
        pixels = batch.pixels.to(self.device, non_blocking=True)
        height, width = pixels.shape[1:3]
        first, second = (
            augment.views(
                pixels,
                draw(
                    view,
                    seed=self.spec.seed,
                    epoch=epoch,
                    index=batch.index.numpy(),
                    view_number=number,
                    height=height,
                    width=width,
                ),
                data.image_size,
                facts.mean,
                facts.std,
            )
            for number, view in enumerate((data.views.first, data.views.second))
        )
        dtype = getattr(torch, self.spec.precision)
        return first.to(dtype), second.to(dtype)

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
