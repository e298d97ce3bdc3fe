"""The generator against numpy's own Philox."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.data import philox

word = st.integers(0, 2**64 - 1)


@given(counter=st.tuples(st.integers(0, 2**63), word, word, word), key=st.tuples(word, word))
def test_bits_are_those_of_numpys_philox(counter: tuple[int, ...], key: tuple[int, int]) -> None:
    """Protects every random number we draw: the outside truth is numpy's implementation in C."""
    key_words, counter_words = np.array(key, dtype=np.uint64), np.array(counter, dtype=np.uint64)
    theirs = np.random.Philox(key=key_words, counter=counter_words).random_raw(8).reshape(2, 4)
    first = np.uint64(counter[0] + 1) + np.arange(2, dtype=np.uint64)  # numpy counts up before it draws
    ours = philox.bits((first, *(np.uint64(each) for each in counter[1:])), key)
    np.testing.assert_array_equal(ours, theirs)


def test_uniforms_are_in_the_half_open_unit_interval() -> None:
    """Protects integer offsets and probabilities of 1, which a uniform number of exactly 1 would break."""
    extremes = philox.uniforms(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert extremes[0] == 0.0
    assert 1 - 2**-52 < extremes[1] < 1.0


def test_uniforms_are_uniform() -> None:
    """Protects against a lost half-word: mean and deviation of 40 000 numbers."""
    zero = np.uint64(0)
    u = philox.uniforms(philox.bits((np.arange(10_000, dtype=np.uint64), zero, zero, zero), (0, 0)))
    assert abs(u.mean() - 0.5) < 0.01
    assert abs(u.std() - 12**-0.5) < 0.01
