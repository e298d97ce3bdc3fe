"""The loader: all back ends give the same batches, failures surface, and nothing stays behind or grows."""

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

from harness.config.schema import View
from harness.data import augment
from harness.data.batch import Batch, Drawer
from harness.data.beton import Beton
from harness.data.draws import Draws, centre, draw
from harness.data.errors import DataError
from harness.data.loader import Loader
from harness.data.plain import Plain
from harness.data.prepare import Dataset
from harness.data.resident import Resident
from harness.data.stand_in import jpeg, picture
from harness.data.stream import Stream
from harness.data.writer import Sample, write

pytestmark = [pytest.mark.ffcv, pytest.mark.timeout(120)]
BATCH, SIZE, IMAGES = 16, 32, 100


def samples(count: int, break_at: int | None = None) -> Iterator[Sample]:
    """Generated photographs of mixed sizes; `break_at` is one that ends early."""
    for number in range(count):
        pixels = picture(number % 5, number)
        data = jpeg(pixels)
        data = data[: len(data) // 2] if number == break_at else data
        yield Sample(data, b"", number % 5, 1000 + number, *pixels.shape[:2])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .beton of JPEGs."""
    path = tmp_path_factory.mktemp("photos") / "train.beton"
    write(path, "jpeg", samples(IMAGES), IMAGES)
    return path


@pytest.fixture(scope="module")
def loader(photos: Path) -> Iterator[Loader]:
    """FFCV over the photographs."""
    with Loader(photos, BATCH, SIZE) as loader:
        yield loader


@pytest.fixture
def drawer(second_view: View) -> Drawer:
    """Two views of each image, by its number alone."""

    def drawn(_part: range, index: np.ndarray, height: np.ndarray, width: np.ndarray) -> tuple[Draws, ...]:
        first, second = (
            draw(second_view, seed=0, epoch=0 * index, index=index, view_number=number, height=height, width=width)
            for number in (0, 1)
        )
        return first, second

    return drawn


def threads() -> int:
    """How many FFCV threads are alive."""
    return sum(type(thread).__name__ == "Epoch" for thread in threading.enumerate())


def joined(batches: list[Batch]) -> torch.Tensor:
    """All crops, in the order they came."""
    return torch.cat([batch.pixels for batch in batches])


def test_the_back_end_is_chosen_by_the_file_and_what_can_be_imported(
    loader: Loader, photos: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the tests below from comparing a back end with itself."""
    assert type(loader._reader).__name__ == "Compiled"
    assert isinstance(Loader(digits.beton("test"), BATCH, SIZE)._reader, Resident)
    monkeypatch.setitem(sys.modules, "ffcv", None)
    monkeypatch.delitem(sys.modules, "harness.data.compiled", raising=False)
    assert isinstance(Loader(photos, BATCH, SIZE)._reader, Plain)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.integers(0, IMAGES - 1), max_size=3 * BATCH + 1))
def test_ffcv_and_plain_torch_give_the_same_batches(
    loader: Loader, photos: Path, drawer: Drawer, order: list[int]
) -> None:
    """Protects runs on machines without FFCV: any length, repeats, a short last batch, none at all.

    Both decode by libjpeg-turbo, in builds of their own: levels may differ by one.
    """
    plain = Plain(Beton(photos), 2)
    ours = list(plain.batches(np.array(order, dtype=np.int64), BATCH, SIZE, drawer))
    theirs = list(loader.batches(np.array(order), drawer))
    plain.close()
    assert len(ours) == len(theirs) == -(-len(order) // BATCH)
    for a, b in zip(ours, theirs, strict=True):
        assert a.offset == b.offset
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.label, b.label)
        assert (a.pixels.int() - b.pixels.int()).abs().max() <= 1
        assert len(a.crops) == len(b.draws) == 2
    assert [int(i) - 1000 for batch in theirs for i in batch.index] == order
    assert [i for batch in theirs for i in batch.offset] == list(range(len(order)))


