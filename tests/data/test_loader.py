"""The loader: both back ends give the same batches, failures surface, and no thread stays behind."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.data.beton import Beton
from harness.data.errors import DataError
from harness.data.loader import Loader, Plain
from harness.data.prepare import Dataset

pytestmark = [pytest.mark.ffcv, pytest.mark.timeout(120)]
BATCH = 32


@pytest.fixture(scope="module")
def loader(digits: Dataset) -> Iterator[Loader]:
    """FFCV over the digits' test split."""
    with Loader(digits.beton("test"), BATCH) as loader:
        yield loader


@pytest.fixture
def plain(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> Loader:
    """The same on a machine where FFCV cannot be imported."""
    monkeypatch.setitem(sys.modules, "ffcv", None)
    monkeypatch.delitem(sys.modules, "harness.data.compiled", raising=False)
    return Loader(digits.beton("test"), BATCH)


def threads() -> int:
    """How many FFCV threads are alive."""
    return sum(type(thread).__name__ == "Epoch" for thread in threading.enumerate())


def test_the_back_end_is_chosen_by_what_can_be_imported(loader: Loader, plain: Loader) -> None:
    """Protects the tests below from comparing a back end with itself."""
    assert type(loader._reader).__name__ == "Compiled"
    assert isinstance(plain._reader, Plain)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.integers(0, 499), max_size=3 * BATCH + 1))
def test_both_back_ends_give_the_same_batches(loader: Loader, plain: Loader, order: list[int]) -> None:
    """Protects runs on machines without FFCV: any length, repeats, a short last batch, none at all."""
    ours, theirs = list(plain.batches(np.array(order))), list(loader.batches(np.array(order)))
    assert len(ours) == len(theirs) == -(-len(order) // BATCH)
    for a, b in zip(ours, theirs, strict=True):
        assert a.offset == b.offset
        for name in ("index", "label", "pixels"):
            assert getattr(a, name).dtype == getattr(b, name).dtype
            assert torch.equal(getattr(a, name), getattr(b, name))
    assert [int(i) for batch in theirs for i in batch.index] == order
    assert [i for batch in theirs for i in batch.offset] == list(range(len(order)))


def test_batches_that_are_kept_stay_as_they_are(loader: Loader, digits: Dataset) -> None:
    """Protects against FFCV's buffers, which are overwritten while later batches are read."""
    order = np.random.default_rng(0).integers(0, 500, 20 * BATCH)
    kept = list(loader.batches(order))
    expected = Beton(digits.beton("test")).pixels(order)
    np.testing.assert_array_equal(torch.cat([batch.pixels for batch in kept]).numpy(), expected)


def test_one_loader_serves_many_orders_and_two_at_once(loader: Loader) -> None:
    """Protects chunks of the stream, and an evaluation in the middle of training on the same loader."""
    first, second = loader.batches(np.arange(0, 200)), loader.batches(np.arange(200, 400))
    pairs = list(zip(first, second, strict=True))
    assert [int(i) for a, _ in pairs for i in a.index] == list(range(200))
    assert [int(i) for _, b in pairs for i in b.index] == list(range(200, 400))


def test_leaving_early_leaves_no_thread(loader: Loader) -> None:
    """Protects long runs from a thread for every interrupted chunk."""
    for _ in range(3):
        for _batch in loader.batches(np.arange(500)):
            break
    assert threads() == 0


def test_closing_ends_iterators_that_are_still_held(digits: Dataset) -> None:
    """Protects the end of a run after an exception that keeps the iterator alive."""
    loader = Loader(digits.beton("test"), BATCH)
    held = loader.batches(np.arange(500))
    next(held)
    assert threads() == 1
    loader.close()
    assert threads() == 0


def test_an_exception_in_the_thread_surfaces(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against FFCV's endless wait when its pipeline raises."""
    epoch = sys.modules["harness.data.compiled"].Epoch
    original = epoch.run_pipeline

    def failing(self: Any, number: int, *rest: Any) -> Any:
        if number == 2:
            raise RuntimeError("a broken image")
        return original(self, number, *rest)

    monkeypatch.setattr(epoch, "run_pipeline", failing)
    seen = []
    with pytest.raises(DataError, match=r"test\.beton: reading failed: RuntimeError: a broken image"):
        seen.extend(loader.batches(np.arange(500)))
    assert threads() == 0


def test_a_dead_wait_ends(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against storage that never answers."""
    compiled = sys.modules["harness.data.compiled"]
    awake = threading.Event()
    monkeypatch.setattr(compiled, "PATIENCE", 0.2)
    monkeypatch.setattr(compiled, "FAREWELL", 0.2)
    monkeypatch.setattr(compiled.Epoch, "run_pipeline", lambda *_: awake.wait(20))
    started = time.monotonic()
    with pytest.raises(DataError, match="no batch came"):
        next(loader.batches(np.arange(500)))
    assert time.monotonic() - started < 5
    awake.set()


@pytest.mark.parametrize("threads", [1, 64])
def test_torchs_thread_count_is_the_callers(digits: Dataset, threads: int) -> None:
    """Protects the speed of training from FFCV, which sets it; more threads than cores are bounded, not refused."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with Loader(digits.beton("test"), BATCH, threads=threads) as loader:
            assert sum(len(batch.label) for batch in loader.batches(np.arange(500))) == 500
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("order", [[500], [-1], [0, 1, 10**9]])
def test_positions_outside_the_file_are_refused(loader: Loader, order: list[int]) -> None:
    """Protects against compiled code that reads whatever lies beyond its arrays."""
    with pytest.raises(DataError, match="holds 500 images"):
        loader.batches(np.array(order))


def test_a_broken_file_is_refused(digits: Dataset, tmp_path: Path) -> None:
    """Protects training from pixels that are not there: the file is checked before FFCV sees it."""
    path = tmp_path / "test.beton"
    path.write_bytes(digits.beton("test").read_bytes()[:-1000])
    with pytest.raises(DataError, match="broken"):
        Loader(path, BATCH)


@pytest.mark.parametrize(("batch", "threads"), [(0, 1), (8, 0)])
def test_senseless_sizes_are_refused(digits: Dataset, batch: int, threads: int) -> None:
    """Protects against FFCV's reading of 0 as every core."""
    with pytest.raises(ValueError, match="positive"):
        Loader(digits.beton("test"), batch, threads)
