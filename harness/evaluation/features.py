"""Features of whole splits by a frozen encoder: computed once, and kept on the disk under what they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from harness.config.durable import write_durably
from harness.data import augment
from harness.data.batch import Integers
from harness.data.dataset import Dataset
from harness.data.draws import Draws, centre_whole
from harness.data.labels import labels_of
from harness.data.loader import Loader
from harness.models.fingerprint import tensors_sha256
from harness.models.resnet import ResNet
from harness.training.loop import Diverged
from harness.training.ranks import Ranks, from_rank_0, world_and_rank

PREPROCESSING = 1  # of an image until the encoder has it: another number when a feature would be another
BATCH = 256


class NotFiniteError(Diverged):
    """An encoder whose features are no numbers has diverged, whatever its loss last was."""

    def __init__(self, path: Path, images: int) -> None:
        super().__init__(0, {})
        self.args = (f"the encoder gives {images} images features that are not finite: {path}",)


@dataclass(frozen=True)
class Features:
    """Of the images of a split, in its order: values (N, D) in single precision, and their labels, (N) or (N, C)."""

    values: Tensor
    labels: Tensor

    def joined(self, other: Features) -> Features:
        """These images, and then the others."""
        return Features(torch.cat([self.values, other.values]), torch.cat([self.labels, other.labels]))


class FeatureStore:
    """The features of one dataset by one encoder, a file a split, in the folder of the encoder's run.

    Nothing but the centre of each image is looked at, in eval mode. Images and encoder are told by their hashes, so
    that a file is never taken for what it is not; conventions that no tensor shows are the run's own.
    """

    def __init__(
        self,
        folder: Path,
        encoder: ResNet,
        dataset: Dataset,
        image_size: int,
        device: torch.device,
        ranks: Ranks,
        threads: int,
        note: Callable[[str], None],
    ) -> None:
        """`note` is told of a file that had to be made again."""
        self.dataset, self.device = dataset, device
        self._folder, self._size, self._ranks, self._threads, self._note = folder, image_size, ranks, threads, note
        self._encoder_sha256 = tensors_sha256(encoder.state_dict())
        self._encoder = encoder.to(device).eval().requires_grad_(False)
        self._held: dict[str, Features] = {}

    def keep(self, split: str) -> None:
        """Have the features of a split on the disk, and in rank 0's hands. Every rank calls this and computes a share.

        Raises NotFiniteError on every rank.
        """
        if not from_rank_0(lambda: self._hold(split)):
            computed = self._computed(split)
            if world_and_rank()[1] == 0:
                self._write(split, computed)
            if not from_rank_0(lambda: self._hold(split)):
                raise OSError(f"{self._path(split)} cannot be read just after it was written; look at that disk")
        broken = from_rank_0(lambda: int((~torch.isfinite(self.read(split).values)).any(1).sum()))
        if broken:
            raise NotFiniteError(self._path(split), broken)

    def read(self, split: str) -> Features:
        """What was kept, on rank 0."""
        return self._held[split]

    def _hold(self, split: str) -> bool:
        """Take the features of a split from the disk, where they are there."""
        kept = self._kept(split)
        if kept is not None:
            self._held[split] = Features(kept.values.to(self.device), kept.labels.to(self.device))
        return kept is not None

    def _facts(self, split: str) -> str:
        """All that a file's content depends on."""
        data, manifest = self.dataset, self.dataset.manifest
        facts = {
            "encoder": self._encoder_sha256,
            "dataset": [manifest.dataset, manifest.version, manifest.split_id, manifest.store, manifest.record],
            "file": manifest.files[data.file(split)]["sha256"],
            "images": [split, manifest.lists[split]["sha256"]],
            "image_size": self._size,
            "normalisation": [data.mean, data.std],
            "preprocessing": PREPROCESSING,
            "values": "float32",
        }
        return json.dumps(facts, sort_keys=True)

    def _path(self, split: str) -> Path:
        digest = hashlib.sha256(self._facts(split).encode()).hexdigest()[:16]
        return self._folder / f"{self.dataset.manifest.dataset}-{split}-{digest}.safetensors"

    def _kept(self, split: str) -> Features | None:
        """The content of a whole file; None where there is none. A file that is damaged is said to be."""
        path = self._path(split)
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                # copied: whoever cuts the file off would take the memory of what merely maps it
                tensors = {name: file.get_tensor(name).clone() for name in ("values", "labels")}
                noted = file.metadata() or {}
            if noted.get("facts") == self._facts(split) and noted.get("sha256") == tensors_sha256(tensors):
                return Features(**tensors)
            problem = "its content is not what was written"
        except (SafetensorError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        self._note(f"{path} cannot be used ({problem}); the features are computed anew")
        return None

    def _write(self, split: str, features: Features) -> None:
        tensors = {"values": features.values.cpu(), "labels": features.labels.cpu()}
        noted = {"facts": self._facts(split), "sha256": tensors_sha256(tensors)}
        write_durably(self._path(split), lambda file: file.write(save(tensors, noted)))

    def _computed(self, split: str) -> Features:
        data, plan = self.dataset, self._ranks.plan
        indices, record = data.indices(split), data.facts.record
        rows = torch.arange(len(indices), device=self.device)[plan.rank :: plan.world]
        values = torch.zeros(len(indices), self._encoder.features, device=self.device)
        shape, dtype = (
            ((len(indices),), torch.int64) if record == "class" else ((len(indices), data.classes), torch.int8)
        )
        labels = torch.zeros(shape, dtype=dtype, device=self.device)
        with Loader(data.beton(split), BATCH, self._size, self._threads, self.device) as loader, in_float32():
            for batch in loader.batches(indices[plan.rank :: plan.world], _centre):
                view = augment.views(batch.crops[0], batch.draws[0], data.mean, data.std, self._threads)
                here = rows[batch.offset.start : batch.offset.stop]
                values[here], labels[here] = self._encoder(view), labels_of(batch, record)
        # the rows of other ranks are zeros here
        return Features(self._ranks.total(values), self._ranks.total(labels))


@contextmanager
def in_float32() -> Iterator[None]:
    """Every product in single precision, and the same bits each time, on a GPU too.

    Each image passes the encoder once, which costs little beside the fits; what is chosen is a strength of
    regularisation down to 1e-6, which reaches directions of the features that are smaller than bfloat16's rounding.
    """
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def _centre(_part: range, _index: Integers, height: Integers, width: Integers) -> tuple[Draws]:
    """The one view of an image of which a feature is kept."""
    return (centre_whole(height, width),)
