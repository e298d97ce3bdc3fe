"""Pretraining as a task of the loop: a spec, a prepared dataset, a device and a place among the ranks."""

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
from harness.optim.schedules import total_updates
from harness.training import diagnostics, preflight
from harness.training.encoder import save_encoder
from harness.training.feed import Fed, Feed
from harness.training.loop import Diverged
from harness.training.probe import Probe
from harness.training.ranks import Ranks
from harness.training.state import build_state
from harness.training.step import Plan, Seen, update

LAST_EPOCHS = 10  # over which the RAFT paper averages alignment and uniformity
PAIRED_IMAGES = 1024  # of a rank's update, at most: pairs grow with their square


class Pretraining:
    """Trains the encoder of a spec; `results` and `flags` are final after the last update.

    With `online_classifier`, one learns along and is reported: it changes nothing else, and bears no identity.
    """

    name = "pretrain"

    def __init__(
        self,
        spec: Pretrain,
        dataset: Dataset,
        device: torch.device,
        ranks: Ranks,
        threads: int,
        online_classifier: bool = False,
    ) -> None:
        self.spec, self.ranks, self.device = spec, ranks, device
        views = spec.data.views
        self._feed = Feed(spec, (views.first, views.second), dataset, device, ranks, threads)
        self.plan = Plan(spec, self._feed.images)
        self.total = self.plan.total
        self.state = build_state(spec, device, ranks)
        self._last: tuple[Tensor, Seen] | None = None
        self._probe: Probe | None = None
        if online_classifier:
            features, dtype = self.state.online.encoder.features, getattr(torch, spec.precision)
            self._probe = Probe(features, dataset.classes, spec.optimizer, device, dtype)
        tail = total_updates(min(LAST_EPOCHS, spec.schedule.epochs), self._feed.images, spec.schedule.update_batch)
        self._tail_from = self.total - max(1, tail)

    def feed(self, first: int) -> Iterator[Fed]:
        return self._feed.batches(first, self.total)

    def update(self, step: int, batch: Fed) -> None:
        self._last = update(self.state, self.plan, step, batch.groups, self.ranks)
        if self._probe is not None:
            rate = self.plan.learning_rate(step)
            self._probe.update(self._last[1].representations, batch.labels, rate, self.ranks)
        if step >= self._tail_from:
            numbers = _spread_and_meet(self._last[1])
            self.state.tail = {name: self.state.tail.get(name, 0.0) + number for name, number in numbers.items()}
        if step < preflight.UPDATES:
            preflight.inspect(self.state, self.spec, self._last[0], self.ranks)
            preflight.inspect_images(batch.images, self._feed.wanted(step), self.ranks)

    def diagnose(self) -> dict[str, float]:
        assert self._last is not None, "diagnostics follow an update"
        state, (loss, seen) = self.state, self._last
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
        everyone = self.ranks.gather_all(seen.projections)
        numbers["spread"] = diagnostics.spread(everyone)
        numbers["effective_rank"] = diagnostics.effective_rank(everyone)
        numbers["representation_norm"] = diagnostics.mean_norm(seen.representations)
        numbers["projection_norm"] = diagnostics.mean_norm(seen.projections)
        numbers |= _spread_and_meet(seen)
        if self._probe is not None:
            numbers["online_top1"] = self._probe.top1(self.ranks)
        state.history = [*state.history, numbers][-diagnostics.LAST :]
        return numbers

    def results(self) -> dict[str, float]:
        """The last diagnostics averaged, and alignment and uniformity over the updates of the last epochs."""
        history = self.state.history
        names = ("loss", "spread", "effective_rank", "projection_norm")
        numbers = {name: float(np.mean([one[name] for one in history])) for name in names}
        for name, total in self.state.tail.items():
            numbers[name] = float(self.ranks.average(torch.tensor(total / (self.total - self._tail_from))))
        return {f"{self.name}.{name}": value for name, value in numbers.items()}

    def flags(self) -> dict[str, bool]:
        history = self.state.history
        spreads, ranks = [one["spread"] for one in history], [one["effective_rank"] for one in history]
        return {"collapsed": diagnostics.collapsed(spreads, ranks)}

    def save_encoder(self, path: Path) -> None:
        """Projector and predictor are dropped."""
        save_encoder(path, self.state.online.encoder)

    def state_dict(self) -> dict[str, Any]:
        state = self.state.state_dict()
        return state if self._probe is None else {**state, "probe": self._probe.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state.load_state_dict(state)
        if self._probe is not None and "probe" in state:  # it may have been asked for since
            self._probe.load_state_dict(state["probe"])

    def close(self) -> None:
        self._feed.close()


def _spread_and_meet(seen: Seen) -> dict[str, float]:
    """The RAFT paper's two numbers: alignment of the views' predictions, uniformity of the projections."""
    first, second = seen.predictions
    part = slice(PAIRED_IMAGES)
    align = diagnostics.alignment(first[part], second[part])
    return {"align": align, "uniform": diagnostics.uniformity(seen.projections[part])}
