"""The choice among fine-tuned networks: by what was held out, written down, and only then a test of the chosen one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from harness.config.datasets import DATASETS
from harness.config.schema import Choice, Finetune
from harness.evaluation.finetune import logits
from harness.evaluation.linear import Scores
from harness.evaluation.scoring import Scorer
from harness.evaluation.sealed import Seal, Selection
from harness.models.networks import Classifier
from harness.training.ranks import Ranks


@dataclass(frozen=True)
class Candidate:
    """What a fine-tuning tried, its run, and its score on the held-out images; None where it diverged."""

    name: str
    key: str
    score: float | None


def names(tried: Sequence[Finetune]) -> list[str]:
    """What tells candidates apart. Their weight decay is named where they have several."""
    decays = len({one.weight_decay for one in tried}) > 1
    return [
        f"learning_rate={one.learning_rate}, "
        + (f"weight_decay={one.weight_decay}, " if decays else "")
        + (f"steps={one.steps}" if one.epochs is None else f"epochs={one.epochs}")
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
    network: Callable[[str], Classifier],
    scorer: Scorer,
    seal: Seal,
    ranks: Ranks,
) -> Scores:
    """Record the best of `candidates`, one of which has a score, and test what `network` makes of its run."""
    selection = select(spec, candidates)
    record = ranks.first_alone(lambda: seal.record(selection))
    chosen = network(candidates[selection.chosen].key).eval()
    (found,) = seal.open(selection, lambda: scorer.scores(spec.data.test, 1, partial(logits, chosen)))
    return Scores({f"{spec.evaluation}.{name}": value for name, value in found.items()}, record)
