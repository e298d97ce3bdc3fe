"""AP50 against pycocotools, told to be VOC's of 2007: eleven points of recall, one overlap, detections without limit.

The two differ in whom a detection finds where it overlaps several objects by half: VOC asks the nearest alone, COCO
whoever is left. Objects here stand apart, so that no detection can; the difference itself is a test of its own.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from test_detections import Box, Image, inside, overlap, scored

CLASSES = 3
CELL, SIDE, GAP = 16, 3, 6  # an object lies in the middle of a cell of its own, GAP pixels from the border at least


def coco(images: list[Image], *, crowds: bool = False) -> float:
    """COCO's AP at 0.5. Difficult objects are crowds, or beyond the areas looked at: either way COCO ignores them.

    The levels of recall are exact tenths: those of linspace(0, 1, 11) are not, 3 of 10 objects lie below the third.
    """
    beyond, truths, found = 1e11, [], []
    for image, (detections, objects) in enumerate(images):
        truths += [
            {"image_id": image, "category_id": label, "bbox": extent(box), "iscrowd": int(crowds and hard)}
            | {"area": beyond if hard and not crowds else area(box)}
            for box, label, hard in objects
        ]
        found += [
            {"image_id": image, "category_id": label, "bbox": extent(box), "score": score}
            for box, score, label in detections
        ]
    with contextlib.redirect_stdout(io.StringIO()):  # it tells how long each part takes
        judge = COCOeval(dataset(truths, len(images)), dataset(found, len(images)), "bbox")
        judge.params.iouThrs = np.array([0.5])
        judge.params.recThrs = np.arange(11) / 10
        judge.params.areaRng, judge.params.areaRngLbl = [[0, beyond / 10]], ["all"]
        judge.params.maxDets = [1000]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][0, :, :, 0, 0]  # recalls, classes
    counted = precision[0] > -1  # a class without an object to find has no precision
    return float(100 * precision[:, counted].mean())


def dataset(rows: list[dict[str, Any]], images: int) -> COCO:
    """These rows as COCO reads them."""
    made = COCO()
    made.dataset = {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": label} for label in range(CLASSES)],
        "annotations": [{"area": row["bbox"][2] * row["bbox"][3], **row, "id": 1 + i} for i, row in enumerate(rows)],
    }
    made.createIndex()
    return made


def extent(box: Box) -> list[int]:
    """Left, top, width and height. COCO's pixels have sides of 1 as well: VOC's + 1 is in the records already."""
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]


def area(box: Box) -> int:
    """Pixels."""
    *_, width, height = extent(box)
    return width * height


@st.composite
def cells(draw: st.DrawFn) -> Box:
    """The place of an object: one of nine cells, in its middle."""
    column, row = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    left, top = column * CELL + GAP, row * CELL + GAP
    return left, top, left + draw(st.integers(1, SIDE)), top + draw(st.integers(1, SIDE))


@st.composite
def scenes(draw: st.DrawFn, difficulties: list[int]) -> Image:
    """Objects in cells of their own, and detections: some at an object with its sides moved, some anywhere."""
    places = draw(st.lists(cells(), max_size=5, unique_by=lambda box: (box[0], box[1])))
    objects = [(box, draw(st.integers(0, CLASSES - 1)), draw(st.sampled_from(difficulties))) for box in places]
    scores = st.sampled_from([0.2, 0.4, 0.6, 0.8])  # few, so that many are equal
    found = []
    for _ in range(draw(st.integers(0, 8))):
        if objects and draw(st.booleans()):
            (left, top, right, bottom), label, _ = draw(st.sampled_from(objects))
            nearer, farther = (draw(st.tuples(st.integers(0, 1), st.integers(0, 1))) for _ in range(2))
            box = (left - nearer[0], top - nearer[1], right + farther[0], bottom + farther[1])
            label = (label + draw(st.sampled_from([0, 0, 1]))) % CLASSES
        else:
            left, top = draw(st.integers(0, 40)), draw(st.integers(0, 40))
            box = (left, top, left + draw(st.integers(1, 40)), top + draw(st.integers(1, 40)))
            label = draw(st.integers(0, CLASSES - 1))
        found.append((box, draw(scores), label))
    return found, objects


def pages(difficulties: list[int]) -> st.SearchStrategy[list[Image]]:
    """Images, of which many have no object, no detection or neither; one at least has an object to find."""
    some = st.lists(st.one_of(scenes(difficulties), st.just(([], []))), min_size=1, max_size=6)
    return some.filter(lambda images: any(not hard for _, objects in images for *_, hard in objects))


@settings(max_examples=150, deadline=None)
@given(pages([0]))
def test_equals_coco(images: list[Image]) -> None:
    """Several classes and images, equal scores, several detections of one object, overlaps of exactly a half."""
    assert coco(images) == pytest.approx(scored(images, CLASSES), rel=1e-9, abs=1e-9)


def finds(box: Box, hard: Box) -> bool:
    """Whether VOC's overlap says that it found it."""
    return 2 * overlap(inside(box), inside(hard)) >= 1


