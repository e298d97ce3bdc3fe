"""Accuracies against scikit-learn's, and VOC's average precision against one written out over sets."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from torch import Tensor

from harness.data.errors import DataError
from harness.data.records import ABSENT, DIFFICULT, PRESENT
from harness.evaluation import metrics

CPU = torch.device("cpu")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 20), st.integers(1, 40))
def test_accuracies_are_scikit_learns(seed: int, classes: int, images: int) -> None:
    """Top-1, top-5 and the mean per class of several heads at once; some classes have no image, and do not count."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(3, images, classes))
    labels = generator.integers(0, classes, images)
    counted = metrics.tally("class", 3, images, classes, CPU)
    for rows in torch.arange(images).split(7):
        counted.add(rows, torch.from_numpy(logits)[:, rows], torch.from_numpy(labels)[rows])
    for head, found in enumerate(counted.results()):
        for name, k in (("top1", 1), ("top5", 5)):
            expected = top_k_accuracy_score(labels, logits[head], k=k, labels=range(classes))
            assert found[name] == pytest.approx(100 * expected)
        named = logits[head].argmax(1)
        per_class = [np.mean(named[labels == each] == each) for each in np.unique(labels)]
        assert found["mean_per_class"] == pytest.approx(100 * np.mean(per_class))
        if set(named) <= set(labels) and len(set(labels)) > 1:  # it warns of others
            assert found["mean_per_class"] == pytest.approx(100 * balanced_accuracy_score(labels, named))


def test_equal_means_are_equal_numbers() -> None:
    """A choice among equals is the first's, not the one's that rounding favours among their sums."""
    labels = torch.arange(3).repeat_interleave(10)
    named = []
    for right in ((1, 2, 3), (3, 2, 1)):
        said = (labels + 1) % 3
        for each in range(3):
            said[10 * each : 10 * each + right[each]] = each
        named.append(torch.nn.functional.one_hot(said, 3))
    counted = metrics.tally("class", 2, 30, 3, CPU)
    counted.add(torch.arange(30), torch.stack(named).double(), labels)
    assert [found["mean_per_class"] for found in counted.results()] == [20.0, 20.0]
    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1


def test_fewer_classes_than_five() -> None:
    """With three classes every label is among the best five."""
    logits, labels = torch.randn(7, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    assert metrics.hits(logits, labels)[:, 1].all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_scores_nothing(value: float) -> None:
    """A diverged head is right about no image, whichever of its logits went first; its neighbour is unharmed."""
    labels = torch.arange(6)
    good = torch.eye(6) + 0.1
    for place in range(6):
        bad = good.clone()
        bad[:, place] = value
        of_bad, of_good = metrics.hits(torch.stack([bad, good]), labels)
        assert not of_bad.any()
        assert of_good[:, 0].all()
        flags = torch.full((6, 6), ABSENT, dtype=torch.int8).fill_diagonal_(PRESENT)
        assert metrics.map11(bad, flags) == 0
        assert metrics.map11(good, flags) == pytest.approx(100)


def written_out(scores: list[float], flags: list[int]) -> Fraction | None:
    """VOC 2007's average precision of one class, in exact fractions and without an array."""
    order = sorted(range(len(scores)), key=lambda image: -scores[image])
    order = [image for image in order if flags[image] != DIFFICULT]
    positives = [image for image in order if flags[image] == PRESENT]
    if not positives:
        return None
    points = []
    for depth in range(1, len(order) + 1):
        found = sum(flags[image] == PRESENT for image in order[:depth])
        points.append((Fraction(found, len(positives)), Fraction(found, depth)))
    levels = [Fraction(tenth, 10) for tenth in range(11)]
    best = [max((precision for recall, precision in points if recall >= t), default=Fraction(0)) for t in levels]
    return sum(best, Fraction(0)) / 11


def drawn(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Few distinct logits, so that many are equal, and any flags."""
    images, classes = draw(st.integers(1, 24)), draw(st.integers(1, 4))
    logits = draw(st.lists(st.integers(-3, 3), min_size=images * classes, max_size=images * classes))
    flags = draw(st.lists(st.sampled_from([ABSENT, DIFFICULT, PRESENT]), min_size=len(logits), max_size=len(logits)))
    shape = (images, classes)
    return torch.tensor(logits).double().view(shape), torch.tensor(flags, dtype=torch.int8).view(shape)


@settings(max_examples=200, deadline=None)
@given(st.composite(drawn)())
def test_average_precision_is_vocs(case: tuple[Tensor, Tensor]) -> None:
    """Table 3's VOC column: equal scores in the images' order, difficult images and classes nobody shows left out."""
    logits, flags = case
    each = [written_out(logits[:, c].tolist(), flags[:, c].tolist()) for c in range(flags.shape[1])]
    known = [one for one in each if one is not None]
    assume(known)
    assert metrics.map11(logits, flags) == pytest.approx(float(100 * sum(known) / len(known)), rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.composite(drawn)(), st.integers(0, 2**32 - 1))
def test_a_difficult_image_and_a_monotone_scale_are_nothing_to_it(case: tuple[Tensor, Tensor], seed: int) -> None:
    """Ranks alone matter, and what is said of a difficult image moves nothing."""
    logits, flags = case
    assume((flags == PRESENT).any())
    noise = 10 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed)).double()
    changed = torch.where(flags == DIFFICULT, noise, torch.exp(logits) - 5)
    assert metrics.map11(changed, flags) == metrics.map11(logits, flags)


def test_average_precision_by_hand() -> None:
    """Positives at ranks 1 and 3 of 4: precision 1 up to a recall of 0.5 (6 levels), 2/3 beyond (5)."""
    logits = torch.tensor([[4.0], [3.0], [2.0], [1.0]])
    flags = torch.tensor([[PRESENT], [ABSENT], [PRESENT], [ABSENT]], dtype=torch.int8)
    assert metrics.map11(logits, flags) == pytest.approx(100 * (6 + 5 * 2 / 3) / 11)


def test_a_recall_of_three_tenths_reaches_the_level() -> None:
    """3 of 10 positives come first, then nothing but mistakes: 4 levels of precision 1, not 3."""
    flags = torch.tensor([PRESENT] * 3 + [ABSENT] * 1000 + [PRESENT] * 7, dtype=torch.int8)[:, None]
    logits = -torch.arange(len(flags)).double()[:, None]
    assert metrics.map11(logits, flags) == pytest.approx(100 * (4 + 7 * 10 / 1010) / 11)


def test_no_positive_at_all() -> None:
    """There is nothing to average: said, not a number that is none."""
    with pytest.raises(DataError, match="no image shows any class"):
        metrics.map11(torch.zeros(3, 2), torch.full((3, 2), ABSENT, dtype=torch.int8))
