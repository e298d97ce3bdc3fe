"""The mean intersection over union against sets of pixels, and scikit-learn's Jaccard index."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score
from torch import Tensor

from harness.data.errors import DataError
from harness.data.records import VOID
from harness.evaluation.iou import MaskTally
from harness.training.ranks import Ranks

CPU = torch.device("cpu")


def one_hot(said: Tensor, classes: int) -> Tensor:
    """Logits (B, classes, H, W) whose highest is that of the class said."""
    return torch.nn.functional.one_hot(said, classes).movedim(-1, 1).float()


def scored(logits: Tensor, masks: Tensor) -> float:
    """In one part."""
    tally = MaskTally(logits.shape[1], CPU)
    tally.add(logits, masks)
    return tally.results()["miou"]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6))
def test_equals_sets_of_pixels(seed: int, classes: int, shown: int) -> None:
    """Intersection and union as sets; void pixels are in none, and a class of neither side is left out."""
    generator = np.random.default_rng(seed)
    said = generator.integers(0, min(shown, classes), (3, 4, 5))
    masks = generator.integers(0, classes, (3, 4, 5))
    masks[generator.random((3, 4, 5)) < 0.3] = VOID
    masks[0, 0, 0] = 0
    counted = masks != VOID
    shares = []
    for label in range(classes):
        truth = {tuple(at) for at in np.argwhere((masks == label) & counted)}
        found = {tuple(at) for at in np.argwhere((said == label) & counted)}
        if truth | found:
            shares.append(len(truth & found) / len(truth | found))
    got = scored(one_hot(torch.from_numpy(said), classes), torch.from_numpy(masks).to(torch.uint8))
    assert got == pytest.approx(100 * np.mean(shares))
    present = sorted(set(masks[counted]) | set(said[counted]))
    assert got == pytest.approx(100 * jaccard_score(masks[counted], said[counted], labels=present, average="macro"))


def test_by_hand() -> None:
    """Class 0: 1 of 2 pixels; class 1: 1 of 3; class 2: 0 of 1; class 3, said of a void pixel alone, is left out."""
    masks = torch.tensor([[[0, 0, 1, 1, VOID]]], dtype=torch.uint8)
    said = torch.tensor([[[0, 1, 1, 2, 3]]])
    assert scored(one_hot(said, 4), masks) == pytest.approx(100 * (1 / 2 + 1 / 3 + 0) / 3)


def test_the_order_and_the_parts_are_nothing_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts add up: images one by one, or shared by ranks."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 5, 6, generator=generator)
    masks = torch.randint(0, 3, (4, 5, 6), generator=generator, dtype=torch.uint8)
    tally = MaskTally(3, CPU)
    for image in (2, 0, 3, 1):
        tally.add(logits[image : image + 1], masks[image : image + 1])
    assert tally.results() == {"miou": scored(logits, masks)}
    mine, other = MaskTally(3, CPU), MaskTally(3, CPU)
    mine.add(logits[:1], masks[:1])
    other.add(logits[1:], masks[1:])
    monkeypatch.setattr(Ranks, "total", lambda _, counts: counts + other._pixels)
    mine.gather(Ranks.split(1))
    assert mine.results() == tally.results()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_finds_nothing(value: float) -> None:
    """A diverged network scores 0, wherever its bad logits are; one bad pixel alone is wrong."""
    masks = torch.zeros(1, 2, 2, dtype=torch.uint8)
    for place in range(3):
        logits = one_hot(masks.long(), 3)
        logits[:, place] = value
        assert scored(logits, masks) == 0
    logits = one_hot(masks.long(), 3)
    logits[0, 1, 0, 0] = value
    assert scored(logits, masks) == pytest.approx(75)


def test_nothing_but_void() -> None:
    """There is nothing to average: said, not a number that is none."""
    with pytest.raises(DataError, match="no pixel of the masks has a class"):
        scored(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), VOID, dtype=torch.uint8))
