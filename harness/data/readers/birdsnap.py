"""Birdsnap (Berg et al., 2014): 49829 photographs of 500 species of birds, 2443 of them for testing.

The owners distribute lists and a script that fetches the photographs from where they were found. Some are no longer
there, and a set without them is not the paper's: the error says how many.
"""

from __future__ import annotations

from pathlib import Path

from harness.config.datasets import Facts
from harness.data.archives import located
from harness.data.readers.layout import Folder, home, joined
from harness.data.source import Source
from harness.data.splits import hold_out_random
from harness.data.stand_in import jpeg, picture, put, samples

WHERE = (
    "its owners (http://thomasberg.org/datasets/birdsnap/1.1/birdsnap.tgz, then get_birdsnap.py) or, as some of the "
    "photographs can no longer be fetched, from somebody who has them all"
)
SPECIES = (  # of the stand-in
    ("Acadian Flycatcher", "Empidonax virescens", "Acadian_Flycatcher"),
    ("Anna's Hummingbird", "Calypte anna", "Annas_Hummingbird"),
    ("Brant", "Branta bernicla", "Brant"),
    ("Cooper's Hawk", "Accipiter cooperii", "Coopers_Hawk"),
    ("Dunlin", "Calidris alpina", "Dunlin"),
)


def read(source: Path, facts: Facts) -> Source:
    """The owners' training images, part of them held out at random, and their test images."""
    root = located(source, "birdsnap", ("birdsnap.tgz",), WHERE)
    lists, pictures = Folder(root, facts, WHERE), Folder(home(root, "download"), facts, WHERE)
    pictures.class_folders("images")
    species = [line.split("\t") for _, line in lists.lines("species.txt")[1:]]
    images = lists.listed("images.txt", [row[0] for row in species], _image, header=1)
    testing = {f"images/{line}" for _, line in lists.lines("test_images.txt")[1:]}
    listing = joined(
        {
            "train": [(name, label) for name, label in images if name not in testing],
            "test": [(name, label) for name, label in images if name in testing],
        }
    )
    train, valid = hold_out_random(listing.names, listing.splits["train"], facts.valid_images, "birdsnap")
    splits = {"train": train, "valid": valid, "test": listing.splits["test"]}
    return pictures.source(listing, tuple(row[-1] for row in species), splits)


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout, as it is after the owners' script."""
    root = target / "birdsnap"
    names = [f"{number}\t" + "\t".join(each) for number, each in enumerate(SPECIES, start=1)]
    images, testing = ["url\tmd5\tpath\tspecies_id\tbb_x1"], ["path"]
    for label, number, split in samples(facts):
        path = f"{SPECIES[label][-1]}/{100 * number + label}.jpg"
        put(root / "images" / path, jpeg(picture(label, number)))
        images.append(f"http://localhost/{number}.jpg\t{number:032x}\t{path}\t{label + 1}\t0")
        if split == "test":
            testing.append(path)
    put(root / "species.txt", "\n".join(["id\tcommon\tscientific\tdir", *names]) + "\n")
    put(root / "images.txt", "\n".join(images) + "\n")
    put(root / "test_images.txt", "\n".join(testing) + "\n")


def _image(line: str) -> tuple[str, str]:
    _, _, path, species = line.split("\t")[:4]
    return f"images/{path}", species
