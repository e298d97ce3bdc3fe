"""torchvision reads the stand-ins too, and finds the same images with the same labels."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torchvision import datasets

from harness.config.datasets import DATASETS, Facts
from harness.data.source import Source

Images = set[tuple[str, int]]
OWNERS = {"train": ("train", "valid"), "test": ("test",)}  # where the valid split is ours
OFFICIAL = {"train": ("train",), "val": ("valid",), "test": ("test",)}
LISTED: dict[str, tuple[Callable[..., Any], dict[str, tuple[str, ...]], str, str]] = {
    # torchvision's reader, the owner's splits, torchvision's root and ours
    "food101": (datasets.Food101, OWNERS, ".", "food-101"),
    "aircraft": (datasets.FGVCAircraft, OFFICIAL, ".", "fgvc-aircraft-2013b/data"),
    "dtd": (datasets.DTD, OFFICIAL, "..", "dtd"),
    "flowers": (datasets.Flowers102, OFFICIAL, ".", "flowers-102"),
}


def _made(name: str, target: Path) -> tuple[Source, Facts]:
    facts = DATASETS[f"{name}-stand-in"]
    facts = replace(facts, train_images=15, valid_images=10, test_images=10)
    module = importlib.import_module(f"harness.data.readers.{name}")
    module.stand_in(target, facts)
    return module.read(target, facts), facts


def _ours(source: Source, splits: tuple[str, ...]) -> Images:
    return {(source.names[n], int(source.labels[n])) for split in splits for n in source.splits[split]}


def _theirs(paths: list[Any], labels: list[int], root: Path) -> Images:
    return {(Path(path).relative_to(root).as_posix(), label) for path, label in zip(paths, labels, strict=True)}


@pytest.mark.parametrize("name", LISTED)
def test_sets_with_lists(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects images, labels and splits from our own misreading of the layout."""
    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda _: True)  # it knows the real files' sums
    reader, splits, theirs, ours = LISTED[name]
    target = tmp_path / name
    source, _ = _made(name, target)
    for split, parts in splits.items():
        seen = reader((target / theirs).resolve(), split=split)
        assert _theirs(seen._image_files, seen._labels, target / ours) == _ours(source, parts)
        if name != "flowers":  # whose classes the owners do not name
            assert tuple(seen.classes) == source.classes
        _image, label = seen[3]
        assert label == seen._labels[3]


def test_cars(tmp_path: Path) -> None:
    """Protects the MATLAB files: classes from 1, file names, and names of classes."""
    source, _ = _made("cars", tmp_path)
    for split, parts in OWNERS.items():
        seen = datasets.StanfordCars(tmp_path, split=split)
        assert _theirs(*zip(*seen._samples, strict=True), tmp_path / "stanford_cars") == _ours(source, parts)
        assert tuple(seen.classes) == source.classes


def test_pets(tmp_path: Path) -> None:
    """Protects class ids from 1 and the names of breeds; torchvision decodes the PNGs that are named .jpg too."""
    source, _ = _made("pets", tmp_path)
    for split, parts in {"trainval": OWNERS["train"], "test": OWNERS["test"]}.items():
        seen = datasets.OxfordIIITPet(tmp_path, split=split)
        assert _theirs(seen._images, seen._labels, tmp_path / "oxford-iiit-pet") == _ours(source, parts)
        assert seen.classes == [name.replace("_", " ").title() for name in source.classes]
        assert all(seen[number][0].mode == "RGB" for number in range(len(seen)))


def test_sun397(tmp_path: Path) -> None:
    """Protects labels of classes in folders of folders. torchvision knows no partitions and finds all images."""
    source, facts = _made("sun397", tmp_path)
    seen = datasets.SUN397(tmp_path)
    found = _theirs(seen._image_files, seen._labels, tmp_path / "SUN397")
    ours = _ours(source, ("train", "valid", "test"))
    assert ours < found
    assert all("unlisted" in name for name, _ in found - ours)
    assert len(found - ours) == facts.classes
    assert [name[3:] for name in source.classes] == seen.classes


def test_caltech101(tmp_path: Path) -> None:
    """Protects the order of classes. torchvision leaves the background out, which is our class 0."""
    source, _ = _made("caltech101", tmp_path / "caltech101")
    seen = datasets.Caltech101(tmp_path)
    found = {(f"{seen.categories[y]}/image_{n:04d}.jpg", y + 1) for y, n in zip(seen.y, seen.index, strict=True)}
    assert found == {row for row in _ours(source, ("train", "valid", "test")) if row[1] > 0}
    assert source.classes == ("BACKGROUND_Google", *seen.categories)


def test_birdsnap_against_the_lists(tmp_path: Path) -> None:
    """Protects species' ids and the test list, read here as tables; torchvision has no reader of this set."""
    import pandas as pd  # noqa: PLC0415 - this test alone needs it

    source, _ = _made("birdsnap", tmp_path)
    species = pd.read_csv(tmp_path / "birdsnap/species.txt", sep="\t", index_col="id")
    images = pd.read_csv(tmp_path / "birdsnap/images.txt", sep="\t")
    testing = images["path"].isin(pd.read_csv(tmp_path / "birdsnap/test_images.txt")["path"])
    for parts, rows in ((OWNERS["test"], images[testing]), (OWNERS["train"], images[~testing])):
        expected = {(f"images/{row.path}", row.species_id - 1) for row in rows.itertuples()}
        assert _ours(source, parts) == expected
    assert source.classes == tuple(species["dir"])
    assert all(
        name.split("/")[1] == source.classes[label] for name, label in zip(source.names, source.labels, strict=True)
    )
