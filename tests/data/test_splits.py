"""Held-out images and subsets of labels: what was drawn once is drawn for ever."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.errors import DataError
from harness.data.splits import balanced_subset, hold_out_balanced, hold_out_random, last_by_md5, listed

SETS = st.lists(st.tuples(st.text("ab/é_", min_size=1, max_size=6), st.integers(0, 3)), unique_by=lambda row: row[0])
NAMES = [f"n{label:02d}/{label}_{number}.JPEG" for label in range(4) for number in range(10 + 5 * label)]
LABELS = np.array([int(name[1:3]) for name in NAMES])
EVERYTHING = np.arange(len(NAMES))


def _columns(rows: list[tuple[str, int]]) -> tuple[list[str], np.ndarray]:
    return [name for name, _ in rows], np.array([label for _, label in rows], dtype=np.int64)


def _named(names: list[str], numbers: np.ndarray) -> list[str]:
    return sorted(names[number] for number in numbers)


@given(SETS, st.data())
def test_a_random_hold_out_divides_the_candidates(rows: list[tuple[str, int]], data: st.DataObject) -> None:
    """Protects validation from training images: disjoint, complete, ascending, and the same in whatever order."""
    names, _ = _columns(rows)
    numbers = np.array(sorted(data.draw(st.sets(st.sampled_from(range(len(rows)))))) if rows else [], dtype=np.int64)
    count = data.draw(st.integers(0, len(numbers)))
    for rule in (hold_out_random, last_by_md5):
        rest, chosen = rule(names, numbers, count, "salt")
        assert len(chosen) == count
        assert sorted([*rest, *chosen]) == numbers.tolist()
        assert (np.diff(rest) > 0).all()
        assert (np.diff(chosen) > 0).all()
        turn = data.draw(st.permutations(range(len(names))))
        places = np.array([turn.index(number) for number in numbers], dtype=np.int64)
        _, again = rule([names[place] for place in turn], places, count, "salt")
        assert _named([names[place] for place in turn], again) == _named(names, chosen)


@given(SETS, st.integers(0, 3), st.randoms())
def test_a_balanced_hold_out_takes_as_many_of_each_class(
    rows: list[tuple[str, int]], per_class: int, random: Random
) -> None:
    """Protects the balance, and that a class too small is an error and not a smaller share."""
    names, labels = _columns(rows)
    everything = np.arange(len(names))
    sizes = np.bincount(labels, minlength=labels.max(initial=-1) + 1)
    if (sizes <= per_class).any():
        with pytest.raises(DataError, match=rf"salt: class {int((sizes <= per_class).argmax())} has"):
            hold_out_balanced(names, labels, everything, per_class, "salt")
        return
    rest, chosen = hold_out_balanced(names, labels, everything, per_class, "salt")
    assert sorted([*rest, *chosen]) == everything.tolist()
    assert (np.bincount(labels[chosen], minlength=len(sizes)) == per_class).all()
    shuffled = list(rows)
    random.shuffle(shuffled)
    again, places = _columns(shuffled)
    assert _named(again, hold_out_balanced(again, places, everything, per_class, "salt")[1]) == _named(names, chosen)


@given(SETS, st.floats(0, 100), st.floats(0, 100), st.randoms())
def test_subsets_are_nested_and_even(rows: list[tuple[str, int]], one: float, other: float, random: Random) -> None:
    """Protects Figure 4's curve: larger subsets hold the smaller, and classes differ only where they run out."""
    names, labels = _columns(rows)
    everything = np.arange(len(names))
    small, large = (balanced_subset(names, labels, everything, each, "salt") for each in sorted((one, other)))
    assert set(small) <= set(large)
    assert len(large) == round(max(one, other) / 100 * len(names))
    taken, sizes = (np.bincount(labels[each], minlength=4) for each in (large, everything))
    unfinished = taken[taken < sizes]
    assert unfinished.size == 0 or taken.max() - unfinished.min() <= 1
    shuffled = list(rows)
    random.shuffle(shuffled)
    again, places = _columns(shuffled)
    assert _named(again, balanced_subset(again, places, everything, max(one, other), "salt")) == _named(names, large)


