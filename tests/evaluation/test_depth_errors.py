"""Depth's measures against their definitions one pixel at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.config.metrics import METRICS
from harness.data.errors import DataError
from harness.evaluation.depth_errors import DepthTally
from harness.training.ranks import Ranks

CPU = torch.device("cpu")


def scored(predicted: Tensor, depth: Tensor) -> dict[str, float]:
    """In one part."""
    tally = DepthTally(CPU)
    tally.add(predicted, depth)
    return tally.results()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_equals_the_definitions(seed: int) -> None:
    """Over all pixels of both images with a depth, not over images: the second has fewer."""
    generator = np.random.default_rng(seed)
    depth = generator.uniform(0.5, 10, (2, 6, 5))
    predicted = depth * np.exp(generator.normal(0, 0.4, depth.shape))
    depth[1, :4] = 0
    depth[0, 0, 0] = np.nan
    pairs = [(p, d) for p, d in zip(predicted.flat, depth.flat, strict=True) if math.isfinite(d) and d > 0]
    assert len(pairs) == 29 + 10
    ratios = [max(d / p, p / d) for p, d in pairs]
    expected = {
        "pct_1.25": 100 * sum(r < 1.25 for r in ratios) / len(pairs),
        "pct_1.25_2": 100 * sum(r < 1.25**2 for r in ratios) / len(pairs),
        "pct_1.25_3": 100 * sum(r < 1.25**3 for r in ratios) / len(pairs),
        "rms": math.sqrt(sum((p - d) ** 2 for p, d in pairs) / len(pairs)),
        "rel": sum(abs(p - d) / d for p, d in pairs) / len(pairs),
    }
    parts = DepthTally(CPU)
    for image in (1, 0):
        parts.add(torch.from_numpy(predicted[image]), torch.from_numpy(depth[image]))
    for got in (scored(torch.from_numpy(predicted), torch.from_numpy(depth)), parts.results()):
        assert got == pytest.approx(expected, rel=1e-12)


def test_by_hand() -> None:
    """Ratios of 1, 1.25 (not below 1.25), 2 and 1.5; errors of 0, 1, 2 and 1 metres."""
    got = scored(torch.tensor([3.0, 5.0, 2.0, 2.0]), torch.tensor([3.0, 4.0, 4.0, 3.0]))
    shares = {"pct_1.25": 25.0, "pct_1.25_2": 75.0, "pct_1.25_3": 75.0}
    assert got == pytest.approx({**shares, "rms": math.sqrt(6 / 4), "rel": (0 + 1 / 4 + 1 / 2 + 1 / 3) / 4})


def test_the_names_are_the_tables() -> None:
    """Each measure has its place among the metrics of the results."""
    got = scored(torch.ones(2), torch.ones(2))
    assert {f"depth.{name}" for name in got} == {name for name in METRICS if name.startswith("depth.")}


def test_a_depth_behind_the_camera_is_beyond_every_threshold() -> None:
    """max(truth / said, said / truth) is negative there, which is below 1.25 too. Of 0 it is infinite."""
    got = scored(torch.tensor([-2.0, 0.0, 2.0]), torch.full((3,), 2.0))
    assert got["pct_1.25_3"] == pytest.approx(100 / 3)
    assert got["rel"] == pytest.approx((2 + 1 + 0) / 3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_is_infinitely_wrong(value: float) -> None:
    """One such pixel is within no threshold, and makes both errors infinite; no comparison with NaN hides it."""
    got = scored(torch.tensor([value, 2.0]), torch.tensor([1.0, 2.0]))
    assert got == {"pct_1.25": 50, "pct_1.25_2": 50, "pct_1.25_3": 50, "rms": math.inf, "rel": math.inf}


def test_pixels_without_a_depth_have_no_say() -> None:
    """Whatever was predicted there; and a split of nothing else is said to be so."""
    depth = torch.tensor([1.0, 0.0, torch.nan, -1.0])
    assert scored(torch.tensor([1.0, 5.0, torch.nan, 5.0]), depth) == scored(torch.ones(1), torch.ones(1))
    with pytest.raises(DataError, match="no pixel has a depth"):
        scored(torch.ones(3), depth[1:])


def test_ranks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of two ranks are those of one."""
    predicted, depth = torch.rand(4, 3, 2) + 0.5, torch.rand(4, 3, 2) + 0.5
    mine, other = DepthTally(CPU), DepthTally(CPU)
    mine.add(predicted[:1], depth[:1])
    other.add(predicted[1:], depth[1:])
    monkeypatch.setattr(Ranks, "total", lambda _, sums: sums + other._sums)
    mine.gather(Ranks.split(1))
    assert mine.results() == pytest.approx(scored(predicted, depth), rel=1e-12)
