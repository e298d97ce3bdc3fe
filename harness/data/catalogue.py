"""Every dataset that can be prepared: its title, where it can be had, and the files that `--source` must hold.

The readers are imported when one is used: looking a name up costs nothing.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.datasets import DATASETS, STAND_IN, Facts
from harness.config.structure import unknown
from harness.data.errors import DataError
from harness.data.source import Source


@dataclass(frozen=True)
class Entry:
    """One dataset. `layout` says what its folder holds; `reader` names a module, `part` one of several
    sets in it; `subsets` are the percentages of the training images of which balanced lists are made.
    """

    title: str
    layout: str
    reader: str
    part: str = ""
    subsets: tuple[int, ...] = ()

    @property
    def built_in(self) -> bool:
        """Whether nothing has to be fetched."""
        return not self.layout

    @property
    def where(self) -> str:
        """Where its owner, or somebody else, offers it."""
        return "built in, from scikit-learn" if self.built_in else str(self._module().WHERE)

    def read(self, source: Path, facts: Facts) -> Source:
        """The dataset, from the owner's files in the folder `source`."""
        made: Source = self._function("read")(source, facts)
        return made

    def stand_in(self, target: Path, facts: Facts) -> None:
        """Write a small generated dataset in the owner's layout into the folder `target`."""
        self._function("stand_in")(target, facts)

    def _module(self) -> Any:
        return importlib.import_module(f"harness.data.readers.{self.reader}")

    def _function(self, name: str) -> Any:
        return getattr(self._module(), f"{name}_{self.part}" if self.part else name)


PERCENTAGES = (1, 2, 5, 10, 20, 50)  # of the paper's Figures 4 and 5
CATALOGUE = {
    "digits": Entry("handwritten digits", "", "digits", subsets=PERCENTAGES),
    "imagenet": Entry(
        "ImageNet, ILSVRC 2012",
        "train/<synset>/*.JPEG and val/<synset>/*.JPEG, or parquet shards train-*.parquet and validation-*.parquet",
        "imagenet",
        subsets=PERCENTAGES,
    ),
    "food101": Entry("Food-101", "food-101/images/<class>/*.jpg and food-101/meta, or food-101.tar.gz", "food101"),
    "cifar10": Entry(
        "CIFAR-10",
        "cifar-10-batches-py or cifar-10-python.tar.gz, or parquet files named train* and test*",
        "cifar",
        "cifar10",
        subsets=PERCENTAGES,
    ),
    "cifar100": Entry(
        "CIFAR-100",
        "cifar-100-python or cifar-100-python.tar.gz, or parquet files named train* and test*",
        "cifar",
        "cifar100",
    ),
    "birdsnap": Entry(
        "Birdsnap",
        "birdsnap/images/<species>/*.jpg as get_birdsnap.py leaves them, with images.txt, test_images.txt, species.txt",
        "birdsnap",
    ),
    "sun397": Entry(
        "SUN397",
        "SUN397/<letter>/<scene>/*.jpg and Partitions/, or SUN397.tar.gz and Partitions.zip",
        "sun397",
    ),
    "cars": Entry(
        "Stanford Cars",
        "stanford_cars/ with cars_train, cars_test, devkit (or their .tgz) and cars_test_annos_withlabels.mat",
        "cars",
    ),
    "aircraft": Entry(
        "FGVC-Aircraft",
        "fgvc-aircraft-2013b/data with images/ and the lists of variants, or fgvc-aircraft-2013b.tar.gz",
        "aircraft",
    ),
    "voc2007": Entry(
        "PASCAL VOC 2007, classes in each image",
        "VOCdevkit/VOC2007, or VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar",
        "voc",
        "classes",
    ),
    "voc2007-boxes": Entry(
        "PASCAL VOC 2007, boxes",
        "VOCdevkit/VOC2007, or VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar",
        "voc",
        "boxes",
    ),
    "voc2012": Entry(
        "PASCAL VOC 2012, segmentation with the SBD's masks",
        "VOCdevkit/VOC2012, with SegmentationClassAug and trainaug.txt in it or benchmark_RELEASE beside VOCdevkit",
        "voc",
        "masks",
    ),
    "dtd": Entry("Describable Textures", "dtd/images/<class>/*.jpg and dtd/labels, or dtd-r1.0.1.tar.gz", "dtd"),
    "pets": Entry("Oxford-IIIT Pets", "images/*.jpg and annotations/, or images.tar.gz and annotations.tar.gz", "pets"),
    "caltech101": Entry(
        "Caltech-101",
        "101_ObjectCategories/<class>/*.jpg, 101_ObjectCategories.tar.gz or caltech-101.zip",
        "caltech101",
    ),
    "flowers": Entry(
        "Oxford 102 Flowers", "jpg/*.jpg or 102flowers.tgz, with imagelabels.mat and setid.mat", "flowers"
    ),
    "places365": Entry(
        "Places365-Standard",
        "places365_train_standard.txt, places365_val.txt, categories_places365.txt, and the folders of images",
        "places365",
    ),
    "nyu-depth": Entry("NYU Depth v2", "nyudepthv2/train/<scene>/*.h5 and nyudepthv2/val/official/*.h5", "nyu"),
    "nyu-depth-labelled": Entry(
        "NYU Depth v2, the labelled frames alone", "nyu_depth_v2_labeled.mat and splits.mat", "nyu_labelled"
    ),
    "imagenette": Entry(
        "Imagenette",
        "imagenette2/train/<synset>/*.JPEG and imagenette2/val/<synset>/*.JPEG",
        "imagenette",
        subsets=PERCENTAGES,
    ),
}


def full_name(name: str, stand_in: bool = False, longest_side: int | None = None) -> str:
    """A dataset's name with what the options add to it; DataError where there is no such dataset."""
    for wanted, suffix in ((longest_side is not None, f"-{longest_side}px"), (stand_in, STAND_IN)):
        name += suffix if wanted and not name.endswith(suffix) else ""
    facts_of(name)
    return name


def facts_of(name: str) -> Facts:
    """What is known of a dataset."""
    if name not in DATASETS:
        raise DataError(f"{unknown(name, DATASETS, 'dataset')} (`harness prepare` lists them)")
    return DATASETS[name]


def entry_of(name: str) -> Entry:
    """The catalogue's entry of a dataset, of its stand-in, or of its copy with smaller images."""
    return CATALOGUE[max((real for real in CATALOGUE if name == real or name.startswith(f"{real}-")), key=len)]


def generated(name: str) -> bool:
    """Whether a dataset needs no files of an owner: the digits, and every stand-in."""
    return name.endswith(STAND_IN) or entry_of(name).built_in


def remedy(name: str) -> str:
    """The command that prepares a dataset."""
    return f"run `harness prepare {name}{'' if generated(name) else ' --source FOLDER'}`"
