"""Whole images with their targets: the right ones, in order, whatever the threads."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from harness.data.beton import Beton
from harness.data.dataset import Dataset
from harness.data.errors import DataError
from harness.data.prepare import open_dataset, prepare
from harness.data.records import decode_mask
from harness.data.scenes import Scenes, uniforms

NAME = "voc2012-stand-in"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with images of many sizes and their masks."""
    directory = tmp_path_factory.mktemp("scenes")
    prepare(NAME, directory, lambda _: None)
    return directory


@pytest.fixture
def dataset(folder: Path) -> Dataset:
    return open_dataset(NAME, folder)


@pytest.fixture(params=[1, 3])
def scenes(dataset: Dataset, request: pytest.FixtureRequest) -> Iterator[Scenes]:
    """The held-out images, read by one thread or several."""
    made = Scenes(dataset, "valid", request.param)
    yield made
    made.close()


def kept(place: int, number: int, pixels: Tensor, target: bytes) -> tuple[int, int, Tensor, bytes]:
    return place, number, pixels, target


def test_images_come_in_their_order_with_their_own_masks(dataset: Dataset, scenes: Scenes) -> None:
    """Protects the pairing: pixels as PIL decodes the owner's file, and the mask of that file, for each place asked."""
    order = np.random.default_rng(0).permutation(len(scenes))[:11]
    batches = list(scenes.batches(order, 4, kept))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    found = [one for batch in batches for one in batch]
    file = Beton(dataset.beton("valid"))
    where = {int(number): position for position, number in enumerate(file.indices)}
    assert [place for place, *_ in found] == list(range(11))
    assert [number for _, number, *_ in found] == dataset.numbers("valid")[order].tolist()
    for _, number, pixels, target in found:
        with Image.open(io.BytesIO(file.image(where[number]).tobytes())) as image:
            expected = np.array(image.convert("RGB")).astype(int)
        assert pixels.shape == expected.shape
        assert np.abs(pixels.numpy().astype(int) - expected).max() <= 1
        assert target == file.target(where[number])
        assert decode_mask(target).shape == pixels.shape[:2]


def test_what_fails_in_a_thread_is_raised_where_it_is_asked_for(scenes: Scenes) -> None:
    """Protects from a wait without end; and the same scenes serve another order afterwards."""

    def make(place: int, *_all: object) -> int:
        if place == 5:
            raise InterruptedError("five")
        return place

    reading = scenes.batches(np.arange(12), 4, make)
    assert next(reading) == [0, 1, 2, 3]
    with pytest.raises(InterruptedError, match="five"):
        next(reading)
    assert [one for batch in scenes.batches(np.arange(3), 4, make) for one in batch] == [0, 1, 2]


def test_memory_stays_that_of_a_few_batches(scenes: Scenes) -> None:
    """Protects a machine from a split read whole: no more is made ahead than a batch or two."""
    made, lock = 0, threading.Lock()

    def make(*_all: object) -> None:
        nonlocal made
        with lock:
            made += 1

    reading = scenes.batches(np.arange(len(scenes)), 2, make)
    next(reading)
    reading.close()  # type: ignore[attr-defined]  # a generator
    assert 2 <= made <= 6


def test_an_image_that_cannot_be_decoded_is_named(folder: Path, tmp_path: Path) -> None:
    """Protects a person from a traceback of torchvision: which image of which file, and what to do."""
    shutil.copytree(folder / NAME, tmp_path / NAME)
    broken = open_dataset(NAME, tmp_path)
    file = Beton(broken.beton("valid"))
    position = int(broken.indices("valid")[2])
    with file.path.open("r+b") as raw:
        raw.seek(int(file.starts[position]))
        raw.write(b"\0" * 64)
    scenes = Scenes(open_dataset(NAME, tmp_path), "valid", 1)
    with pytest.raises(DataError, match=f"image {file.indices[position]} cannot be decoded .*harness prepare {NAME}"):
        list(scenes.batches(np.arange(4), 4, kept))
    scenes.close()


def test_draws_are_of_the_image_the_epoch_and_the_slot_alone() -> None:
    """Protects trained results: a slot more moves no other draw, and nothing else is drawn twice."""
    assert np.array_equal(uniforms(1, 2, 3, 9)[:5], uniforms(1, 2, 3, 5))
    many = np.concatenate(
        [uniforms(seed, epoch, number, 5) for seed in (0, 1) for epoch in (0, 1) for number in (0, 1)]
    )
    assert len(np.unique(many)) == many.size == 40
    wide = np.concatenate([uniforms(0, 0, number, 8) for number in range(500)])
    assert (wide.min(), wide.max()) == pytest.approx((0, 1), abs=0.01)
    assert wide.max() < 1
    assert wide.mean() == pytest.approx(0.5, abs=0.02)
