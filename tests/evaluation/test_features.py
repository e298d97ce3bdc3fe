"""Features on the disk: computed once, taken again by what they depend on alone, and never when they are damaged."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.data import augment
from harness.data.beton import Beton
from harness.data.dataset import Dataset
from harness.data.draws import unchanged
from harness.data.prepare import open_dataset, prepare
from harness.data.records import decode_labels
from harness.evaluation import features as room
from harness.evaluation.features import FeatureStore, NotFiniteError
from harness.models.resnet import ResNet
from harness.training.batch_plan import BatchPlan
from harness.training.ranks import Ranks

CPU = torch.device("cpu")
pytestmark = pytest.mark.timeout(120)


def encoder(seed: int = 0) -> ResNet:
    """An untrained encoder whose running statistics are not those of a new one."""
    torch.manual_seed(seed)
    made = ResNet("resnet_tiny", 1, "batch")
    for name, value in made.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_()
    return made


class Counted:
    """An encoder, and how many images have passed it."""

    def __init__(self, seed: int = 0) -> None:
        self.images, self.modes = 0, set[bool]()
        self.net = encoder(seed)
        self.net.register_forward_hook(self._count)

    def _count(self, module: torch.nn.Module, _given: Any, out: Tensor) -> None:
        self.images += len(out)
        self.modes.update(each.training for each in module.modules())


def store(folder: Path, counted: Counted, dataset: Dataset, size: int = 16, **changes: Any) -> FeatureStore:
    """What an evaluation in this process would hold."""
    options = {"device": CPU, "ranks": Ranks.split(1), "threads": 1, "note": pytest.fail, **changes}
    return FeatureStore(folder, counted.net, dataset, size, **options)


def kept(made: FeatureStore, split: str) -> room.Features:
    """Kept and read."""
    made.keep(split)
    return made.read(split)


def written_out(digits: Dataset, split: str, net: ResNet, size: int) -> tuple[Tensor, np.ndarray]:
    """Features and labels of whole digits, which are square, without loader or draws of ours."""
    beton, indices = Beton(digits.beton(split)), digits.indices(split)
    pixels = torch.from_numpy(beton.pixels(indices))
    zero, side = (np.full(len(indices), each) for each in (0, pixels.shape[1]))
    whole = unchanged(zero, zero, side, side)
    with torch.no_grad():
        values = net.eval()(augment.by_torch(augment.crop(pixels, whole, size), whole, digits.mean, digits.std))
    return values, beton.labels[indices]


def test_features_are_those_of_each_image_in_order(digits: Dataset, tmp_path: Path) -> None:
    """Protects the evaluation from another image's feature, from batch statistics, and from a narrower crop."""
    counted = Counted()
    before = {name: value.clone() for name, value in counted.net.state_dict().items()}
    for split in ("valid", "test"):
        found = kept(store(tmp_path, counted, digits), split)
        values, labels = written_out(digits, split, encoder(), 16)
        torch.testing.assert_close(found.values, values, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(found.labels, labels)
    assert counted.modes == {False}
    assert all(torch.equal(value, before[name]) for name, value in counted.net.state_dict().items())


def test_flags_stay_with_their_images(voc: Dataset, tmp_path: Path) -> None:
    """Protects VOC: the flags of the file are what its features carry, in the split's order."""
    found = kept(store(tmp_path, Counted(), voc), "test")
    beton = Beton(voc.beton("test"))
    flags = np.stack([decode_labels(beton.target(int(position))) for position in voc.indices("test")])
    np.testing.assert_array_equal(found.labels, flags)
    assert found.labels.dtype == torch.int8


def test_they_are_computed_once(digits: Dataset, tmp_path: Path) -> None:
    """A second evaluation of the same encoder reads them, bit for bit; the encoder sees no image again."""
    first, again = Counted(), Counted()
    made = kept(store(tmp_path, first, digits), "valid")
    read = kept(store(tmp_path, again, digits), "valid")
    assert (first.images, again.images) == (200, 0)
    assert torch.equal(made.values, read.values)
    assert torch.equal(made.labels, read.labels)
    assert read.values.dtype == torch.float32
    assert len(list(tmp_path.iterdir())) == 1


def changed_images(digits: Dataset) -> Dataset:
    """The same digits, but the file of another preparation."""
    files = {name: {**facts, "sha256": "0" * 64} for name, facts in digits.manifest.files.items()}
    return replace(digits, manifest=replace(digits.manifest, files=files))


def changed_list(digits: Dataset) -> Dataset:
    """The same digits, of which others are held out."""
    lists = {**digits.manifest.lists, "valid": digits.manifest.lists["valid"] | {"sha256": "0" * 64}}
    return replace(digits, manifest=replace(digits.manifest, lists=lists))


@pytest.mark.parametrize("what", ["encoder", "statistics", "images", "list", "size", "split", "preprocessing"])
def test_what_has_changed_is_computed(
    what: str, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects from a number of another encoder or of other images: each makes a file of its own."""
    store(tmp_path, Counted(), digits).keep("valid")
    (before,) = tmp_path.iterdir()
    counted, dataset, size, split = Counted(seed=1 if what == "encoder" else 0), digits, 16, "valid"
    if what == "statistics":
        counted.net.state_dict()["bn1.running_var"][3] += 1e-6
    elif what == "images":
        dataset = changed_images(digits)
    elif what == "list":
        dataset = changed_list(digits)
        monkeypatch.setattr(Dataset, "indices", lambda _self, _split: np.arange(200))
    elif what == "size":
        size = 17
    elif what == "split":
        split = "balanced-1"
    elif what == "preprocessing":
        monkeypatch.setattr(room, "PREPROCESSING", room.PREPROCESSING + 1)
    store(tmp_path, counted, dataset, size).keep(split)
    assert counted.images == len(digits.indices(split))
    assert len(list(tmp_path.iterdir())) == 2
    assert before.exists()


def cut_off(path: Path) -> None:
    """As a full disk or a broken copy leaves it."""
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def one_bit(path: Path) -> None:
    """In the last value."""
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def without_notes(path: Path) -> None:
    """A file of the same tensors that somebody else wrote."""
    save_file(load_file(path), path)


@pytest.mark.parametrize("damage", [cut_off, emptied, one_bit, without_notes])
def test_a_damaged_file_is_found_said_and_made_anew(
    damage: Callable[[Path], None], digits: Dataset, tmp_path: Path
) -> None:
    """Protects from a number made of garbage: the features are what they were before, and a note tells of it."""
    made = kept(store(tmp_path, Counted(), digits), "valid")
    (path,) = tmp_path.iterdir()
    damage(path)
    counted, notes = Counted(), list[str]()
    again = kept(store(tmp_path, counted, digits, note=notes.append), "valid")
    assert counted.images == 200
    assert torch.equal(made.values, again.values)
    (note,) = notes
    assert str(path) in note
    assert "computed anew" in note
    assert kept(store(tmp_path, Counted(), digits), "valid").values.shape == made.values.shape


def _keep_in_a_process(folder: Path, data: Path, start: Any) -> None:
    torch.set_num_threads(1)
    made = store(folder, Counted(), open_dataset("digits", data))
    start.wait()
    made.keep("test")


def test_two_processes_may_write_one_file(data: Path, digits: Dataset, tmp_path: Path) -> None:
    """Protects two evaluations that begin together: one whole file is left, and nothing half-written."""
    context = get_context("spawn")
    start = context.Barrier(2, timeout=60)
    both = [context.Process(target=_keep_in_a_process, args=(tmp_path, data, start)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(90)
    assert [each.exitcode for each in both] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1
    counted = Counted()
    store(tmp_path, counted, digits).keep("test")
    assert counted.images == 0


def test_an_encoder_of_no_numbers_has_diverged(digits: Dataset, tmp_path: Path) -> None:
    """Protects the cell of a broken encoder: an outcome with a sentence, again when its features are read."""
    counted = Counted()
    counted.net.conv1.weight.data.fill_(torch.nan)
    for _ in range(2):
        with pytest.raises(NotFiniteError, match="the encoder gives 200 images features that are not finite"):
            store(tmp_path, counted, digits).keep("valid")


def test_images_that_are_no_squares(data: Path, tmp_path: Path) -> None:
    """Photographs of many sizes: the whole shorter side is seen, which a stored one of that size shows exactly."""
    prepare("flowers-stand-in", data, lambda _: None)
    flowers = open_dataset("flowers-stand-in", data)
    beton, indices = Beton(flowers.beton("valid")), flowers.indices("valid")
    heights, widths = beton.heights[indices], beton.widths[indices]
    assert (heights != widths).any()
    drawn = room._centre(range(0), indices, heights, widths)[0]
    side = np.minimum(heights, widths)
    np.testing.assert_array_equal(drawn.height, side)
    np.testing.assert_array_equal(drawn.width, side)
    for start, extent in ((drawn.top, heights), (drawn.left, widths)):
        assert (np.abs((extent - side) - 2 * start) <= 1).all(), "as much is cut off on one side as on the other"
    found = kept(store(tmp_path, Counted(), flowers, 32), "valid")
    assert found.values.shape == (len(indices), encoder().features)


def test_ranks_share_the_images(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank computes its own images, and together they are the split: rows of others are zeros until the sum."""
    alone = kept(store(tmp_path / "alone", Counted(), digits), "valid")
    parts = []
    for rank in range(3):
        monkeypatch.setattr(Ranks, "total", lambda _self, counts: counts)
        ranks = Ranks(BatchPlan(3, 1, 3, rank))
        counted = Counted()
        parts.append(store(tmp_path, counted, digits, ranks=ranks)._computed("valid"))
        assert counted.images in (66, 67)
    total = torch.stack([part.values for part in parts]).sum(0)
    torch.testing.assert_close(total, alone.values, rtol=1e-5, atol=1e-5)
    assert torch.equal(torch.stack([part.labels for part in parts]).sum(0), alone.labels)
