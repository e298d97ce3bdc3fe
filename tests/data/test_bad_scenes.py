"""`harness prepare` on an owner's files with one mistake in a mask, in boxes or in depths."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from harness.cli import main
from harness.config.datasets import DATASETS
from harness.data.prepare import open_dataset
from harness.data.readers import nyu, nyu_labelled, voc
from harness.data.records import decode_depth, encode_mask
from harness.data.scenes import Scenes

WRITERS = {
    "voc2007-boxes": voc.stand_in_boxes,
    "voc2012": voc.stand_in_masks,
    "nyu-depth": nyu.stand_in,
    "nyu-depth-labelled": nyu_labelled.stand_in,
}
ANNOTATION = "Annotations/000003.xml"
MASK, SBD = "SegmentationClass/2008_000002.png", "cls/2008_000001.mat"
FRAME = "train/basement_0001a/00011.h5"
LABELLED = "nyu_depth_v2_labeled.mat"

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The owners' layouts, each made once."""
    root = tmp_path_factory.mktemp("official")
    for name, write in WRITERS.items():
        (root / name).mkdir()
        write(root / name, DATASETS[f"{name}-stand-in"])
    return root


@pytest.fixture
def prepared(official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, Damage], int]:
    """What the command returns for a dataset, one of whose files was damaged: the real one's name, in small."""
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))

    def prepare(name: str, file: str, damage: Damage) -> int:
        monkeypatch.setitem(DATASETS, name, DATASETS[f"{name}-stand-in"])
        source = shutil.copytree(official / name, tmp_path / "source")
        (path,) = source.rglob(file)
        damage(path)
        return main(["prepare", name, "--source", str(source)])

    return prepare


def text(pattern: str, value: str, path: Path) -> None:
    """The first match becomes this."""
    changed, times = re.subn(pattern, value, path.read_text(), count=1)
    assert times == 1
    path.write_text(changed)


def side(name: str, value: str) -> Damage:
    """A box whose side is elsewhere."""
    return partial(text, rf"<{name}>\d+", f"<{name}>{value}")


def no_width(path: Path) -> None:
    side("xmin", "20")(path)
    side("xmax", "19")(path)


def mask(change: Callable[[Any], Any], path: Path) -> None:
    """Other values, as a PNG file or as the SBD's."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            path.write_bytes(encode_mask(change(np.array(image))))
    else:
        savemat(path, {"GTcls": {"Segmentation": change(loadmat(path)["GTcls"]["Segmentation"][0, 0])}})


def colours(path: Path) -> None:
    with Image.open(path) as image:
        image.convert("RGB").save(path)


def depth(change: Callable[[Any], Any], path: Path) -> None:
    """Other depths."""
    field = "depths" if path.name == LABELLED else "depth"
    with h5py.File(path, "r+") as file:
        values = change(file[field][:])
        del file[field]
        file[field] = values


def one(value: float) -> Callable[[Any], Any]:
    """One pixel of every image is this."""

    def put(values: Any) -> Any:
        values[..., 2, 3] = value
        return values

    return put


MISTAKES: list[tuple[str, str, Damage, str]] = [
    ("voc2007-boxes", ANNOTATION, side("xmax", "9999"), r"a box from \(4, 51\) to \(9999, 72\) is empty or not inside"),
    ("voc2007-boxes", ANNOTATION, side("xmin", "0"), r"a box from \(-1, 51\) to \(27, 72\) is empty or not inside 66"),
    ("voc2007-boxes", ANNOTATION, no_width, r"a box from \(19, 51\) to \(19, 72\) is empty"),
    ("voc2007-boxes", ANNOTATION, side("xmax", "inf"), r"cannot be read \(cannot convert float infinity"),
    ("voc2007-boxes", ANNOTATION, side("xmax", "99999999999"), r"cannot be read \(.*99999999999 out of bounds"),
    ("voc2007-boxes", ANNOTATION, partial(text, "</annotation>", ""), r"cannot be read \(no element found: line"),
    ("voc2007-boxes", ANNOTATION, partial(text, "<name>\\w+", "<name>zebra"), "'zebra' is none of the 5 classes"),
    ("voc2007-boxes", ANNOTATION, partial(text, "<difficult>0", "<difficult>2"), "mark of difficulty is 2"),
    ("voc2012", MASK, partial(mask, lambda mask: mask[:-3]), "the mask has 85 x 82 pixels, its image 88 x 82"),
    ("voc2012", MASK, partial(mask, one(21)), "a pixel of the mask is of class 21, not of 0 to 4 or 255"),
    ("voc2012", MASK, colours, "this PNG is of mode RGB"),
    ("voc2012", MASK, Path.unlink, r"cannot be read \(No such file"),
    ("voc2012", SBD, partial(mask, lambda mask: mask[:, :-2]), "the mask has 77 x 76 pixels, its image 77 x 78"),
    ("voc2012", SBD, partial(mask, one(21)), "a pixel of the mask is of class 21, not of 0 to 4 or 255"),
    ("voc2012", SBD, partial(mask, lambda mask: mask + 256.0), r"is float64 \(77, 78\), not uint8"),
    (
        "nyu-depth",
        FRAME,
        partial(depth, lambda depth: depth[1:]),
        "the depth map has 84 x 81 pixels, its image 85 x 81",
    ),
    ("nyu-depth", FRAME, partial(depth, one(np.inf)), "a depth is inf metres"),
    ("nyu-depth", FRAME, partial(depth, one(-1)), "a depth is -1.0 metres"),
    ("nyu-depth", FRAME, partial(depth, lambda depth: (1000 * depth).astype("u2")), r"is uint16 \(85, 81\), not float"),
    ("nyu-depth-labelled", LABELLED, partial(depth, one(-1)), "a depth is -1.0 metres"),
]


@pytest.mark.parametrize(("name", "file", "damage", "words"), MISTAKES)
def test_a_mistake_is_named_with_its_file(
    prepared: Callable[[str, str, Damage], int],
    capsys: pytest.CaptureFixture[str],
    name: str,
    file: str,
    damage: Damage,
    words: str,
) -> None:
    """Protects training from bad targets, and a person from a traceback or a search: one sentence, and no dataset."""
    assert prepared(name, file, damage) == 2
    told = capsys.readouterr().err
    assert re.fullmatch(
        rf"harness: {name}: image \S+ \(number \d+\): .*{words}.*; fetch it again, or leave such images out .*\n", told
    )
    assert file in told
    assert told.count("fetch") == 1


@pytest.mark.parametrize("missing", [0, np.nan])
@pytest.mark.parametrize(("name", "file"), [("nyu-depth", FRAME), ("nyu-depth-labelled", LABELLED)])
def test_a_depth_that_was_not_measured_is_none(
    prepared: Callable[[str, str, Damage], int], tmp_path: Path, name: str, file: str, missing: float
) -> None:
    """Protects frames with holes, which NYU's have: they are kept as they are, and the check is content with them."""
    assert prepared(name, file, partial(depth, one(missing))) == 0
    assert main(["prepare", name, "--check"]) == 0
    scenes = Scenes(open_dataset(name, tmp_path / "data"), "train+valid", 1)
    (targets,) = scenes.batches(np.arange(30), 30, lambda *scene: decode_depth(scene[-1]))
    scenes.close()
    holes = sum(int((~(depth > 0)).sum()) for depth in targets)
    assert holes == (1 if name == "nyu-depth" else 30)
