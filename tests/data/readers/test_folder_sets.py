"""The sets of folders and lists: every reader reads its own stand-in, and says what is wrong with a broken one."""

from __future__ import annotations

import importlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.lib.recfunctions import repack_fields

from harness.config.datasets import DATASETS, Facts
from harness.data.errors import DataError
from harness.data.source import Source
from harness.data.stand_in import jpeg, picture

SETS = ("food101", "birdsnap", "sun397", "cars", "aircraft", "dtd", "pets", "caltech101", "flowers")
RANDOM = ("birdsnap", "cars")  # their valid split is drawn whatever the class
COUNTS = {"train": 4, "valid": 2, "test": 3}  # a class


def _facts(name: str) -> Facts:
    facts = DATASETS[f"{name}-stand-in"]
    return replace(facts, **{f"{split}_images": facts.classes * each for split, each in COUNTS.items()})


def _reader(name: str) -> ModuleType:
    return importlib.import_module(f"harness.data.readers.{name}")


@pytest.fixture(scope="module", params=SETS)
def pristine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of a set, and a stand-in of it that nobody changes."""
    root = tmp_path_factory.mktemp(request.param)
    _reader(request.param).stand_in(root, _facts(request.param))
    return request.param, root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The stand-in of a set by name, made when it is first asked for."""
    roots: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in roots:
            roots[name] = tmp_path_factory.mktemp(name)
            _reader(name).stand_in(roots[name], _facts(name))
        return roots[name]

    return make


def _copy(root: Path, target: Path) -> Path:
    shutil.copytree(root, target, copy_function=os.link, dirs_exist_ok=True)
    return target


def _write(path: Path, text: str) -> None:
    path.unlink()  # a copy shares its files with the original
    path.write_text(text)


def _refused(name: str, root: Path, words: str, facts: Facts | None = None) -> None:
    with pytest.raises(DataError, match=words) as caught:
        _reader(name).read(root, facts or _facts(name))
    assert "\n" not in str(caught.value)


def _same(one: Source, other: Source) -> None:
    assert list(one.names) == list(other.names)
    assert one.classes == other.classes
    assert one.labels.tolist() == other.labels.tolist()
    assert {split: part.tolist() for split, part in one.splits.items()} == {
        split: part.tolist() for split, part in other.splits.items()
    }
    assert [one.image(number) for number in range(len(one.names))] == [
        other.image(number) for number in range(len(other.names))
    ]


def test_a_stand_in_reads_as_its_facts_say(pristine: tuple[str, Path]) -> None:
    """Protects counts, balance, labels and bytes: every image is the picture of its class, in one split at most."""
    name, root = pristine
    facts = _facts(name)
    source = _reader(name).read(root, facts)
    joined = np.concatenate([source.splits[split] for split in ("train", "valid", "test")])
    assert len(set(joined.tolist())) == len(joined) == len(source.names) == 9 * facts.classes
    assert len(source.classes) == facts.classes
    for split, each in COUNTS.items():
        numbers = source.splits[split]
        assert (np.diff(numbers) > 0).all()
        counts = np.bincount(source.labels[numbers], minlength=facts.classes)
        assert counts.sum() == facts.images(split)
        if name not in RANDOM or split == "test":
            assert (counts == each).all()
    pictures = {jpeg(picture(label, number)): label for label in range(5) for number in range(9)}
    labels = [pictures.get(source.image(number)) for number in range(len(source.names))]
    known = [(found, label) for found, label in zip(labels, source.labels, strict=True) if found is not None]
    assert len(known) >= 40  # Pets' five PNGs are no JPEGs
    assert all(found == label for found, label in known)


