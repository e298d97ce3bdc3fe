"""The sealed test: no test split without a recorded choice, and none for another choice, ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.evaluation.sealed import Seal, SealError, Selection

CHOICE = Selection(metric="valid.top1", candidates=("a", "b", "c"), scores=(50.0, 70.0, 60.0))
OTHER = Selection(metric="valid.top1", candidates=("a", "b", "c"), scores=(80.0, 70.0, 60.0))


class Test:
    """A test split that counts how often it was looked at."""

    __test__ = False

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> str:
        self.looks += 1
        return "opened"


def test_the_best_is_chosen_and_among_equals_the_first() -> None:
    """Selection is a rule, not a person."""
    assert CHOICE.chosen == 1
    assert Selection(metric="m", candidates=("a", "b", "c"), scores=(1.0, 3.0, 3.0)).chosen == 1


def test_closed_without_a_record(tmp_path: Path) -> None:
    """Nothing recorded: the split is not even looked at."""
    test = Test()
    with pytest.raises(SealError, match="closed until"):
        Seal(tmp_path).open(CHOICE, test)
    assert test.looks == 0


def test_opens_for_the_recorded_choice_again_and_again(tmp_path: Path) -> None:
    """A crash between the choice and the result loses nothing, in this process or the next."""
    test = Test()
    first = Seal(tmp_path).record(CHOICE)
    assert first["chosen"] == "b"
    assert Seal(tmp_path).open(CHOICE, test) == "opened"
    assert Seal(tmp_path).record(CHOICE) == first, "read back from the disk, with its first time"
    assert Seal(tmp_path).open(CHOICE, test) == "opened"
    assert test.looks == 2


@pytest.mark.parametrize(
    "other",
    [OTHER, Selection(metric="valid.top1", candidates=("a", "b"), scores=(50.0, 70.0))],
    ids=["other scores", "other candidates"],
)
def test_another_choice_never_opens_it(tmp_path: Path, other: Selection) -> None:
    """What was chosen first stands: a second choice is neither recorded nor tested."""
    test = Test()
    Seal(tmp_path).record(CHOICE)
    with pytest.raises(SealError, match=r"another choice \(b\)"):
        Seal(tmp_path).record(other)
    with pytest.raises(SealError, match="the choice b alone"):
        Seal(tmp_path).open(other, test)
    assert test.looks == 0
    assert json.loads((tmp_path / "selection.json").read_text())["scores"] == [50.0, 70.0, 60.0]
