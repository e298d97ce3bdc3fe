"""Labels of a batch: class numbers as stored, flags as VOC marked them, and nothing for other records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.batch import Batch
from harness.data.dataset import Dataset
from harness.data.draws import Draws, centre
from harness.data.errors import DataError
from harness.data.labels import labels_of
from harness.data.loader import Loader
from harness.data.prepare import open_dataset, prepare
from harness.data.records import ABSENT, PRESENT
from harness.data.stand_in import samples

pytestmark = [pytest.mark.ffcv, pytest.mark.timeout(120)]


def _middle(_part: range, _index: np.ndarray, height: np.ndarray, width: np.ndarray) -> tuple[Draws]:
    return (centre(height, width),)


def batches(dataset: Dataset, split: str, size: int) -> list[Batch]:
    """The images of a split in its order."""
    with Loader(dataset.beton(split), size, 16) as loader:
        return list(loader.batches(dataset.indices(split), _middle))


def test_classes_are_the_stored_ones(digits: Dataset) -> None:
    """A class dataset's labels pass unchanged."""
    (batch,) = batches(digits, "valid", 200)
    assert labels_of(batch, "class") is batch.label


def test_flags_are_those_of_each_image(data: Path) -> None:
    """Protects VOC's classification: every image with its own row, in batches of any length, the last one short."""
    prepare("voc2007-stand-in", data, lambda _: None)
    voc = open_dataset("voc2007-stand-in", data)
    found = [labels_of(batch, "labels") for batch in batches(voc, "train", 7)]
    flags = torch.cat(found)
    assert flags.dtype == torch.int8
    assert flags.shape == (voc.manifest.counts["train"], voc.classes)
    assert set(flags.unique().tolist()) <= {PRESENT, 0, ABSENT}
    shown = (flags == PRESENT).sum(0)
    assert (shown > 0).all()
    whole = labels_of(batches(voc, "train", 1000)[0], "labels")
    assert torch.equal(flags, whole)
    main = [label for label, _, split in samples(voc.facts) if split == "train"]
    assert shown.sum() >= len(main), "every picture shows its own class, and some another"


def test_other_records_have_none(digits: Dataset) -> None:
    """Boxes, masks and depths are no labels of an image: said, before anything is trained on them."""
    (batch,) = batches(digits, "valid", 200)
    with pytest.raises(DataError, match="images with mask have no labels for a classifier"):
        labels_of(batch, "mask")
