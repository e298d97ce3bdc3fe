"""The choice among trained networks: by what was held out, written down, and only then a test of the chosen one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.config.datasets import DATASETS
from harness.config.schema import Choice, Finetune, Tried
from harness.evaluation.linear import Scores
from harness.evaluation.sealed import Seal, Selection
from harness.training.ranks import Ranks


@dataclass(frozen=True)
class Candidate:
    """What was tried, its run, and its score on the held-out images; None where it diverged."""

    name: str
    key: str
    score: float | None


def held_out(spec: Tried) -> str:
    """The result by which candidates are compared: the metric of their dataset, of what was held out."""
    return f"{spec.kind}.{spec.data.select}.{DATASETS[spec.data.dataset].metric}"


def names(tried: Sequence[Tried]) -> list[str]:
    """What tells candidates apart. Their weight decay is named where they have several."""
    decays = len({one.weight_decay for one in tried}) > 1
    return [
        f"learning_rate={one.learning_rate}, "
        + (f"weight_decay={one.weight_decay}, " if decays else "")
        + (f"epochs={one.epochs}" if isinstance(one, Finetune) and one.epochs is not None else f"steps={one.steps}")
        for one in tried
    ]


def select(spec: Choice, candidates: Sequence[Candidate]) -> Selection:
    """The record of a choice, before it is one."""
    return Selection(
        metric=f"{spec.evaluation}.{spec.data.select}.{DATASETS[spec.data.dataset].metric}",
        candidates=tuple(f"{candidate.name}, run {candidate.key}" for candidate in candidates),
        scores=tuple(candidate.score for candidate in candidates),
    )


def choose(
    spec: Choice,
    candidates: Sequence[Candidate],
    ready: Callable[[str], Callable[[], dict[str, float]]],
    seal: Seal,
    ranks: Ranks,
) -> Scores:
    """Record the best of `candidates`, one of which has a score; then make `ready` the network of its run, which gives
    its test, and open that.
    """
    selection = select(spec, candidates)
    record = ranks.first_alone(lambda: seal.record(selection))
    found = seal.open(selection, ready(candidates[selection.chosen].key))
    return Scores({f"{spec.evaluation}.{name}": value for name, value in found.items()}, record)


def take(evaluation: str, metric: str, test: Callable[[], dict[str, float]], seal: Seal, ranks: Ranks) -> Scores:
    """Record that there is one candidate, the protocol as printed, of which nothing was held out; then test it."""
    selection = Selection(f"{evaluation}.{metric}", ("as printed",), (None,))
    record = ranks.first_alone(lambda: seal.record(selection))
    found = seal.open(selection, test)
    return Scores({f"{evaluation}.{name}": value for name, value in found.items()}, record)
