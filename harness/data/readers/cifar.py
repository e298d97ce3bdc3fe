"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 50000 training and 10000 test images of 32 x 32 pixels.

They are read from the owner's Python pickles, or from parquet files, whose rows are in the owner's order.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.config.datasets import Facts
from harness.config.pickled import ARRAYS, PickleError, RefusedError, read_pickle
from harness.data.archives import located
from harness.data.encode import FORMATS
from harness.data.readers.layout import Folder, Numbers, home
from harness.data.source import Source
from harness.data.splits import hold_out_balanced, hold_out_random
from harness.data.stand_in import picture, put, samples

WHERE = "the CIFAR page of Toronto (https://www.cs.toronto.edu/~kriz/cifar.html) or, as parquet files, Hugging Face"
SIDE = 32  # pixels
PARQUET = {"train": "*train*.parquet", "test": "*test*.parquet"}
FINE = (  # the classes of CIFAR-100
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
    "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
    "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard "
    "lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear "
    "pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal "
    "shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank "
    "telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman "
    "worm"
)


@dataclass(frozen=True)
class _Set:
    """What tells the two sets apart."""

    name: str
    folder: str
    archive: str
    parquet: str  # the folder of Hugging Face's files
    files: Mapping[str, tuple[str, ...]]
    labels: str
    meta: tuple[str, str]  # file and key of the names of the classes
    classes: tuple[str, ...]


