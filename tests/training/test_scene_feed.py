"""Which whole images an update sees: those of the stream, whatever the ranks, the resumption and the chunks."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from harness.data.dataset import Dataset
from harness.data.prepare import open_dataset, prepare
from harness.data.stream import Stream
from harness.training import scene_feed
from harness.training.batch_plan import BatchPlan
from harness.training.ranks import Ranks
from harness.training.scene_feed import SceneFeed

BATCH, TOTAL = 8, 20  # of 120 images: into the second epoch


@pytest.fixture(scope="module")
def voc2012(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    directory = tmp_path_factory.mktemp("scenes")
    prepare("voc2012-stand-in", directory, lambda _: None)
    return open_dataset("voc2012-stand-in", directory)


def seen(dataset: Dataset, plan: BatchPlan, first: int = 0) -> list[list[tuple[int, int]]]:
    """Epoch and number of each image of each update."""

    def make(epoch: int, number: int, _pixels: Tensor, _target: bytes) -> tuple[int, int]:
        return epoch, number

    feed = SceneFeed(dataset, "train", 5, make, Ranks(plan), 2)
    assert feed.images == 120
    found = list(feed.batches(first, TOTAL))
    for step, batch in enumerate(found, start=first):
        assert {number for _, number in batch} <= set(feed.wanted(step).tolist())
    feed.close()
    return found


def test_updates_are_those_of_the_stream(voc2012: Dataset) -> None:
    """Protects epochs: every image once in each, in its own order, with the epoch that its draws depend on."""
    found = [one for batch in seen(voc2012, BatchPlan(BATCH, BATCH)) for one in batch]
    epochs, places = Stream(120, 5).locate(np.arange(TOTAL * BATCH))
    assert found == list(zip(epochs.tolist(), voc2012.numbers("train")[places].tolist(), strict=True))
    assert {number for epoch, number in found if epoch == 0} == set(voc2012.numbers("train").tolist())


@pytest.mark.parametrize("statistics", [BATCH, 2, 1])
def test_ranks_share_an_update(voc2012: Dataset, statistics: int) -> None:
    """Protects numbers from the size of a cluster: two ranks see what one does, each image once."""
    alone = seen(voc2012, BatchPlan(BATCH, statistics))
    two = [seen(voc2012, BatchPlan(BATCH, statistics, 2, rank)) for rank in range(2)]
    assert [first + second for first, second in zip(*two, strict=True)] == alone


def test_neither_resumption_nor_chunks_change_it(voc2012: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects crashed runs, and the seams between pieces of a long stream."""
    whole = seen(voc2012, BatchPlan(BATCH, BATCH))
    assert seen(voc2012, BatchPlan(BATCH, BATCH), first=13) == whole[13:]
    monkeypatch.setattr(scene_feed, "CHUNK_IMAGES", 3 * BATCH)
    assert seen(voc2012, BatchPlan(BATCH, BATCH)) == whole
