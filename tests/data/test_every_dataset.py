"""Every dataset from its owner's files to batches: generate, prepare, check, and read one epoch."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.config.datasets import REAL, STAND_IN
from harness.data import augment
from harness.data.catalogue import CATALOGUE, entry_of, facts_of
from harness.data.check import check
from harness.data.draws import Draws, centre
from harness.data.loader import Loader
from harness.data.prepare import Dataset, add_list, open_dataset, prepare
from harness.data.source import SPLITS, Source
from harness.data.source import Image as Stored
from harness.data.stream import Stream

SIZE = 48
NAMES = [name + STAND_IN for name in REAL if not CATALOGUE[name].built_in]


def silent(_text: str) -> None:
    """Nobody listens."""


def middle(_part: range, _index: np.ndarray, height: np.ndarray, width: np.ndarray) -> tuple[Draws]:
    """The evaluation view."""
    return (centre(height, width),)


def decoded(image: Stored) -> torch.Tensor:
    """An owner's image by PIL."""
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) if isinstance(image, bytes) else image
    return torch.from_numpy(pixels.copy())


@pytest.mark.parametrize("name", NAMES)
def test_from_the_owners_files_to_an_epoch(name: str, tmp_path: Path) -> None:
    """Protects every reader, record and split: what training gets is what the owner's files hold."""
    entry, facts = entry_of(name), facts_of(name)
    official = tmp_path / "official"
    official.mkdir()
    entry.stand_in(official, facts)
    source = entry.read(official, facts)
    prepare(name, tmp_path, silent)  # writes the same files anew
    assert check(name, tmp_path, lambda _done, _total: None) == []
    dataset = open_dataset(name, tmp_path)
    for split in SPLITS:
        assert dataset.numbers(split).tolist() == source.splits[split].tolist()
        assert len(dataset.indices(split)) == facts.images(split)
    assert list(dataset.manifest.classes) == list(source.classes)
    assert dataset.manifest.record == facts.record
    one_epoch(dataset, source)


def one_epoch(dataset: Dataset, source: Source) -> None:
    """Every training image once, with its own label, target and pixels."""
    indices = dataset.indices("train")
    order = indices[Stream(len(indices), seed=0).locate(np.arange(len(indices)))[1]]
    seen = []
    with Loader(dataset.beton("train"), 16, SIZE) as loader:
        for batch in loader.batches(order, middle):
            numbers = batch.index.tolist()
            assert batch.label.tolist() == source.labels[numbers].tolist()
            if dataset.facts.record != "class":
                assert list(batch.targets) == [source.target(number) for number in numbers]
            owners = decoded(source.image(numbers[0]))
            height, width = (np.array([side]) for side in owners.shape[:2])
            expected = augment.crop(owners[None], centre(height, width), SIZE)[0]
            # decoders differ by a level, and images that were no JPEG have become one
            assert (batch.crops[0][0].float() - expected.float()).abs().mean() < 3
            seen += numbers
    assert sorted(seen) == source.splits["train"].tolist()


def test_imagenet_is_the_same_from_a_tree_and_from_shuffled_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects ImageNet's identity: same numbers, splits, positions and bytes, whichever form a person has."""
    from harness.data.readers import imagenet  # noqa: PLC0415 - the rest goes through the catalogue

    name = "imagenet" + STAND_IN
    folders = {}
    for form, write in (("tree", imagenet.stand_in), ("shards", imagenet.stand_in_parquet)):
        monkeypatch.setattr(imagenet, "stand_in", write)
        prepare(name, tmp_path / form, silent)
        folders[form] = open_dataset(name, tmp_path / form)
    tree, shards = folders["tree"], folders["shards"]
    assert tree.manifest.lists == shards.manifest.lists
    for split in ("train", "test"):
        kept = [
            Loader(dataset.beton(split), 64, SIZE).batches(dataset.indices(split), middle) for dataset in (tree, shards)
        ]
        for a, b in zip(*kept, strict=True):
            assert torch.equal(a.pixels, b.pixels)
            assert torch.equal(a.index, b.index)
            assert torch.equal(a.label, b.label)


def test_subsets_are_read_without_copying_the_file(tmp_path: Path) -> None:
    """Protects semi-supervised training: balanced lists of ours, and the public ones of file names."""
    name = "imagenet" + STAND_IN
    prepare(name, tmp_path, silent)
    dataset = open_dataset(name, tmp_path)
    names = (dataset.folder / "names.txt").read_text().splitlines()
    chosen = dataset.numbers("train")[[3, 40, 77]]
    (tmp_path / "1percent.txt").write_text("".join(f"{names[number]}\n" for number in chosen))
    before = dataset.beton("train").stat()
    add_list(name, tmp_path, "simclr-1", tmp_path / "1percent.txt", silent)
    dataset = open_dataset(name, tmp_path)
    assert dataset.beton("train").stat() == before
    with Loader(dataset.beton("simclr-1"), 2, SIZE) as loader:
        read = [
            number for batch in loader.batches(dataset.indices("simclr-1"), middle) for number in batch.index.tolist()
        ]
    assert read == chosen.tolist()
    assert len(dataset.indices("balanced-10")) == 12  # of 120
    assert check(name, tmp_path, lambda _done, _total: None) == []
