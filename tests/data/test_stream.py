"""The continuing stream of training images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import stream
from harness.data.stream import Stream


@given(images=st.integers(1, 200), seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
def test_every_epoch_sees_every_image_once(images: int, seed: int, epoch: int) -> None:
    """Protects the paper's notion of an epoch."""
    epochs, offsets = Stream(images, seed).locate(np.arange(images) + epoch * images)
    assert (epochs == epoch).all()
    assert sorted(offsets) == list(range(images))


@given(images=st.integers(1, 30), cuts=st.lists(st.integers(0, 150), max_size=8))
def test_positions_are_the_same_however_they_are_asked_for(images: int, cuts: list[int]) -> None:
    """Protects equality of one process, many ranks and a resumed run."""
    whole = Stream(images, 3).locate(np.arange(150))
    asked = Stream(images, 3)
    parts = [asked.locate(part) for part in np.split(np.arange(150), sorted(cuts))]
    for number in range(2):
        np.testing.assert_array_equal(whole[number], np.concatenate([part[number] for part in parts]))


def test_positions_may_come_in_any_order() -> None:
    """Protects ranks that take strided or scattered positions of a batch over the seam of two epochs."""
    positions = np.random.default_rng(0).permutation(100)
    epochs, offsets = Stream(30, 1).locate(np.arange(100))
    scattered = Stream(30, 1).locate(positions)
    np.testing.assert_array_equal(scattered[0], epochs[positions])
    np.testing.assert_array_equal(scattered[1], offsets[positions])


def test_orders_differ_between_epochs_and_seeds() -> None:
    """Protects against a shuffle that forgets one of its arguments."""
    orders = {tuple(stream.shuffle(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_never_changes() -> None:
    """Protects runs already recorded: these orders are part of their meaning."""
    assert stream.shuffle(10, 0, 0).tolist() == [2, 9, 7, 0, 6, 8, 5, 4, 3, 1]
    assert stream.shuffle(10, 7, 299).tolist() == [6, 5, 9, 8, 4, 2, 1, 7, 3, 0]


def test_two_epochs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the time of batches over a seam, which touch two epochs again and again."""
    made: list[int] = []
    shuffle = stream.shuffle
    monkeypatch.setattr(stream, "shuffle", lambda n, seed, epoch: (made.append(epoch), shuffle(n, seed, epoch))[1])
    asked = Stream(10, 0)
    for start in range(0, 40, 4):
        asked.locate(np.arange(start, start + 4))
    assert made == [0, 1, 2, 3]


def test_an_empty_stream_is_refused() -> None:
    """Protects against division by zero images far from its cause."""
    with pytest.raises(ValueError, match="at least one image"):
        Stream(0, 0)