def test_draws_never_change() -> None:
    """Protects the keys of recorded runs: the order is that of a sha256 spelled out here."""
    by_sha = sorted(NAMES, key=lambda name: hashlib.sha256(f"food101/{name}".encode()).hexdigest())
    by_class = [[name for name in by_sha if name.startswith(f"n{label:02d}")] for label in range(4)]
    assert _named(NAMES, hold_out_random(NAMES, EVERYTHING, 7, "food101")[1]) == sorted(by_sha[:7])
    _, chosen = hold_out_balanced(NAMES, LABELS, EVERYTHING, 2, "food101")
    assert _named(NAMES, chosen) == sorted(name for each in by_class for name in each[:2])
    third = sorted((each[2] for each in by_class), key=by_sha.index)
    subset = balanced_subset(NAMES, LABELS, EVERYTHING, 100 * 10 / 70, "food101")
    assert _named(NAMES, subset) == sorted([name for each in by_class for name in each[:2]] + third[:2])


def test_the_salt_tells_sets_apart() -> None:
    """Protects two draws from the same names, such as a subset of what another draw left, from being one draw."""
    draws = [hold_out_random(NAMES, EVERYTHING, 20, salt)[1].tolist() for salt in ("cars", "pets")]
    assert draws[0] != draws[1]


def test_the_last_of_imagenet_are_those_of_tensorflow() -> None:
    """Protects the released code's validation images: md5 of `train` and the base name, the last ones."""
    names = [Path(name).name for name in NAMES]
    rest, chosen = last_by_md5(names, EVERYTHING, 9, "train")
    ordered = sorted(names, key=lambda name: hashlib.md5(b"train" + name.encode()).hexdigest())
    assert _named(names, chosen) == sorted(ordered[-9:])
    assert len(rest) == len(names) - 9


def test_candidates_alone_are_drawn_from() -> None:
    """Protects the test split: numbers outside the candidates never come back."""
    numbers = np.flatnonzero(EVERYTHING % 2)
    parts = [
        *hold_out_random(NAMES, numbers, 5, "a"),
        *hold_out_balanced(NAMES, LABELS, numbers, 2, "a"),
        balanced_subset(NAMES, LABELS, numbers, 50, "a"),
    ]
    assert all(np.isin(part, numbers).all() for part in parts)


def test_more_than_there_are_cannot_be_held_out() -> None:
    """Protects a split's size from silently shrinking."""
    with pytest.raises(DataError, match=r"a: 71 images are to be held out, but there are only 70"):
        hold_out_random(NAMES, EVERYTHING, 71, "a")


def test_a_list_of_names(tmp_path: Path) -> None:
    """Protects the use of SimCLR's lists as they are published: one base name a line, in no order."""
    names = [Path(name).name for name in NAMES]
    path = tmp_path / "1percent.txt"
    path.write_text(f"{names[40]}\n{names[3]}\n\n{names[17]}\n")
    assert listed(path, names, EVERYTHING).tolist() == [3, 17, 40]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0_1.JPEG\nsomething.JPEG\n", r"1percent.txt, line 2: 'something.JPEG' is none of the 69 images"),
        ("0_0.JPEG\n", r"line 1: '0_0.JPEG' is none of the 69"),
        ("a\n0_1.JPEG\nb\nc\nd\ne\n", r"line 1: 'a', line 3: 'b', line 4: 'c' \(and 2 more\) are none of the 69"),
        ("0_1.JPEG\n0_2.JPEG\n0_1.JPEG\n", r"line 3: '0_1.JPEG' is already on line 1"),
        ("\n", r"1percent.txt lists no image"),
    ],
)
def test_a_wrong_list_is_refused(text: str, words: str, tmp_path: Path) -> None:
    """Protects from training on fewer images than the list says, or on one that is not in the split."""
    path = tmp_path / "1percent.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        listed(path, [Path(name).name for name in NAMES], EVERYTHING[1:])


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    """Protects the person from a traceback when the path is wrong."""
    with pytest.raises(DataError, match=r"list of images .*/10percent.txt cannot be read"):
        listed(tmp_path / "10percent.txt", NAMES, EVERYTHING)
