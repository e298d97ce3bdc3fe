"""The choice among fine-tuned networks: a rule, written down before the test is opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.datasets import DATASETS
from harness.config.expand import expand
from harness.config.schema import Choice, Finetune, SceneData, Segmentation
from harness.evaluation.choice import Candidate, choose, held_out, names, select
from harness.evaluation.sealed import Seal, SealError
from harness.training.ranks import Ranks


def _specs() -> tuple[Choice, Finetune]:
    member = expand("2a", "laptop", seeds=1, cell="byol_1pct").members[0]
    assert isinstance(member.evaluation, Choice)
    return member.evaluation, member.candidates[0]


SPEC, CANDIDATE = _specs()


def test_candidates_are_named_by_what_varies() -> None:
    """Protects recorded choices, whose digests are of these names: the first is how Table 2's have been written."""
    one = replace(CANDIDATE, learning_rate=0.01)
    steps = replace(one, epochs=None, steps=20000)
    assert names([replace(one, epochs=30), replace(one, epochs=50)]) == [
        "learning_rate=0.01, epochs=30",
        "learning_rate=0.01, epochs=50",
    ]
    assert names([replace(steps, weight_decay=1e-6)]) == ["learning_rate=0.01, steps=20000"]
    assert names([replace(steps, weight_decay=decay) for decay in (0.0, 1e-6)]) == [
        "learning_rate=0.01, weight_decay=0.0, steps=20000",
        "learning_rate=0.01, weight_decay=1e-06, steps=20000",
    ]


@pytest.mark.parametrize(
    ("dataset", "metric"), [("pets", "mean_per_class"), ("voc2007", "map11"), ("food101", "top1"), ("cars", "top1")]
)
def test_the_metric_of_the_dataset_chooses(dataset: str, metric: str) -> None:
    """Protects Table 3's rule: each dataset is chosen on by the metric that the paper reports for it."""
    spec = replace(SPEC, evaluation="transfer", data=replace(CANDIDATE.data, dataset=dataset))
    assert select(spec, tried(1.0)).metric == f"transfer.valid.{metric}"
    assert held_out(replace(CANDIDATE, data=spec.data)) == f"finetune.valid.{metric}"


def tried(*scores: float | None) -> list[Candidate]:
    """Candidates with these accuracies."""
    return [Candidate(f"learning_rate={number}", f"key{number}", score) for number, score in enumerate(scores)]


class Tests:
    """Makes networks ready by key, and remembers which, what was tested, and what had been written down by then."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ready: list[tuple[str, str]] = []
        self.opened: list[str] = []

    def __call__(self, key: str) -> Callable[[], dict[str, float]]:
        self.ready.append((key, json.loads((self.folder / "selection.json").read_text())["chosen"]))

        def test() -> dict[str, float]:
            self.opened.append(key)
            return {"top1": 70.0, "top5": 90.0}

        return test


def chosen(candidates: list[Candidate], folder: Path) -> tuple[dict[str, float], Tests]:
    """Make a choice."""
    tests = Tests(folder)
    scores = choose(SPEC, candidates, tests, Seal(folder), Ranks.split(1))
    return scores.results, tests


@given(scores=st.lists(st.none() | st.sampled_from([0.0, 10.0, 55.5, 60.0]), min_size=1, max_size=10))
def test_it_is_the_first_of_what_sorting_puts_on_top(scores: list[float | None]) -> None:
    """Protects Table 2 from another rule: highest first, equals in the file's order, divergence last."""
    order = sorted(range(len(scores)), key=lambda i: (scores[i] is None, -(scores[i] or 0.0)))  # a stable sort
    selection = select(SPEC, tried(*scores))
    assert selection.chosen == order[0]
    assert selection.candidates[order[0]] == f"learning_rate={order[0]}, run key{order[0]}"


def test_one_test_of_the_chosen_network_after_the_record(tmp_path: Path) -> None:
    """Protects the test split: only the best is made ready, when the record is on the disk, and it is tested once."""
    results, tests = chosen(tried(50.0, None, 70.0, 60.0), tmp_path)
    assert results == {"semi.top1": 70.0, "semi.top5": 90.0}
    assert tests.ready == [("key2", "learning_rate=2, run key2")]
    assert tests.opened == ["key2"]
    assert json.loads((tmp_path / "selection.json").read_text())["scores"] == [50.0, None, 70.0, 60.0]


def test_the_same_choice_may_be_tested_again_after_a_crash_and_no_other(tmp_path: Path) -> None:
    """Protects from choosing by the test: what was recorded stands, whatever the candidates say later."""
    candidates = tried(50.0, 70.0)
    first, _ = chosen(candidates, tmp_path)
    assert chosen(candidates, tmp_path)[0] == first
    for other in (tried(80.0, 70.0), tried(50.0, 70.0, 60.0), tried(50.0, None)):
        tests = Tests(tmp_path)
        with pytest.raises(SealError, match="records another choice"):
            choose(SPEC, other, tests, Seal(tmp_path), Ranks.split(1))
        assert tests.ready == tests.opened == []


SEGMENTATION = Segmentation(
    kind="segmentation",
    evaluation_version=1,
    subject=SPEC.subject,
    data=SceneData(dataset="voc2012", train="train", select="valid", test="test", **DATASETS["voc2012"].identity()),
    crop=513,
    scales=(0.5, 2.0),
    flip=0.5,
    learning_rate=0.01,
    drops=(0.7, 0.9),
    steps=30000,
    batch=16,
    momentum=0.9,
    weight_decay=1e-4,
    seed=0,
)


def test_segmentations_are_chosen_by_their_mean_iou() -> None:
    """Protects Table 4a: candidates by their learning rates, and the metric that the paper reports."""
    others = [replace(SEGMENTATION, learning_rate=rate) for rate in (0.001, 0.1)]
    assert names(others) == ["learning_rate=0.001, steps=30000", "learning_rate=0.1, steps=30000"]
    assert {held_out(one) for one in others} == {"segmentation.valid.miou"}
    choice = replace(SPEC, evaluation="segmentation", data=SEGMENTATION.data, retrain="train+valid")
    assert select(choice, tried(1.0)).metric == "segmentation.valid.miou"