def test_a_missing_image_is_named(pristine: tuple[str, Path], tmp_path: Path) -> None:
    """Protects from training on fewer images than the paper did, and tells which and where to get them."""
    name, root = pristine
    root = _copy(root, tmp_path)
    lost = next(path for path in sorted(root.rglob("*.jpg")) if "unlisted" not in path.name)
    lost.unlink()
    named = rf"1 of 45 images are missing in .*: .*{lost.name}; get the set again from "
    words = r"the test split in .* has 14 images, not 15" if name == "caltech101" else named
    _refused(name, root, words)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_counts_are_those_of_the_facts(pristine: tuple[str, Path], split: str) -> None:
    """Protects the paper's Table 10: a set of another size is not the set."""
    name, root = pristine
    facts = _facts(name)
    more = replace(facts, **{f"{split}_images": facts.images(split) + facts.classes})
    _refused(name, root, r"the (train|valid|test) split in .* has \d+ images, not \d+; get the set again", more)


def test_an_empty_folder_is_told_what_belongs_there(pristine: tuple[str, Path], tmp_path: Path) -> None:
    """Protects the first thing that goes wrong: nothing has been fetched yet."""
    name, _ = pristine
    _refused(name, tmp_path, r"holds neither a folder \w.* nor .*; get it from ")


EXTRA = {
    "food101": "food-101/images",
    "birdsnap": "birdsnap/images",
    "dtd": "dtd/images",
    "caltech101": "101_ObjectCategories",
}


@pytest.mark.parametrize("name", EXTRA)
def test_an_extra_or_a_lost_class_folder_is_refused(name: str, made: Callable[[str], Path], tmp_path: Path) -> None:
    """Protects labels, which count class folders in order."""
    root = _copy(made(name), tmp_path)
    (root / EXTRA[name] / "Aardvark").mkdir()
    _refused(name, root, rf"{EXTRA[name]}.* has 6 class folders, not 5: Aardvark, .*, \.\.\.; get")
    for folder in sorted((root / EXTRA[name]).iterdir())[:2]:
        shutil.rmtree(folder)
    _refused(name, root, r" has 4 class folders, not 5: ")


