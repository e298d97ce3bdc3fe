"""AP50 against VOC's development kit of 2007, written out in its own coordinates, and by hand."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.data.errors import DataError
from harness.data.records import ABSENT, BOX, DIFFICULT, PRESENT
from harness.evaluation.detections import BoxTally, judge
from harness.training.ranks import Ranks

CPU = torch.device("cpu")
Box = tuple[int, int, int, int]  # left, top, right, bottom as the records have them
Image = tuple[list[tuple[Box, float, int]], list[tuple[Box, int, int]]]  # detections and scores; objects and difficulty


def scored(images: list[Image], classes: int, order: list[int] | None = None) -> float:
    """By BoxTally, the images added in some order."""
    tally = BoxTally(len(images), 8, classes, CPU)
    for row in order or range(len(images)):
        add(tally, row, images[row])
    return tally.results()["ap50"]


def add(tally: BoxTally, row: int, image: Image) -> None:
    """One image."""
    found, objects = image
    tally.add(row, *tensors(found), truth(objects))


def tensors(found: list[tuple[Box, float, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and classes."""
    boxes = torch.tensor([box for box, _, _ in found], dtype=torch.float32).view(-1, 4)
    return boxes, torch.tensor([score for _, score, _ in found]), torch.tensor([c for _, _, c in found]).long()


def truth(objects: list[tuple[Box, int, int]]) -> Tensor:
    """Rows as decode_boxes gives them."""
    return torch.tensor([[*box, label, hard] for box, label, hard in objects], dtype=torch.int32).view(-1, BOX)


def development_kit(images: list[Image], classes: int) -> Fraction | None:
    """VOCevaldet.m of 2007 for each class, in fractions: pixels from 1, the last ones inside."""
    precisions = []
    for label in range(classes):
        truths = [[(inside(box), hard) for box, c, hard in objects if c == label] for _, objects in images]
        positives = sum(not hard for image in truths for _, hard in image)
        if not positives:
            continue
        said = [(score, i, inside(box)) for i, (found, _) in enumerate(images) for box, score, c in found if c == label]
        said.sort(key=lambda one: -one[0])  # stable, as Matlab's
        detected = [[False] * len(image) for image in truths]
        points, right, wrong = [], 0, 0
        for _, i, box in said:
            overlaps = [overlap(box, other) for other, _ in truths[i]]
            best = max(overlaps, default=Fraction(0))
            if best >= Fraction(1, 2):
                which = overlaps.index(best)
                if truths[i][which][1]:
                    continue
                right, wrong = right + (not detected[i][which]), wrong + detected[i][which]
                detected[i][which] = True
            else:
                wrong += 1
            points.append((Fraction(right, positives), Fraction(right, right + wrong)))
        levels = [Fraction(tenth, 10) for tenth in range(11)]
        best_at = [max((p for recall, p in points if recall >= t), default=Fraction(0)) for t in levels]
        precisions.append(sum(best_at, Fraction(0)) / 11)
    return sum(precisions, Fraction(0)) / len(precisions) if precisions else None


def inside(box: Box) -> Box:
    """xmin, ymin, xmax, ymax as in the annotations."""
    left, top, right, bottom = box
    return left + 1, top + 1, right, bottom


