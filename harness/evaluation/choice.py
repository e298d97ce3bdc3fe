"""The choice among fine-tuned networks: by what was held out, written down, and only then a test of the chosen one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from harness.config.schema import Choice
from harness.evaluation.finetune import logits
from harness.evaluation.linear import Scores
from harness.evaluation.scoring import Scorer
from harness.evaluation.sealed import Seal, Selection
from harness.models.networks import Classifier
from harness.training.ranks import Ranks


@dataclass(frozen=True)
class Candidate:
    """What a fine-tuning tried, its run, and its accuracy on the held-out images; None where it diverged."""

    name: str
    key: str
    top1: float | None


def select(spec: Choice, candidates: Sequence[Candidate]) -> Selection:
    """The record of a choice, before it is one."""
    return Selection(
        metric=f"{spec.evaluation}.{spec.data.select}.top1",
        candidates=tuple(f"{candidate.name}, run {candidate.key}" for candidate in candidates),
        scores=tuple(candidate.top1 for candidate in candidates),
    )


def choose(
    spec: Choice,
    candidates: Sequence[Candidate],
    network: Callable[[str], Classifier],
    scorer: Scorer,
    seal: Seal,
    ranks: Ranks,
) -> Scores:
    """Record the best of `candidates`, one of which has a score, and test it; `network` is the one of a run."""
    selection = select(spec, candidates)
    record = ranks.first_alone(lambda: seal.record(selection))

    def test() -> tuple[float, float]:
        chosen = network(candidates[selection.chosen].key).eval()
        (accuracies,) = scorer.accuracies(spec.data.test, 1, partial(logits, chosen))
        return accuracies

    top1, top5 = seal.open(selection, test)
    return Scores({f"{spec.evaluation}.top1": top1, f"{spec.evaluation}.top5": top5}, record)
