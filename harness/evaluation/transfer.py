"""Transfer's linear evaluation: logistic regression on frozen features, its strength of regularisation chosen on what
is held out, fitted again on all training images, and tested.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, reduce
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness.config.schema import Logistic, Strengths
from harness.data.records import PRESENT
from harness.evaluation import metrics
from harness.evaluation.features import Features, FeatureStore
from harness.evaluation.finetune import check_classes
from harness.evaluation.linear import Scores
from harness.evaluation.logistic import Fit
from harness.evaluation.sealed import Seal, SealError, Selection
from harness.training import loop
from harness.training.ranks import from_rank_0

ROWS = 1 << 12  # images that are scored at once

# features, labels, classes, strengths: one Fit for each strength, in their order
Solver = Callable[[Tensor, Tensor, int, Sequence[float]], Iterable[Fit]]


class Observer(loop.Observer, Protocol):
    """Who is told: of each fit as of an update, and in a sentence of what a person should know."""

    def note(self, line: str) -> None: ...


class UnfitError(loop.Diverged):
    """No strength of regularisation gave weights that are numbers."""

    def __init__(self, fits: int) -> None:
        super().__init__(fits, {})
        self.args = (f"no fit has finite weights, of {fits}",)


class TransferEvaluation:
    """Every rank has one. All compute features, rank 0 alone fits and scores, and the others hear of it."""

    def __init__(self, spec: Logistic, store: FeatureStore, solver: Solver, observer: Observer) -> None:
        check_classes(store.dataset, spec.data.train)
        self.spec, self.strengths = spec, strengths_of(spec.strengths)
        self.total = len(self.strengths) + 1  # fits
        self._metric = store.dataset.facts.metric
        self._store, self._solver, self._observer = store, solver, observer
        self._started, self._resumed_at = time.monotonic(), 0
        self._unfinished: list[str] = []
        self._last: Fit  # on all images

    def score(self, seal: Seal) -> Scores:
        """Choose on the held-out split, write the choice down, fit it on all, then open the test split for it once.

        A choice that has been written down stands: its fits are not made again. Where an end is asked for, Stopped is
        raised when the features of a split are kept, or the choice; whatever else was begun would be lost.
        """
        data = self.spec.data
        selection = from_rank_0(lambda: self._recorded(seal))
        for split in (data.train, data.select):
            self._store.keep(split)
            from_rank_0(lambda: self._end_if_asked(self._resumed_at))
        from_rank_0(lambda: self._note_absent(data.select))
        if selection is None:
            selection = self._selection()
        record = from_rank_0(lambda: seal.record(selection))
        from_rank_0(lambda: self._end_if_asked(len(self.strengths)))
        if not from_rank_0(lambda: self._fit_on_all(self.strengths[selection.chosen])):
            raise UnfitError(self.total)
        found = seal.open(selection, self._tested)
        return Scores({f"{self.spec.evaluation}.{name}": value for name, value in found.items()}, record)

    def _end_if_asked(self, done: int) -> None:
        if self._observer.stopping():
            raise loop.Stopped(done)

    def _selection(self) -> Selection:
        """What each strength scores on the held-out split; one whose weights are not finite has no score.

        The strongest is fitted first: each fit is where the next begins.
        """
        data, fits = self.spec.data, self._fits(self.strengths[::-1], self.spec.data.train)

        def score(done: int) -> float | None:
            fit = next(fits)
            found = self._found(fit, data.select) if _finite(fit) else {}
            self._told(fit, done, {f"{data.select}.{name}": value for name, value in found.items()})
            return found.get(self._metric)

        # the ranks meet after every fit, so that none waits too long for all of them
        scores = tuple(from_rank_0(partial(score, done)) for done in range(1, self.total))[::-1]
        if all(one is None for one in scores):
            raise UnfitError(len(scores))
        return Selection(f"{self.spec.evaluation}.{data.select}.{self._metric}", self._candidates, scores)

    def _recorded(self, seal: Seal) -> Selection | None:
        """The choice that an interrupted evaluation has left; nothing is reported anew that was reported before it."""
        known = seal.recorded()
        if known is not None:
            self._resumed_at = len(self.strengths)
        self._observer.resumed(self._resumed_at)
        if known is None:
            return None
        metric, candidates, scores = (known[name] for name in ("metric", "candidates", "scores"))
        selection = Selection(metric, tuple(candidates), tuple(scores))  # type: ignore[arg-type]  # as it was written
        if selection.candidates != self._candidates:
            raise SealError("the recorded choice is among other strengths; retire the run to choose anew")
        return selection

    @property
    def _candidates(self) -> tuple[str, ...]:
        return tuple(_named(strength) for strength in self.strengths)

    def _fits(self, strengths: Sequence[float], *splits: str) -> Iterator[Fit]:
        """One fit for each strength on the images of all `splits`, as it is asked for."""
        seen = reduce(Features.joined, [self._store.read(split) for split in splits])
        yield from self._solver(seen.values, seen.labels, self._store.dataset.classes, strengths)

    def _fit_on_all(self, strength: float) -> bool:
        """Make the last fit; whether its weights are finite."""
        (self._last,) = self._fits([strength], self.spec.data.train, self.spec.data.select)
        self._told(self._last, self.total, {})
        if self._unfinished:
            unfinished = f"{len(self._unfinished)} of {self.total - self._resumed_at} fits"
            self._observer.note(f"{unfinished} were not made to the end: {', '.join(self._unfinished)}")
        return _finite(self._last)

    def _tested(self) -> dict[str, float]:
        test = self.spec.data.test
        self._store.keep(test)
        from_rank_0(lambda: self._note_absent(test))
        return from_rank_0(lambda: self._found(self._last, test))

    def _found(self, fit: Fit, split: str) -> dict[str, float]:
        """What a fit scores."""
        seen, data = self._store.read(split), self._store.dataset
        tally = metrics.tally(data.facts.record, 1, len(seen.labels), data.classes, self._store.device)
        for rows in torch.arange(len(seen.labels), device=self._store.device).split(ROWS):
            logits = seen.values[rows].to(fit.weight) @ fit.weight.T + fit.bias
            tally.add(rows, logits[None], seen.labels[rows])
        (found,) = tally.results()
        return found

    def _told(self, fit: Fit, done: int, scores: dict[str, float]) -> None:
        """Tell of a fit that has been made."""
        if not fit.converged:
            self._unfinished.append(_named(fit.strength))
        numbers = {"lambda": fit.strength, "iterations": float(fit.iterations), "objective": fit.objective, **scores}
        finite = {f"logistic.{name}": value for name, value in numbers.items() if math.isfinite(value)}
        self._observer.report(done, finite)
        seconds = time.monotonic() - self._started
        self._observer.progress(loop.Progress(done, self.total, seconds, self._resumed_at))

    def _note_absent(self, split: str) -> None:
        """A metric that averages over classes leaves out those that a split does not show."""
        labels, classes = self._store.read(split).labels, self._store.dataset.classes
        shown = int((labels == PRESENT).any(0).sum()) if labels.ndim > 1 else len(labels.unique())
        if shown < classes and self._metric != "top1":
            absent = f"{classes - shown} of the {classes} classes"
            self._observer.note(f"{split} has no image of {absent}; {self._metric} averages over the others")


def strengths_of(given: Strengths) -> tuple[float, ...]:
    """From the weakest to the strongest, both ends included."""
    return tuple(np.geomspace(given.low, given.high, given.count).tolist())


def _named(strength: float) -> str:
    return f"lambda={strength:.6g}"


def _finite(fit: Fit) -> bool:
    return bool(torch.isfinite(fit.weight).all() and torch.isfinite(fit.bias).all())