def test_without_numba_the_crops_are_torchs(photos: Path, drawer: Drawer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the bare GPU machine: neither FFCV nor numba, the same views to one level."""
    order = np.arange(BATCH)
    compiled = next(Plain(Beton(photos), 1).batches(order, BATCH, SIZE, drawer))
    monkeypatch.setattr(augment, "_fast", lambda _module: None)
    bare = next(Plain(Beton(photos), 1).batches(order, BATCH, SIZE, drawer))
    assert (compiled.pixels.int() - bare.pixels.int()).abs().max() <= 1


def test_raw_images_give_the_same_crops_by_ffcv_and_from_memory(digits: Dataset, drawer: Drawer) -> None:
    """Protects small sets, which lie decoded in memory, and large ones of the same form, which do not fit."""
    from harness.data.compiled import Compiled  # noqa: PLC0415 - imports FFCV

    beton, order = Beton(digits.beton("test")), np.random.default_rng(0).integers(0, 500, 3 * BATCH)
    resident = Resident(beton, torch.device("cpu")).batches(order, BATCH, SIZE, drawer)
    streamed = Compiled(beton, 1).batches(order, BATCH, SIZE, drawer)
    assert torch.equal(joined(list(resident)), joined(list(streamed)))


def test_batches_that_are_kept_stay_as_they_are(loader: Loader, photos: Path, drawer: Drawer) -> None:
    """Protects against FFCV's buffers, which are overwritten while later batches are read."""
    order = np.random.default_rng(0).integers(0, IMAGES, 20 * BATCH)
    kept, alone = list(loader.batches(order, drawer)), Plain(Beton(photos), 2)
    expected = torch.cat([batch.pixels.clone() for batch in alone.batches(order, BATCH, SIZE, drawer)])
    assert (joined(kept).int() - expected.int()).abs().max() <= 1


def test_the_same_views_come_out_for_every_world_and_after_a_resume(photos: Path, second_view: View) -> None:
    """Protects the science: what an update sees depends on seed and position, not on who reads it or from when."""
    stream, updates, batch = Stream(IMAGES, seed=3), 9, 12  # 108 images: into the second epoch

    def seen(world: int, first: int) -> torch.Tensor:
        """The crops of the updates from `first` on, as the ranks of a world read them."""
        return torch.cat([share(world, first, rank) for rank in range(world)], dim=1)

    def share(world: int, first: int, rank: int) -> torch.Tensor:
        positions = np.arange(first * batch, updates * batch).reshape(-1, world, batch // world)[:, rank].reshape(-1)
        epochs, offsets = stream.locate(positions)

        def drawn(part: range, index: np.ndarray, height: np.ndarray, width: np.ndarray) -> tuple[Draws, ...]:
            epoch = epochs[part.start : part.stop]
            view = draw(second_view, seed=3, epoch=epoch, index=index, view_number=0, height=height, width=width)
            return (view,)

        with Loader(photos, batch // world, SIZE) as loader:
            return joined(list(loader.batches(offsets, drawn))).view(-1, batch // world, SIZE, SIZE, 3)

    alone = seen(1, 0)
    for world in (2, 4):
        assert torch.equal(seen(world, 0), alone)
        assert torch.equal(seen(world, 5), alone[5:])


def test_one_loader_serves_many_orders_and_two_at_once(loader: Loader, drawer: Drawer) -> None:
    """Protects chunks of the stream, and an evaluation in the middle of training on the same loader."""
    first, second = loader.batches(np.arange(0, 50), drawer), loader.batches(np.arange(50, 100), drawer)
    pairs = list(zip(first, second, strict=True))
    assert [int(i) for a, _ in pairs for i in a.index] == list(range(1000, 1050))
    assert [int(i) for _, b in pairs for i in b.index] == list(range(1050, 1100))


def test_leaving_early_leaves_no_thread(loader: Loader, drawer: Drawer) -> None:
    """Protects long runs from a thread for every interrupted chunk."""
    for _ in range(3):
        for _batch in loader.batches(np.arange(IMAGES), drawer):
            break
    assert threads() == 0


def test_closing_ends_iterators_that_are_still_held(photos: Path, drawer: Drawer) -> None:
    """Protects the end of a run after an exception that keeps the iterator alive."""
    loader = Loader(photos, BATCH, SIZE)
    held = loader.batches(np.tile(np.arange(IMAGES), 20), drawer)
    next(held)
    assert threads() == 1
    loader.close()
    assert threads() == 0


def test_an_exception_in_the_thread_surfaces(loader: Loader, drawer: Drawer) -> None:
    """Protects against FFCV's endless wait when its pipeline raises."""

    def failing(part: range, *rest: Any) -> tuple[Draws, ...]:
        if part.start >= 2 * BATCH:
            raise RuntimeError("a broken draw")
        return drawer(part, *rest)

    seen = []
    with pytest.raises(DataError, match=r"train\.beton: reading failed: RuntimeError: a broken draw"):
        seen.extend(loader.batches(np.arange(IMAGES), failing))
    assert threads() == 0


@pytest.mark.parametrize("back_end", ["ffcv", "plain"])
def test_a_broken_jpeg_is_named(tmp_path: Path, drawer: Drawer, back_end: str) -> None:
    """Protects against FFCV's black images: it ignores what the decoder says."""
    path = tmp_path / "train.beton"
    write(path, "jpeg", samples(20, break_at=7), 20)
    plain, ffcv = Plain(Beton(path), 1), Loader(path, BATCH, SIZE)
    order = np.arange(20)
    batches = ffcv.batches(order, drawer) if back_end == "ffcv" else plain.batches(order, BATCH, SIZE, drawer)
    with pytest.raises(DataError, match=r"train\.beton: image 1007 cannot be decoded.*--check"):
        list(batches)


def test_a_dead_wait_ends(loader: Loader, monkeypatch: pytest.MonkeyPatch, drawer: Drawer) -> None:
    """Protects against storage that never answers."""
    compiled = sys.modules["harness.data.compiled"]
    awake = threading.Event()
    monkeypatch.setattr(compiled, "PATIENCE", 0.2)
    monkeypatch.setattr(compiled, "FAREWELL", 0.2)
    monkeypatch.setattr(compiled.Epoch, "_begin", lambda *_: awake.wait(20))
    started = time.monotonic()
    with pytest.raises(DataError, match="no batch came"):
        next(loader.batches(np.arange(IMAGES), drawer))
    assert time.monotonic() - started < 5
    awake.set()


@pytest.mark.parametrize("threads", [1, 64])
def test_torchs_thread_count_is_the_callers(photos: Path, drawer: Drawer, threads: int) -> None:
    """Protects the speed of training from FFCV, which sets it; more threads than cores are bounded, not refused."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with Loader(photos, BATCH, SIZE, threads=threads) as loader:
            assert sum(len(batch.label) for batch in loader.batches(np.arange(IMAGES), drawer)) == IMAGES
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_draws_decide_how_many_views_there_are(loader: Loader) -> None:
    """Protects evaluation, which looks at one view of each image."""
    (batch,) = loader.batches(np.arange(5), lambda _part, _index, height, width: (centre(height, width),))
    assert batch.pixels.shape == (5, 1, SIZE, SIZE, 3)


@pytest.mark.parametrize("order", [[IMAGES], [-1], [0, 1, 10**9]])
def test_positions_outside_the_file_are_refused(loader: Loader, drawer: Drawer, order: list[int]) -> None:
    """Protects against compiled code that reads whatever lies beyond its arrays."""
    with pytest.raises(DataError, match="holds 100 images"):
        loader.batches(np.array(order), drawer)


def test_a_broken_file_is_refused(photos: Path, tmp_path: Path) -> None:
    """Protects training from pixels that are not there: the file is checked before FFCV sees it."""
    path = tmp_path / "test.beton"
    path.write_bytes(photos.read_bytes()[:-1000])
    with pytest.raises(DataError, match="broken"):
        Loader(path, BATCH, SIZE)


@pytest.mark.parametrize(("batch", "size", "threads"), [(0, 8, 1), (8, 0, 1), (8, 8, 0)])
def test_senseless_sizes_are_refused(photos: Path, batch: int, size: int, threads: int) -> None:
    """Protects against FFCV's reading of 0 as every core."""
    with pytest.raises(ValueError, match="positive"):
        Loader(photos, batch, size, threads)