@pytest.mark.parametrize(
    ("name", "file"), [("sun397", "SUN397/ClassName.txt"), ("aircraft", "fgvc-aircraft-2013b/data/variants.txt")]
)
def test_a_class_list_of_another_length_is_refused(
    name: str, file: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    """Protects labels, which count the classes of this list."""
    root = _copy(made(name), tmp_path)
    _write(root / file, (root / file).read_text() + "/z/zoo\n")
    _refused(name, root, rf"{file} lists 6 classes, not 5: ")


FILES = [
    ("food101", "food-101/meta/train.txt"),
    ("birdsnap", "birdsnap/images.txt"),
    ("birdsnap", "birdsnap/species.txt"),
    ("birdsnap", "birdsnap/test_images.txt"),
    ("sun397", "SUN397/ClassName.txt"),
    ("sun397", "Partitions/Training_01.txt"),
    ("cars", "stanford_cars/devkit/cars_meta.mat"),
    ("cars", "stanford_cars/devkit/cars_train_annos.mat"),
    ("cars", "stanford_cars/cars_test_annos_withlabels.mat"),
    ("aircraft", "fgvc-aircraft-2013b/data/variants.txt"),
    ("aircraft", "fgvc-aircraft-2013b/data/images_variant_val.txt"),
    ("dtd", "dtd/labels/val1.txt"),
    ("pets", "oxford-iiit-pet/annotations/test.txt"),
    ("flowers", "flowers-102/setid.mat"),
    ("flowers", "flowers-102/imagelabels.mat"),
]


@pytest.mark.parametrize(("name", "file"), FILES)
def test_annotation_files_are_missed(name: str, file: str, made: Callable[[str], Path], tmp_path: Path) -> None:
    """Protects from a traceback where one file of several was not fetched, or only half of it."""
    root = _copy(made(name), tmp_path)
    data = (root / file).read_bytes()
    (root / file).unlink()
    _refused(name, root, rf"{file} is missing; get the set again from ")
    (root / file).write_bytes(b"\xff\xfe" + data[: len(data) // 2])
    _refused(name, root, rf"{file} cannot be read ")


@pytest.mark.parametrize(
    ("name", "file", "line", "words"),
    [
        ("food101", "food-101/meta/train.txt", "soup/1", r"train.txt, line 31: 'soup' is none of the 5 classes"),
        ("food101", "food-101/meta/train.txt", "soup", r"line 31: 'soup' is not an image and its class"),
        ("birdsnap", "birdsnap/images.txt", "u\tm\tDodo/1.jpg\t6\t0", r"line 47: '6' is none of the 5 classes"),
        ("birdsnap", "birdsnap/images.txt", "u", r"line 47: 'u' is not an image and its class"),
        ("sun397", "Partitions/Testing_01.txt", "/z/zoo/sun_a.jpg", r"line 16: '/z/zoo' is none of the 5"),
        ("aircraft", "fgvc-aircraft-2013b/data/images_variant_val.txt", "1 Kite", r"'Kite' is none of the 5 classes"),
        ("dtd", "dtd/labels/test1.txt", "woolly/a.jpg", r"test1.txt, line 16: 'woolly' is none of the 5 classes"),
        ("pets", "oxford-iiit-pet/annotations/test.txt", "Lynx_1 6 1 1", r"line 16: '6' is none of the 5 classes"),
        ("pets", "oxford-iiit-pet/annotations/test.txt", "Lynx_1", r"line 16: 'Lynx_1' is not an image and its class"),
        ("dtd", "dtd/labels/test1.txt", "banded/a.jpg", r"1 of 46 images are missing in .*: images/banded/a.jpg; get"),
    ],
)
def test_a_strange_line_is_named(
    name: str, file: str, line: str, words: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    """Protects labels from lines that mean something else than an image of a known class."""
    root = _copy(made(name), tmp_path)
    _write(root / file, (root / file).read_text() + line + "\n")
    _refused(name, root, words)


def test_an_image_in_two_splits_is_refused(made: Callable[[str], Path], tmp_path: Path) -> None:
    """Protects the sealed test split from a list that repeats a training image."""
    root = _copy(made("dtd"), tmp_path)
    lists = root / "dtd/labels"
    first = (lists / "train1.txt").read_text().splitlines()[0]
    _write(lists / "test1.txt", "\n".join([first, *(lists / "test1.txt").read_text().splitlines()[1:]]))
    _refused("dtd", root, rf"1 images in .* are listed more than once: images/{first}")


def test_matlab_labels_out_of_range_are_named(made: Callable[[str], Path], tmp_path: Path) -> None:
    """Protects labels counted from 1 from being read as counted from 0, and images from numbers that have none."""
    from scipy.io import loadmat, savemat  # noqa: PLC0415 - this test alone needs it

    root = _copy(made("flowers"), tmp_path / "flowers")
    path = root / "flowers-102/imagelabels.mat"
    labels = loadmat(path)["labels"]
    path.unlink()
    savemat(path, {"labels": labels - 1})
    _refused("flowers", root, r"imagelabels.mat, row 36: label 0 is not between 1 and 5")
    savemat(path, {"labels": labels[:, :30]})
    _refused("flowers", root, r"setid.mat names image 31; there are labels for 30 images")
    savemat(path, {"strange": labels})
    _refused("flowers", root, r"imagelabels.mat has no variable labels")
    root = _copy(made("cars"), tmp_path / "cars")
    test = root / "stanford_cars/cars_test_annos_withlabels.mat"
    rows = loadmat(test)["annotations"]
    rows[0, 2]["class"] = 9
    test.unlink()
    savemat(test, {"annotations": rows})
    _refused("cars", root, r"cars_test_annos_withlabels.mat, row 2: label 9 is not between 1 and 5")
    savemat(test, {"annotations": repack_fields(rows[["bbox_x1", "fname"]])})  # as the devkit lists test images
    _refused("cars", root, r"cars_test_annos_withlabels.mat holds no classes")


ARCHIVES = {  # name -> folder that holds what is packed -> archives and what each packs
    "food101": ("", {"food-101.tar.gz": "food-101"}),
    "birdsnap": ("", {"birdsnap.tgz": "birdsnap"}),
    "sun397": ("", {"SUN397.tar.gz": "SUN397", "Partitions.zip": "Partitions"}),
    "cars": (
        "stanford_cars",
        {"car_devkit.tgz": "devkit", "cars_train.tgz": "cars_train", "cars_test.tgz": "cars_test"},
    ),
    "aircraft": ("", {"fgvc-aircraft-2013b.tar.gz": "fgvc-aircraft-2013b"}),
    "dtd": ("", {"dtd-r1.0.1.tar.gz": "dtd"}),
    "pets": ("oxford-iiit-pet", {"images.tar.gz": "images", "annotations.tar.gz": "annotations"}),
    "caltech101": ("", {"101_ObjectCategories.tar.gz": "101_ObjectCategories"}),
    "flowers": ("flowers-102", {"102flowers.tgz": "jpg"}),
}


def _pack(folder: Path, archive: Path) -> None:
    if archive.suffix == ".zip":  # SUN397's partitions lie loose in theirs
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in folder.iterdir():
                zipped.write(path, path.name)
    else:
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(folder, folder.name)


def test_archives_read_as_their_folders(pristine: tuple[str, Path], tmp_path: Path) -> None:
    """Protects the owners' archives as they are fetched, and a set read whole from one that is not."""
    name, root = pristine
    home, packs = ARCHIVES[name]
    for path in (root / home).iterdir():
        if path.is_file():
            os.link(path, tmp_path / path.name)  # files that the owner distributes beside the archives
    for archive, folder in packs.items():
        _pack(root / home / folder, tmp_path / archive)
    first = tmp_path / next(iter(packs))
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    _refused(name, tmp_path, rf"{first.name} is damaged or incomplete .*; fetch it again")
    first.write_bytes(whole)
    module, facts = _reader(name), _facts(name)
    _same(module.read(tmp_path, facts), module.read(root, facts))


@pytest.fixture
def nested(made: Callable[[str], Path], tmp_path: Path) -> Path:
    """Caltech-101 as it is offered today: the older archive inside a zip."""
    _pack(made("caltech101") / "101_ObjectCategories", tmp_path / "101_ObjectCategories.tar.gz")
    with zipfile.ZipFile(tmp_path / "caltech-101.zip", "w") as zipped:
        zipped.write(tmp_path / "101_ObjectCategories.tar.gz", "caltech-101/101_ObjectCategories.tar.gz")
        zipped.writestr("__MACOSX/._caltech-101", b"")
    (tmp_path / "101_ObjectCategories.tar.gz").unlink()
    return tmp_path


def test_an_archive_in_an_archive(nested: Path, made: Callable[[str], Path]) -> None:
    """Protects today's caltech-101.zip, on the first reading and on the next."""
    module, facts = _reader("caltech101"), _facts("caltech101")
    whole = module.read(made("caltech101"), facts)
    _same(module.read(nested, facts), whole)
    _same(module.read(nested, facts), whole)


def test_names_are_the_same_wherever_the_set_lies(made: Callable[[str], Path], tmp_path: Path) -> None:
    """Protects draws, which follow names: the owners' script of Birdsnap puts its images one folder deeper."""
    root = _copy(made("birdsnap"), tmp_path)
    (root / "birdsnap/download").mkdir()
    (root / "birdsnap/images").rename(root / "birdsnap/download/images")
    module, facts = _reader("birdsnap"), _facts("birdsnap")
    _same(module.read(root / "birdsnap", facts), module.read(made("birdsnap"), facts))
    root = _copy(made("sun397"), tmp_path / "sun")
    for path in (root / "Partitions").iterdir():
        path.rename(root / "SUN397" / path.name)
    _same(_reader("sun397").read(root, _facts("sun397")), _reader("sun397").read(made("sun397"), _facts("sun397")))


def test_an_image_that_cannot_be_read_is_named(made: Callable[[str], Path], tmp_path: Path) -> None:
    """Protects from a traceback when a file goes away while a set is prepared."""
    root = _copy(made("dtd"), tmp_path)
    source = _reader("dtd").read(root, _facts("dtd"))
    (root / "dtd" / source.names[3]).unlink()
    with pytest.raises(DataError, match=rf"image {source.names[3]} in .* cannot be read"):
        source.image(3)