def overlap(one: Box, other: Box) -> Fraction:
    """Pixels in both over pixels in either, with the kit's + 1."""
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    if width <= 0 or height <= 0:
        return Fraction(0)
    areas = sum((b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (one, other))
    return Fraction(width * height, areas - width * height)


SIDES = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 4), st.integers(1, 4))
BOXES = SIDES.map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))  # few places: overlaps of exactly 1/2, and ties
FOUND = st.tuples(BOXES, st.sampled_from([0.25, 0.5, 0.75]), st.integers(0, 1))
OBJECTS = st.tuples(BOXES, st.integers(0, 1), st.sampled_from([0, 0, 1]))
IMAGES = st.lists(st.tuples(st.lists(FOUND, max_size=8), st.lists(OBJECTS, max_size=4)), min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(IMAGES, st.randoms())
def test_equals_the_development_kit(images: list[Image], random: Random) -> None:
    """Equal scores, overlaps of exactly a half, several on one object, difficult ones, images without either; and the
    order in which images come is nothing to it.
    """
    expected = development_kit(images, 2)
    assume(expected is not None)
    order = list(range(len(images)))
    random.shuffle(order)
    assert scored(images, 2, order) == pytest.approx(float(100 * expected), rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(IMAGES)
def test_the_truth_said_again_is_perfect(images: list[Image]) -> None:
    """Every object once, of scores all equal, is 100 %, whether or not difficult ones are said too."""
    truths = [[(*place, hard) for place, hard in {one[:2]: one[2] for one in objects}.items()] for _, objects in images]
    assume(any(not hard for objects in truths for _, _, hard in objects))
    for said in (0, 1):
        again = [([(box, 0.5, label) for box, label, hard in o if hard <= said], o) for o in truths]
        assert scored(again, 2) == pytest.approx(100)


ONE: Box = (0, 0, 10, 10)
HALF: Box = (0, 0, 10, 5)
LESS: Box = (0, 0, 10, 4)
FAR: Box = (20, 20, 30, 30)


def test_by_hand() -> None:
    """Right, a second time, a mistake, right: recalls 1/3 and 2/3 of three objects at precisions 1 and 2/4."""
    image = ([(ONE, 0.9, 0), (ONE, 0.8, 0), (LESS, 0.7, 0)], [(ONE, 0, 0)])
    other = ([(HALF, 0.6, 0)], [(ONE, 0, 0), (FAR, 0, 0)])
    assert scored([image, other], 1) == pytest.approx(100 * (4 * 1 + 3 * 2 / 4) / 11)


def test_each_verdict() -> None:
    """The half is enough; another class is none; who comes second is wrong by score, not by overlap."""
    objects = truth([(ONE, 0, 0), (FAR, 1, 1)])
    cases = [
        ([(HALF, 0.5, 0)], [PRESENT]),
        ([(LESS, 0.5, 0)], [ABSENT]),
        ([(ONE, 0.5, 1)], [ABSENT]),
        ([(ONE, 0.4, 0), (HALF, 0.5, 0)], [ABSENT, PRESENT]),
        ([(FAR, 0.4, 1), (FAR, 0.5, 1)], [DIFFICULT, DIFFICULT]),
        ([], []),
    ]
    for found, verdicts in cases:
        assert judge(*tensors(found), objects).tolist() == verdicts
        assert judge(*tensors(found), objects[:0]).tolist() == [ABSENT] * len(found)


def test_who_is_nearest_to_a_found_object_is_wrong_though_another_is_free() -> None:
    """The kit looks at the greatest overlap alone."""
    free: Box = (0, 0, 10, 8)
    found = [(ONE, 0.9, 0), (ONE, 0.8, 0)]
    assert judge(*tensors(found), truth([(ONE, 0, 0), (free, 0, 0)])).tolist() == [PRESENT, ABSENT]


def test_nothing_found_and_nothing_true() -> None:
    """No detection scores 0; a class with difficult objects alone is left out; without any object it is said."""
    hard, easy = [(FAR, 1, 1)], [(ONE, 0, 0)]
    assert scored([([], easy)], 2) == 0
    assert scored([([(ONE, 0.9, 0), (ONE, 0.9, 1)], easy + hard)], 2) == pytest.approx(100)
    for objects in ([], hard):
        with pytest.raises(DataError, match="no image has an object that is not difficult"):
            scored([([(FAR, 0.9, 1)], objects)], 2)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_finds_nothing(value: float) -> None:
    """Scores and boxes of a detector that diverged; a good detection beside them keeps its worth."""
    for bad in ((ONE, value, 0), ((0, 0, value, 10), 0.9, 0)):
        assert scored([([bad], [(ONE, 0, 0)])], 1) == 0
    assert scored([([(ONE, value, 0), (ONE, 0.1, 0)], [(ONE, 0, 0)])], 1) == pytest.approx(100)


def test_ranks_share_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each adds the rows that it looks at; all rows together are those of one rank."""
    images: list[Image] = [
        ([(ONE, 0.9, 0), (FAR, 0.3, 1)], [(ONE, 0, 0), (HALF, 1, 1)]),
        ([(LESS, 0.9, 0)], [(ONE, 0, 0)]),
        ([(ONE, 0.5, 0), (FAR, 0.9, 1)], [(ONE, 0, 0), (FAR, 1, 0)]),
    ]
    mine, other = BoxTally(3, 8, 2, CPU), BoxTally(3, 8, 2, CPU)
    add(mine, 1, images[1])
    for row in (0, 2):
        add(other, row, images[row])
    theirs = iter([other._scores, other._classes, other._verdicts, other._objects])
    monkeypatch.setattr(Ranks, "total", lambda _, counts: counts + next(theirs))
    mine.gather(Ranks.split(1))
    assert mine.results() == {"ap50": scored(images, 2)}
    assert 0 < scored(images, 2) < 100
