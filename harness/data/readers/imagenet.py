"""ImageNet (ILSVRC 2012): 1281167 training photographs and 50000 of the owner's validation split, which tests here.

It is read from a tree of folders or from parquet files. Samples are named as the owner names the files and ordered
by that name, so both give the same samples, numbers and splits; parquet's are read row after row all the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.errors import DataError
from harness.data.readers.layout import Folder, Numbers, home, joined
from harness.data.source import Source
from harness.data.splits import last_by_md5
from harness.data.stand_in import jpeg, picture, put, samples

WHERE = (
    "https://image-net.org/download-images (ILSVRC2012, unpacked to train/<wnid>/*.JPEG and val/<wnid>/*.JPEG), "
    "or the parquet files of imagenet-1k on Hugging Face"
)
WNIDS = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475")  # of the stand-in
DEVKIT = "ILSVRC2012_devkit_t12"
PARQUET = {"train": "train-*.parquet", "test": "validation-*.parquet"}
# Hugging Face appends the class: n01440764_10026_n01440764.JPEG.
_NAME = re.compile(r"((n\d{8})_\d+|ILSVRC2012_val_\d{8})(?:_(n\d{8}))?\.JPEG")


def read(source: Path, facts: Facts) -> Source:
    """The owner's train split, the last of it in TensorFlow's order held out, and the owner's validation split."""
    root = home(source, "data")
    if next(root.glob(PARQUET["train"]), None):
        return _from_parquet(Folder(root, facts, WHERE))
    if not (source / "train").is_dir():
        raise DataError(f"{source} holds neither a folder train nor files {PARQUET['train']}; get the set from {WHERE}")
    return _from_tree(Folder(source, facts, WHERE))


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set as a tree of folders."""
    for split, wnid, name, content in _generated(facts):
        put(target / ("val" if split == "test" else "train") / wnid / name, content)


def stand_in_parquet(target: Path, facts: Facts) -> None:
    """The same images in parquet files, in another order than the tree's, as Hugging Face's are."""
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and generating alone needs it
    import pyarrow.parquet as pq  # noqa: PLC0415

    rows: dict[str, list[dict[str, object]]] = {"train": [], "validation": []}
    for split, wnid, name, content in _generated(facts):
        image = {"bytes": content, "path": name.replace(".JPEG", f"_{wnid}.JPEG")}
        rows["validation" if split == "test" else "train"].append({"image": image, "label": WNIDS.index(wnid)})
    target.mkdir(parents=True, exist_ok=True)
    shards = 2
    for part, held in rows.items():
        size = -(-len(held) // shards)
        for shard in range(shards):
            table = pa.Table.from_pylist(held[shard * size : (shard + 1) * size])
            pq.write_table(table, target / f"{part}-{shard:05d}-of-{shards:05d}.parquet", row_group_size=20)


def class_tree(folder: Folder, part: str, classes: tuple[str, ...]) -> list[tuple[str, int]]:
    """The images under `part`/<class>/, by their file names, each with its class."""
    found = folder.class_folders(part)
    if found != classes:
        strange = ", ".join(sorted(set(found) ^ set(classes))[:5])
        raise folder.wrong(f"{folder.root / part} does not have the classes of the train split: {strange}")
    rows = [
        (f"{part}/{name}/{file}", label)
        for label, name in enumerate(classes)
        for file in os.listdir(folder.root / part / name)
        if file.endswith(".JPEG")
    ]
    return sorted(rows, key=lambda row: PurePosixPath(row[0]).name)


def _from_tree(folder: Folder) -> Source:
    classes = folder.class_folders("train")
    if not (folder.root / "val").is_dir():
        raise folder.wrong(f"the folder {folder.root / 'val'} is missing")
    flat = next((folder.root / "val").glob("*.JPEG"), None) is not None
    test = _flat(folder, classes) if flat else class_tree(folder, "val", classes)
    listing = joined({"train": class_tree(folder, "train", classes), "test": test})
    names = [PurePosixPath(path).name for path in listing.names]
    return replace(folder.source(listing, classes, _splits(folder.facts, names, listing.splits)), names=names)


def _flat(folder: Folder, classes: tuple[str, ...]) -> list[tuple[str, int]]:
    """The validation images as their archive has them, in one folder; the devkit tells their classes."""
    located(folder.root, DEVKIT, (f"{DEVKIT}.tar.gz",), WHERE)
    wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in folder.matlab(f"{DEVKIT}/data/meta.mat", "synsets")}
    labels = {str(number): classes.index(wnid) for number, wnid in wnids.items() if wnid in classes}
    truth = f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt"
    files = sorted(file for file in os.listdir(folder.root / "val") if file.endswith(".JPEG"))
    lines = folder.lines(truth)
    if len(lines) != len(files):
        raise folder.wrong(f"{folder.root / 'val'} has {len(files)} images, {truth} the classes of {len(lines)}")
    for place, line in lines:
        if line not in labels:
            raise folder.wrong(f"{folder.root / truth}, line {place}: {line!r} is the number of no class")
    return [(f"val/{file}", labels[line]) for file, (_, line) in zip(files, lines, strict=True)]


def _from_parquet(folder: Folder) -> Source:
    from harness.data.readers.parquet import Shards, check_counts  # noqa: PLC0415 - pyarrow is slow to import

    shards = Shards(folder, PARQUET)
    parsed = [_NAME.fullmatch(PurePosixPath(path).name) for path in shards.paths]
    unknown = next((row for row, match in enumerate(parsed) if match is None), None)
    if unknown is not None:
        raise folder.wrong(f"{shards.place(unknown)}: {shards.paths[unknown]!r} is not the name of an ImageNet image")
    matches = [match for match in parsed if match]
    classes = tuple(sorted({match[2] for match in matches if match[2]}))
    rows = np.concatenate(
        [sorted(part, key=lambda row: matches[row][1]) for part in shards.splits.values()], dtype=np.int64
    )
    names = [f"{matches[row][1]}.JPEG" for row in rows]
    splits = _splits(folder.facts, names, shards.splits)  # sorting keeps a split's rows among themselves
    check_counts(folder, len(classes), splits)
    for row, (match, label) in enumerate(zip(matches, shards.labels, strict=True)):
        wnid = match[2] or match[3]
        if wnid and classes[label] != wnid:
            raise folder.wrong(f"{shards.place(row)}: the label {label} is of {classes[label]}, the name of {wnid}")
    return Source(
        names,
        shards.labels[rows],
        classes,
        splits,
        image=lambda number: shards.bytes(int(rows[number])),
        quickest=np.argsort(rows),  # row after row: shards may be shuffled, and each read fetches a whole row group
    )


def _splits(facts: Facts, names: list[str], owners: dict[str, Numbers]) -> dict[str, Numbers]:
    train, valid = last_by_md5(names, owners["train"], facts.valid_images, "train")
    return {"train": train, "valid": valid, "test": owners["test"]}


def _generated(facts: Facts) -> Iterator[tuple[str, str, str, bytes]]:
    """Split, class, file name and content of each image of the stand-in; classes take turns."""
    tests = 0
    for label, number, split in sorted(samples(facts), key=lambda sample: sample[1]):
        wnid = WNIDS[label]
        tests += split == "test"
        name = f"ILSVRC2012_val_{tests:08d}" if split == "test" else f"{wnid}_{10026 + 7 * number}"
        yield split, wnid, f"{name}.JPEG", jpeg(picture(label, number))