def crowded(box: Box, hard: Box) -> bool:
    """Whether COCO's of a crowd does, which is the part of the detection that lies in it."""
    width = min(box[2], hard[2]) - max(box[0], hard[0])
    height = min(box[3], hard[3]) - max(box[1], hard[1])
    return 2 * max(width, 0) * max(height, 0) >= area(box)


@settings(max_examples=100, deadline=None)
@given(pages([0, 1]))
def test_difficult_objects_are_cocos_crowds(images: list[Image]) -> None:
    """Any number of detections may find one and none counts. Detections that lie in a crowd without being half of it
    are left out: COCO has them find it, VOC does not.
    """
    images = [
        (
            [(b, s, c) for b, s, c in found if all(finds(b, o) == crowded(b, o) for o, _, hard in objects if hard)],
            objects,
        )
        for found, objects in images
    ]
    assert coco(images, crowds=True) == pytest.approx(scored(images, CLASSES), rel=1e-9, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(pages([0, 1]))
def test_difficult_objects_are_those_that_coco_ignores(images: list[Image]) -> None:
    """By the overlap itself. A second detection of one is left out: COCO counts it as a mistake, VOC does not."""
    once: list[Image] = []
    for found, objects in images:
        kept, seen = [], set()
        for box, score, label in found:
            hits = {(o, label) for o, c, hard in objects if hard and c == label and finds(box, o)}
            if not hits & seen:
                kept.append((box, score, label))
            seen |= hits
        once.append((kept, objects))
    assert coco(once) == pytest.approx(scored(once, CLASSES), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("found", range(11))
def test_each_tenth_of_recall(found: int) -> None:
    """So many of ten objects are found, and nothing else: the levels up to there have precision 1."""
    images: list[Image] = [([((0, 0, 9, 9), 0.5, 0)] * (i < found), [((0, 0, 9, 9), 0, 0)]) for i in range(10)]
    assert scored(images, CLASSES) == pytest.approx(100 * (found + 1) / 11 if found else 0)
    assert coco(images) == pytest.approx(scored(images, CLASSES))


def test_where_the_two_differ() -> None:
    """What VOC calls wrong and COCO right, or the other way, with the numbers of both."""
    nearest, other, far = (0, 0, 10, 10), (0, 0, 10, 8), (20, 20, 30, 30)
    taken: list[Image] = [([(nearest, 0.9, 0), (nearest, 0.8, 0)], [(nearest, 0, 0), (other, 0, 0)])]
    assert (scored(taken, CLASSES), coco(taken)) == (pytest.approx(100 * 6 / 11), pytest.approx(100))
    twice: list[Image] = [([(far, 0.9, 0), (far, 0.8, 0), (nearest, 0.7, 0)], [(nearest, 0, 0), (far, 0, 1)])]
    assert (scored(twice, CLASSES), coco(twice)) == (pytest.approx(100), pytest.approx(50))
    part: list[Image] = [([((20, 20, 30, 24), 0.9, 0), (nearest, 0.7, 0)], [(nearest, 0, 0), (far, 0, 1)])]
    assert (scored(part, CLASSES), coco(part, crowds=True)) == (pytest.approx(50), pytest.approx(100))
