"""Writing .beton files: what comes out is what went in, for us and for FFCV."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import writer
from harness.data.beton import SAMPLE, SAMPLES_AT, Beton
from harness.data.errors import DataError
from harness.data.writer import Sample, write


def samples(count: int, largest: int, targets: bool = True, seed: int = 0) -> list[Sample]:
    """Samples of random bytes and sizes; every third has no target."""
    rng = np.random.default_rng(seed)
    return [
        Sample(
            image=rng.bytes(int(rng.integers(1, largest))),
            target=rng.bytes(int(rng.integers(0, 40))) if targets and number % 3 else b"",
            label=number % 7 - 1,
            index=3 * number + 1,
            height=int(rng.integers(1, 3000)),
            width=int(rng.integers(1, 3000)),
        )
        for number in range(count)
    ]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 40), largest=st.integers(2, 3000), targets=st.booleans())
def test_what_is_written_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, largest: int, targets: bool
) -> None:
    """Protects the bytes of images and targets, and everything that is stored beside them."""
    path, wanted = tmp_path_factory.mktemp("beton") / "a.beton", samples(count, largest, targets, seed)
    write(path, "jpeg", wanted, count)
    beton = Beton(path)
    assert (len(beton), beton.encoding, beton.targets) == (count, "jpeg", any(one.target for one in wanted))
    for position, one in enumerate(wanted):
        assert beton.image(position).tobytes() == one.image
        assert beton.target(position) == one.target
        stored = (beton.labels, beton.indices, beton.heights, beton.widths)
        assert [int(each[position]) for each in stored] == [one.label, one.index, one.height, one.width]


def test_raw_images_come_back_as_pixels(tmp_path: Path) -> None:
    """Protects raw sets: not square, not a multiple of anything, in the order asked for, repeats allowed."""
    images = np.random.default_rng(0).integers(0, 256, (150, 5, 7, 3), dtype=np.uint8)
    made = (Sample(image.tobytes(), b"", 0, number, 5, 7) for number, image in enumerate(images))
    write(tmp_path / "a.beton", "rgb", made, 150)
    order = np.array([149, 0, 3, 3])
    np.testing.assert_array_equal(Beton(tmp_path / "a.beton").pixels(order), images[order])


def test_small_sets_stay_small(tmp_path: Path) -> None:
    """Protects the stand-ins' size: data begin right after the metadata, and nothing is filled up to a page."""
    wanted = samples(10, 100)
    write(tmp_path / "a.beton", "jpeg", wanted, 10)
    assert Beton(tmp_path / "a.beton").starts[0] == SAMPLES_AT + 10 * SAMPLE.itemsize
    bare = sum(len(one.image) + len(one.target) for one in wanted)
    assert (tmp_path / "a.beton").stat().st_size < SAMPLES_AT + bare + 10 * (64 + 48)


def test_no_sample_straddles_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects FFCV's reader of pages, which knows one page for each sample."""
    monkeypatch.setattr(writer, "PAGE", 4096)
    wanted = samples(300, 2000)
    write(tmp_path / "a.beton", "jpeg", wanted, 300)
    beton = Beton(tmp_path / "a.beton")
    ends = beton.starts + [len(one.image) + len(one.target) for one in wanted]
    np.testing.assert_array_equal(beton.starts // 4096, (ends - 1) // 4096)
    assert [beton.image(position).tobytes() for position in range(300)] == [one.image for one in wanted]


def test_a_sample_larger_than_a_page_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the same reader; the error names the image."""
    monkeypatch.setattr(writer, "PAGE", 4096)
    with pytest.raises(DataError, match="image 5 has 4097 bytes"):
        write(tmp_path / "a.beton", "jpeg", [Sample(bytes(4000), bytes(97), 0, 5, 1, 1)], 1)


def test_fewer_samples_than_announced_are_a_whole_file(tmp_path: Path) -> None:
    """Protects preparing with images left out."""
    write(tmp_path / "a.beton", "jpeg", samples(7, 50), 9)
    assert len(Beton(tmp_path / "a.beton")) == 7
    with pytest.raises(DataError, match="no sample"):
        write(tmp_path / "b.beton", "jpeg", [], 3)


@pytest.mark.parametrize(("encoding", "count"), [("jpeg", 4), ("jpeg", 0), ("png", 5)])
def test_wrong_calls_are_refused(encoding: str, count: int, tmp_path: Path) -> None:
    """Protects the room that the metadata were given."""
    with pytest.raises(ValueError, match=r"a\.beton"):
        write(tmp_path / "a.beton", encoding, samples(5, 50), count)


def test_samples_may_come_in_any_order(tmp_path: Path) -> None:
    """Protects equal files from an owner's folders and from his shuffled shards: positions follow the numbers."""
    wanted = samples(30, 50)
    shuffled = [wanted[place] for place in np.random.default_rng(1).permutation(30)]
    write(tmp_path / "a.beton", "jpeg", shuffled, 30)
    beton = Beton(tmp_path / "a.beton")
    assert beton.indices.tolist() == [one.index for one in wanted]
    assert [beton.image(place).tobytes() for place in range(30)] == [one.image for one in wanted]
    assert [beton.target(place) for place in range(30)] == [one.target for one in wanted]


@pytest.mark.ffcv
def test_stock_ffcv_reads_our_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the format against the library it is from: its own loader and decoders, by memory map and by pages.

    In a process of its own: FFCV's loader changes numba's types for all that this one has compiled.
    """
    monkeypatch.setattr(writer, "PAGE", 1 << 21)
    path, wanted = tmp_path / "a.beton", list(samples(60, 200_000))
    write(path, "jpeg", wanted, 60)
    assert path.stat().st_size > 2 << 21
    sizes = [(len(one.image), len(one.target)) for one in wanted]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for in_pages in (False, True):
            found = pool.submit(stock, path, in_pages, sizes).result()
            assert found == [(one.image, one.target, one.label, one.index, one.height, one.width) for one in wanted]


def stock(path: Path, in_pages: bool, sizes: list[tuple[int, int]]) -> list[tuple[object, ...]]:
    """What FFCV gives, sample by sample, cut to the sizes that it does not tell."""
    from ffcv.fields.decoders import BytesDecoder, IntDecoder  # noqa: PLC0415 - absent on some machines
    from ffcv.loader import Loader, OrderOption  # noqa: PLC0415

    loader = Loader(
        str(path),
        batch_size=10,
        num_workers=1,
        os_cache=not in_pages,
        order=OrderOption.SEQUENTIAL,
        pipelines={
            **{name: [BytesDecoder()] for name in ("jpeg", "target")},
            **{name: [IntDecoder()] for name in ("label", "index", "height", "width")},
        },
    )
    found: list[tuple[object, ...]] = []
    for image, target, *numbers in loader:
        for row in range(len(image)):
            image_size, target_size = sizes[len(found)]
            content = image[row][:image_size].tobytes(), target[row][:target_size].tobytes()
            found.append((*content, *(int(each[row][0]) for each in numbers)))
    return found
