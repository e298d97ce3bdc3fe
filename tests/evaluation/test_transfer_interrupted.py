"""Transfer's linear evaluation, killed or asked to end: the same numbers, and no choice is made twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transfers import Counted, Told, evaluation

from harness.config.schema import Strengths
from harness.data.dataset import Dataset
from harness.evaluation.features import FeatureStore
from harness.evaluation.sealed import Seal, SealError
from harness.evaluation.transfer import TransferEvaluation
from harness.training import loop

pytestmark = pytest.mark.timeout(120)


class Killed(BaseException):
    """As a signal would: nothing in the evaluation catches it."""


def killed_at(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the evaluation at a place, once."""
    owner, name = {
        "features": (FeatureStore, "_write"),
        "third fit": (TransferEvaluation, "_told"),
        "record": (Seal, "record"),
        "recorded": (TransferEvaluation, "_fits"),
        "test features": (TransferEvaluation, "_tested"),
        "test": (TransferEvaluation, "_found"),
    }[place]
    made, calls = getattr(owner, name), 0
    deadly = {"third fit": 3, "recorded": 2, "test": 5}.get(place, 1)

    def act(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == deadly:
            raise Killed
        return made(*given)

    monkeypatch.setattr(owner, name, act)


@pytest.mark.parametrize("place", ["features", "third fit", "record", "recorded", "test features", "test"])
def test_a_killed_one_ends_as_an_undisturbed_one(
    place: str, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects results from crashes at any point: the same numbers, and a recorded choice is not made again."""
    whole = evaluation(digits, tmp_path / "whole").score(Seal(tmp_path / "whole"))
    seal, told, solver = Seal(tmp_path / "cut"), Told(), Counted()
    with monkeypatch.context() as patch:
        killed_at(place, patch)
        with pytest.raises(Killed):
            evaluation(digits, tmp_path / "cut", solver, told).score(seal)
    recorded = place in ("recorded", "test features", "test")
    assert (seal.recorded() is not None) == recorded
    solver.asked.clear()
    again = evaluation(digits, tmp_path / "cut", solver, told).score(seal)
    assert again.results == whole.results
    assert {**again.selection, "recorded_unix_s": 0} == {**whole.selection, "recorded_unix_s": 0}
    assert solver.asked == [(1297, 1)] if recorded else [(1097, 4), (1297, 1)]
    assert sorted(told.reports) == [1, 2, 3, 4, 5]


def test_an_end_that_is_asked_for_loses_nothing(digits: Dataset, tmp_path: Path) -> None:
    """It comes between features and fits, or after the choice, and no fit and no image is gone through twice."""
    whole = evaluation(digits, tmp_path / "whole").score(Seal(tmp_path / "whole"))
    seal, told, solver, folder = Seal(tmp_path / "cut"), Told(stop_at=1), Counted(), tmp_path / "cut"
    with pytest.raises(loop.Stopped, match="update 0"):
        evaluation(digits, folder, solver, told).score(seal)
    assert len(list((folder / "features").iterdir())) == 1
    told.looks, told.stop_at = 0, 3
    with pytest.raises(loop.Stopped, match="update 4"):
        evaluation(digits, folder, solver, told).score(seal)
    assert seal.recorded() is not None
    assert evaluation(digits, folder, solver, told).score(seal).results == whole.results
    assert solver.asked == [(1097, 4), (1297, 1)]
    assert sorted(told.reports) == [1, 2, 3, 4, 5]


def test_a_choice_among_other_strengths_stays(digits: Dataset, tmp_path: Path) -> None:
    """What was recorded is not chosen anew, nor is the test split opened for anything else."""
    evaluation(digits, tmp_path).score(Seal(tmp_path))
    other = evaluation(digits, tmp_path, strengths=Strengths(count=2, low=1.0, high=10.0))
    with pytest.raises(SealError, match="among other strengths"):
        other.score(Seal(tmp_path))