CIFAR10 = _Set(
    name="cifar10",
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    parquet="plain_text",
    files={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
    labels="labels",
    meta=("batches.meta", "label_names"),
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
CIFAR100 = _Set(
    name="cifar100",
    folder="cifar-100-python",
    archive="cifar-100-python.tar.gz",
    parquet="cifar100",
    files={"train": ("train",), "test": ("test",)},
    labels="fine_labels",
    meta=("meta", "fine_label_names"),
    classes=tuple(FINE.split()),
)


def read_cifar10(source: Path, facts: Facts) -> Source:
    """The owner's train split, part of it held out evenly over the classes, and the owner's test split."""
    return _read(source, facts, CIFAR10)


def read_cifar100(source: Path, facts: Facts) -> Source:
    """The owner's train split, part of it held out at random, and the owner's test split."""
    return _read(source, facts, CIFAR100)


def stand_in_cifar10(target: Path, facts: Facts) -> None:
    """A generated set as pickles."""
    _stand_in(target, facts, CIFAR10)


def stand_in_cifar100(target: Path, facts: Facts) -> None:
    """A generated set as pickles."""
    _stand_in(target, facts, CIFAR100)


def _read(source: Path, facts: Facts, which: _Set) -> Source:
    from harness.data.readers.parquet import check_counts  # noqa: PLC0415 - pyarrow is slow to import

    root = home(source, which.parquet)
    if next(root.glob(PARQUET["train"]), None):
        folder = Folder(root, facts, WHERE)
        labels, owners, image = _shards(folder)
    else:
        folder = Folder(located(source, which.folder, (which.archive,), WHERE), facts, WHERE)
        labels, owners, image = _batches(folder, which)
    names = [f"{split}/{number}" for split, numbers in owners.items() for number in range(len(numbers))]
    if facts.split_id.startswith("balanced"):
        per_class = facts.valid_images // facts.classes
        train, valid = hold_out_balanced(names, labels, owners["train"], per_class, which.name)
    else:
        train, valid = hold_out_random(names, owners["train"], facts.valid_images, which.name)
    splits = {"train": train, "valid": valid, "test": owners["test"]}
    check_counts(folder, len(np.unique(labels)), splits)
    return Source(names, labels, which.classes[: facts.classes], splits, image)


_Found = tuple[Numbers, dict[str, Numbers], Callable[[int], NDArray[np.uint8]]]


def _shards(folder: Folder) -> _Found:
    """Labels, the owner's splits and images from parquet files, which hold PNG or other files."""
    from harness.data.readers.parquet import Shards  # noqa: PLC0415 - pyarrow is slow to import

    shards = Shards(folder, PARQUET)

    def image(number: int) -> NDArray[np.uint8]:
        try:
            picture = Image.open(io.BytesIO(shards.bytes(number)), formats=FORMATS)
            if picture.size != (SIDE, SIDE):  # before it is decoded
                size = picture.size[::-1]
                raise folder.wrong(f"{shards.place(number)}: the image has {size} pixels, not {SIDE} x {SIDE}")
            return np.asarray(picture.convert("RGB"))
        except (OSError, Image.DecompressionBombError) as error:
            raise folder.wrong(f"{shards.place(number)}: the image cannot be decoded ({error})") from error

    return shards.labels, shards.splits, image


def _batches(folder: Folder, which: _Set) -> _Found:
    """The same from pickles, which hold all red, then all green, then all blue values of each image in a row."""
    file, key = which.meta
    named = _unpickled(folder, file, key)[key]
    if not isinstance(named, list) or tuple(named) != which.classes[: folder.facts.classes]:
        raise folder.wrong(f"{folder.root / file} does not name the classes of {which.name}, but {str(named)[:100]}")
    parts = {split: [_batch(folder, file, which.labels) for file in files] for split, files in which.files.items()}
    labels, pixels = (np.concatenate(each) for each in zip(*parts["train"], *parts["test"], strict=True))
    trained = sum(len(batch[0]) for batch in parts["train"])
    owners = {"train": np.arange(trained), "test": np.arange(trained, len(labels))}
    images = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return labels, owners, lambda number: np.ascontiguousarray(images[number])


def _batch(folder: Folder, file: str, key: str) -> tuple[Numbers, NDArray[np.uint8]]:
    content = _unpickled(folder, file, "data", key)
    try:
        labels, data = folder.class_numbers(file, content[key]), content["data"].numpy("[uif][1248]")
    except (ValueError, TypeError, AttributeError) as error:
        raise folder.wrong(f"{folder.root / file}: no list of {key}, or no array of bytes ({error})") from error
    if data.dtype != np.uint8 or data.shape != (len(labels), 3 * SIDE * SIDE):
        raise folder.wrong(f"{folder.root / file} holds {data.dtype} {data.shape} for {len(labels)} labels")
    return labels, data


def _unpickled(folder: Folder, file: str, *keys: str) -> dict[str, Any]:
    path = folder.root / file
    try:
        content = read_pickle(path, ARRAYS)
    except FileNotFoundError as error:
        raise folder.wrong(f"{path} is missing") from error
    except RefusedError as error:
        raise folder.wrong(f"{path} cannot be read (it {error}, which is no array)") from error
    except (PickleError, OSError) as error:
        raise folder.wrong(f"{path} cannot be read (it {error})") from error
    if not isinstance(content, dict) or not content.keys() >= set(keys):
        raise folder.wrong(f"{path} does not hold {' and '.join(keys)}")
    return content


def _stand_in(target: Path, facts: Facts, which: _Set) -> None:
    images: dict[str, list[tuple[NDArray[np.uint8], int]]] = {"train": [], "test": []}
    for label, number, split in sorted(samples(facts), key=lambda sample: sample[1]):
        small = np.asarray(Image.fromarray(picture(label, number)).resize((SIDE, SIDE), Image.Resampling.BOX))
        images["test" if split == "test" else "train"].append((small.transpose(2, 0, 1).reshape(-1), label))
    for split, files in which.files.items():
        for number, file in enumerate(files):
            held = images[split][number :: len(files)]
            batch = {
                "batch_label": f"{split} batch {number + 1} of {len(files)}",
                "data": np.stack([pixels for pixels, _ in held]),
                which.labels: [label for _, label in held],
            }
            put(target / which.folder / file, pickle.dumps(batch, protocol=4))
    meta, key = which.meta
    put(target / which.folder / meta, pickle.dumps({key: list(which.classes[: facts.classes])}, protocol=4))
