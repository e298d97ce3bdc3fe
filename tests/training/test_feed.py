"""What an update is given: the views of a spec, in its precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import BYOL, pretrain

from harness.config.schema import View
from harness.data.prepare import Dataset
from harness.training.feed import Fed, Feed
from harness.training.ranks import Ranks


def fed(digits: Dataset, precision: str, views: int, first: int = 0) -> Fed:
    """The batch of an update of two statistics groups."""
    spec = pretrain(BYOL, update=16, statistics=8, precision=precision)
    two: tuple[View, ...] = (spec.data.views.first, replace(spec.data.views.second, solarize=0.9))
    feed = Feed(spec, two[:views], digits, torch.device("cpu"), Ranks.join(16, 8), 1)
    batch = next(feed.batches(first, first + 1))
    assert np.array_equal(np.sort(batch.images), np.sort(feed.wanted(first)))
    feed.close()
    return batch


def test_views_are_of_the_declared_precision(digits: Dataset) -> None:
    """Protects double precision from views that were made in single: the same to its digits, and not beyond."""
    single, double = (fed(digits, precision, 2) for precision in ("float32", "float64"))
    assert len(single.groups) == len(double.groups) == 2
    for ours, theirs in zip(single.groups, double.groups, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a.dtype, b.dtype) == (torch.float32, torch.float64)
            assert float((a - b).abs().median()) < 1e-5
            assert not torch.equal(a.double(), b)


@pytest.mark.parametrize("first", [0, 90])  # in the first epoch, and from it into the second
def test_one_view_is_the_first_of_two(digits: Dataset, first: int) -> None:
    """Protects labels: a supervised run sees the images, in the order and the view, that BYOL sees first."""
    one, two = (fed(digits, "float32", views, first) for views in (1, 2))
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.labels, two.labels)
    for (view,), (same, other) in zip(one.groups, two.groups, strict=True):
        assert torch.equal(view, same)
        assert not torch.equal(view, other)
