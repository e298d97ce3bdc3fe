"""Schedules against the release's values, and their end points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.optim.schedules import learning_rate, peak_learning_rate, tau, tenths, total_updates

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "reference_schedules.npz")
IMAGES = 1281167
BATCH = 4096


@pytest.mark.parametrize(("epochs", "base", "tau_base"), [(300, 0.3, 0.99), (1000, 0.2, 0.996)])
def test_rates_and_taus_equal_the_release(epochs: int, base: float, tau_base: float) -> None:
    """K, the warm-up's length, and every sampled learning rate and tau of both recipes."""
    total, warmup = total_updates(epochs, IMAGES, BATCH), total_updates(10, IMAGES, BATCH)
    assert [total, warmup] == GOLDEN[f"sched{epochs}_total_warmup"].tolist()
    peak = peak_learning_rate(base, BATCH)
    steps = GOLDEN[f"sched{epochs}_steps"].tolist()
    rates = [learning_rate(k, total, warmup, peak) for k in steps]
    taus = [tau(k, total, tau_base) for k in steps]
    # the release computes in float32
    np.testing.assert_allclose(rates, GOLDEN[f"sched{epochs}_lr"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(taus, GOLDEN[f"sched{epochs}_tau"], rtol=0, atol=1e-6)


def test_end_points() -> None:
    """The first update's rate is 0, the peak stands where the warm-up ends, the end is 0, beyond it too."""
    assert learning_rate(0, 100, 10, 2.0) == 0
    assert learning_rate(5, 100, 10, 2.0) == pytest.approx(1.0)
    assert learning_rate(10, 100, 10, 2.0) == pytest.approx(2.0)
    assert learning_rate(55, 100, 10, 2.0) == pytest.approx(1.0)
    assert learning_rate(100, 100, 10, 2.0) == pytest.approx(0.0)
    assert learning_rate(101, 100, 10, 2.0) == pytest.approx(0.0)
    assert tau(0, 100, 0.99) == pytest.approx(0.99)
    assert tau(100, 100, 0.99) == 1


def test_without_warmup_the_first_rate_is_the_peak() -> None:
    """Zero warm-up updates, as in linear evaluation, must not divide by zero."""
    assert learning_rate(0, 100, 0, 2.0) == pytest.approx(2.0)


def test_updates_run_across_epochs() -> None:
    """The stream continues over the ends of epochs: no epoch drops its last partial batch."""
    assert total_updates(3, 10, 4) == 7


def test_adams_peak_is_its_base_rate() -> None:
    """Adam's step does not grow with the batch: no linear scaling; LARS and SGD keep theirs."""
    assert peak_learning_rate(3e-4, 128, "adam") == 3e-4
    assert peak_learning_rate(0.3, 4096, "lars") == peak_learning_rate(0.3, 4096) == pytest.approx(4.8)


def test_no_decay_stays_at_the_peak_after_the_warmup() -> None:
    """The RAFT paper's rate: the warm-up is the cosine's own, and then nothing moves."""
    rates = [learning_rate(k, 100, 10, 2.0, "none") for k in range(100)]
    assert rates[:10] == [learning_rate(k, 100, 10, 2.0) for k in range(10)]
    assert set(rates[10:]) == {2.0}


def test_a_constant_tau_never_moves() -> None:
    """The RAFT paper's target: no cosine."""
    assert {tau(k, 100, 0.996, "constant") for k in range(101)} == {0.996}


def test_a_rate_falls_to_a_tenth_at_each_drop() -> None:
    """Segmentation's 70 % and 90 % of 30,000 updates, and detection's million and 1.2 million of 1.5, to the update."""
    wanted = [(0, 0.1), (20_999, 0.1), (21_000, 0.01), (26_999, 0.01), (27_000, 0.001), (29_999, 0.001)]
    for update, rate in wanted:
        assert tenths(update, 30_000, 0.1, (0.7, 0.9)) == pytest.approx(rate, rel=1e-12)
    drops = (2 / 3, 0.8)
    for update, rate in [(999_999, 1e-3), (1_000_000, 1e-4), (1_199_999, 1e-4), (1_200_000, 1e-5)]:
        assert tenths(update, 1_500_000, 1e-3, drops) == pytest.approx(rate, rel=1e-12)
    assert tenths(99, 100, 0.3, ()) == 0.3
