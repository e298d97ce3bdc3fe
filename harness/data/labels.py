"""What a batch's images show, as classifiers learn it and are scored by it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.config.datasets import RecordType
from harness.data.batch import Batch
from harness.data.errors import DataError
from harness.data.records import decode_labels


def labels_of(batch: Batch, record: RecordType) -> Tensor:
    """(B) class numbers, or (B, classes) flags of harness.data.records where an image may show several classes."""
    if record == "class":
        return batch.label
    if record == "labels":
        flags = np.stack([decode_labels(target) for target in batch.targets])
        return torch.from_numpy(flags).to(batch.label.device)
    raise DataError(f"images with {record} have no labels for a classifier; take a dataset with classes or flags")
