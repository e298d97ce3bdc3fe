"""PASCAL VOC: classes, boxes and masks."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat
from torchvision.datasets import SBDataset, VOCDetection, VOCSegmentation

from harness.config.datasets import DATASETS
from harness.data.errors import DataError
from harness.data.readers.voc import (
    CLASSES,
    read_boxes,
    read_classes,
    read_masks,
    stand_in_boxes,
    stand_in_classes,
    stand_in_masks,
)
from harness.data.readers.voc_scenes import scene
from harness.data.records import check, decode_boxes, decode_labels, decode_mask, encode_mask
from harness.data.source import Source

LABELS, BOXES, MASKS = (DATASETS[f"{name}-stand-in"] for name in ("voc2007", "voc2007-boxes", "voc2012"))
SIZES = {"train": 120, "valid": 30, "test": 50}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stand-ins, made once."""
    target = tmp_path_factory.mktemp("voc")
    stand_in_classes(target, LABELS)
    stand_in_masks(target, MASKS)
    return target


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A copy of them, to break."""
    return shutil.copytree(made, tmp_path / "set")


@pytest.fixture
def voc(home: Path) -> Path:
    """The folder of VOC 2007, to break."""
    return home / "VOCdevkit/VOC2007"


def images(source: Source, split: str) -> list[str]:
    """The owner's names of a split's images."""
    return [Path(source.names[number]).stem for number in source.splits[split]]


def objects(made: Path, split: str) -> list[tuple[str, str, list[dict]]]:
    """Image, path and objects, as torchvision reads them."""
    theirs = VOCDetection(str(made), year="2007", image_set=split)
    found = [theirs[number][1]["annotation"]["object"] for number in range(len(theirs))]
    return [(Path(path).stem, path, each) for path, each in zip(theirs.images, found, strict=True)]


def test_boxes_are_torchvision_s(made: Path) -> None:
    """Protects coordinates, classes and marks of difficulty, and the owner's splits."""
    source = read_boxes(made, BOXES)
    assert {split: len(part) for split, part in source.splits.items()} == SIZES
    assert source.classes == CLASSES[:5]
    difficult = 0
    for split, owner in (("train", "train"), ("valid", "val"), ("test", "test")):
        expected = objects(made, owner)
        assert images(source, split) == [image for image, _, _ in expected]
        for number, (_, path, found) in zip(source.splits[split].tolist(), expected, strict=True):
            boxes = decode_boxes(source.target(number))
            assert source.image(number) == Path(path).read_bytes()
            assert [CLASSES[row[4]] for row in boxes] == [each["name"] for each in found]
            assert [str(row[5]) for row in boxes] == [each["difficult"] for each in found]
            corners = [[int(each["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")] for each in found]
            np.testing.assert_array_equal(boxes[:, :4] + [1, 1, 0, 0], corners)
            difficult += boxes[:, 5].sum()
    assert difficult > 10


def test_labels_are_the_classes_of_the_boxes(made: Path) -> None:
    """Protects the flags: the lists of each class agree with the annotations, as VOC defines them."""
    source = read_classes(made, LABELS)
    assert {split: len(part) for split, part in source.splits.items()} == SIZES
    assert (source.labels == -1).all()
    seen = set()
    for split, owner in (("train", "train"), ("valid", "val"), ("test", "test")):
        expected = objects(made, owner)
        assert images(source, split) == [image for image, _, _ in expected]
        for number, (_, _, found) in zip(source.splits[split].tolist(), expected, strict=True):
            for name, flag in zip(CLASSES, decode_labels(source.target(number)).tolist(), strict=False):
                marks = [each["difficult"] for each in found if each["name"] == name]
                assert flag == (-1 if not marks else 1 if "0" in marks else 0)
                seen.add(flag)
    assert seen == {-1, 0, 1}


def test_targets_fit_their_images(made: Path) -> None:
    """Protects the stand-ins: all that is generated passes the check of real data."""
    for read, facts in ((read_classes, LABELS), (read_boxes, BOXES), (read_masks, MASKS)):
        source = read(made, facts)
        for number in range(0, 200, 7):
            width, height = Image.open(io.BytesIO(source.image(number))).size
            check(facts.record, source.target(number), facts.classes, height, width)


def test_a_scene_s_boxes_and_masks_are_where_its_objects_are() -> None:
    """Protects what the stand-ins teach: an ellipse touches all sides of its box, on a darker ground."""
    for label in range(5):
        found = scene(label, 3 * label, 5)  # one object alone
        ((left, top, right, bottom, kind, difficult),) = found.boxes
        rows, columns = np.nonzero(found.mask)
        assert (left, top, right, bottom) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert (kind, difficult, {*np.unique(found.mask)}) == (label, 0, {0, label + 1})
        assert found.pixels[found.mask > 0].mean() > 1.5 * found.pixels[found.mask == 0].mean()


@pytest.fixture
def archives(made: Path, tmp_path: Path) -> Path:
    """The two archives of VOC 2007; both have files for the same folder."""
    tests, target = {*images(read_boxes(made, BOXES), "test")}, tmp_path / "archives"
    target.mkdir()
    for archive, is_test in (("VOCtrainval_06-Nov-2007.tar", False), ("VOCtest_06-Nov-2007.tar", True)):
        with tarfile.open(target / archive, "w") as tar:
            for path in sorted((made / "VOCdevkit/VOC2007").rglob("*")):
                if path.is_file() and (path.stem in tests or path.stem.endswith("test")) == is_test:
                    tar.add(path, path.relative_to(made))
    return target


def test_the_archives_are_unpacked_into_one_folder(made: Path, archives: Path) -> None:
    """Protects those who only fetched the archives."""
    expected, source = read_boxes(made, BOXES), read_boxes(archives, BOXES)
    assert source.names == expected.names
    assert [source.target(number) for number in range(200)] == [expected.target(number) for number in range(200)]
    assert read_classes(archives / "VOCdevkit/VOC2007", LABELS).names == expected.names
    assert not (archives / "VOCtest_06-Nov-2007").exists()


def test_a_move_that_was_stopped_goes_on(made: Path, archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from a folder that looks whole when the test split's files are not all in it."""
    replace, left = Path.replace, iter(range(20))

    def full(path: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise OSError("no space left")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DataError, match=r"cannot be moved into .*no space left"):
        read_boxes(archives, BOXES)
    monkeypatch.undo()
    expected, source = read_boxes(made, BOXES), read_boxes(archives, BOXES)
    assert [source.target(number) for number in range(200)] == [expected.target(number) for number in range(200)]


def test_without_the_test_archive_it_is_asked_for(home: Path, voc: Path) -> None:
    """Protects users from guessing what else they have to fetch."""
    (voc / "ImageSets/Main/test.txt").unlink()
    with pytest.raises(DataError, match=r"nor VOCtest_06-Nov-2007.tar; get it from the VOC page"):
        read_boxes(home, BOXES)
    shutil.rmtree(voc)
    with pytest.raises(DataError, match=r"nor VOCtrainval_06-Nov-2007.tar"):
        read_boxes(home, BOXES)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("ImageSets/Main/bird_val.txt", "000025 -1", "000025  2", r"bird_val.txt, line 1: '000025  2' is not an image"),
        ("ImageSets/Main/bird_val.txt", "000025 -1\n", "", r"bird_val.txt lacks 1 images of the split, as 000025"),
        ("ImageSets/Main/val.txt", "000025\n", "", "valid split in .* has 29 images, not 30"),
    ],
)
def test_a_wrong_list_is_named(home: Path, voc: Path, file: str, old: str, new: str, words: str) -> None:
    """Protects labels and splits: a message has the file, the line and what is wrong there."""
    text = (voc / file).read_text()
    assert old in text
    (voc / file).write_text(text.replace(old, new))
    with pytest.raises(DataError, match=words):
        read_classes(home, LABELS)


def test_a_missing_list_of_a_class_is_named(home: Path, voc: Path) -> None:
    """Protects from a set with fewer classes."""
    (voc / "ImageSets/Main/bird_val.txt").unlink()
    with pytest.raises(DataError, match=r"bird_val.txt is missing"):
        read_classes(home, LABELS)


def test_a_missing_image_is_named(home: Path, voc: Path) -> None:
    """Protects from a folder that was only partly copied."""
    (voc / "JPEGImages/000025.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 200 images are missing .*000025.jpg"):
        read_boxes(home, BOXES)


def test_a_test_image_among_the_training_ones_is_left_out(home: Path) -> None:
    """Protects the test split: many lists of train_aug in use hold some of its images."""
    expected = read_masks(home, MASKS)
    voc = home / "VOCdevkit/VOC2012"
    (voc / "SegmentationClassAug").mkdir()
    everything = sorted(path.stem for path in (voc / "JPEGImages").iterdir())
    (voc / "ImageSets/Segmentation/trainaug.txt").write_text("\n".join(everything))
    assert read_masks(home, MASKS).names == expected.names


ANNOTATION = """<annotation><object><name>car</name><difficult>1</difficult>
<part><name>wheel</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
<bndbox><xmax>30.2</xmax><xmin>5.0</xmin><ymax>40</ymax><ymin>6</ymin></bndbox></object></annotation>"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ANNOTATION, "'car' is none of the 5 classes"),
        (ANNOTATION.replace("car", "boat").replace("<xmax>30.2", "<xmax>wide"), "could not convert"),
        (ANNOTATION.replace("car", "boat").replace("30.2", "nan"), "cannot convert"),
        (ANNOTATION.replace("car", "boat").replace("</annotation>", ""), "no element found"),
        ("", "no element found"),
    ],
)
def test_a_broken_annotation_is_named(home: Path, voc: Path, text: str, words: str) -> None:
    """Protects boxes: a message has the file and what is wrong in it."""
    source = read_boxes(home, BOXES)
    (voc / "Annotations/000001.xml").write_text(text)
    with pytest.raises(DataError, match=rf"000001.xml cannot be read \(.*{words}"):
        source.target(0)


def test_parts_of_objects_are_no_objects(home: Path, voc: Path) -> None:
    """Protects from heads and hands, which VOC marks inside some people, and from corners in any order."""
    source = read_boxes(home, BOXES)
    (voc / "Annotations/000001.xml").write_text(ANNOTATION.replace("car", "boat"))
    assert decode_boxes(source.target(0)).tolist() == [[4, 5, 30, 40, 3, 1]]
    (voc / "Annotations/000001.xml").write_text("<annotation></annotation>")
    assert decode_boxes(source.target(0)).shape == (0, 6)
    (voc / "Annotations/000001.xml").unlink()
    with pytest.raises(DataError, match=r"000001.xml cannot be read"):
        source.target(0)


def test_masks_are_torchvision_s(made: Path, tmp_path: Path) -> None:
    """Protects masks, and which images are train_aug: official ones first, the SBD's others, no test image."""
    source = read_masks(made, MASKS)
    assert {split: len(part) for split, part in source.splits.items()} == SIZES
    assert source.classes == ("background", *CLASSES[:4])
    sbd = shutil.copytree(made / "benchmark_RELEASE/dataset", tmp_path / "sbd")
    expected = {}
    for split in ("train", "val"):
        theirs = SBDataset(str(sbd), split, mode="segmentation")
        expected |= {Path(path).stem: np.array(theirs[number][1]) for number, path in enumerate(theirs.images)}
    extra = {*expected}
    for split in ("train", "val"):
        voc = VOCSegmentation(str(made), year="2012", image_set=split)
        held = {Path(path).stem: np.array(voc[number][1]) for number, path in enumerate(voc.images)}
        expected |= held
        assert extra & {*held}, "the stand-in's lists overlap as the real ones do"
        if split == "val":
            assert images(source, "test") == sorted(held)
            assert sorted(images(source, "train") + images(source, "valid")) == sorted({*expected} - {*held})
    assert len(expected) == 200
    for number, name in enumerate(source.names):
        np.testing.assert_array_equal(decode_mask(source.target(number)), expected[Path(name).stem])


def test_png_files_of_the_sbd_s_masks_give_the_same(made: Path, home: Path) -> None:
    """Protects comparisons between those who have SegmentationClassAug and those who have the SBD itself."""
    expected = read_masks(made, MASKS)
    voc, sbd = home / "VOCdevkit/VOC2012", home / "benchmark_RELEASE/dataset"
    (voc / "SegmentationClassAug").mkdir()
    train_aug = sorted(images(expected, "train") + images(expected, "valid"))
    for path in (sbd / "cls").iterdir():
        mask = loadmat(path)["GTcls"]["Segmentation"][0, 0]
        (voc / f"SegmentationClassAug/{path.stem}.png").write_bytes(encode_mask(mask))
    (voc / "ImageSets/Segmentation/trainaug.txt").write_text("\n".join(train_aug))
    shutil.rmtree(sbd)
    source = read_masks(home, MASKS)
    assert source.names == expected.names
    np.testing.assert_array_equal(source.splits["valid"], expected.splits["valid"])
    assert [source.target(number) for number in range(200)] == [expected.target(number) for number in range(200)]


def test_what_the_masks_lack_is_named(home: Path) -> None:
    """Protects users from guessing: the SBD, a mask, the contents of one."""
    source = read_masks(home, MASKS)
    voc, sbd = home / "VOCdevkit/VOC2012", home / "benchmark_RELEASE/dataset"
    sbd_number = source.names.index("JPEGImages/2008_000001.jpg")
    own_number = source.names.index("JPEGImages/2008_000002.jpg")
    content = (sbd / "cls/2008_000001.mat").read_bytes()
    (sbd / "cls/2008_000001.mat").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"2008_000001.mat cannot be read"):
        source.target(sbd_number)
    (sbd / "cls/2008_000001.mat").unlink()
    with pytest.raises(DataError, match=r"2008_000001.mat is missing"):
        source.target(sbd_number)
    (voc / "SegmentationClass/2008_000002.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"SegmentationClass/2008_000002.png: a mask is not a whole PNG"):
        source.target(own_number)
    shutil.rmtree(home / "benchmark_RELEASE")
    with pytest.raises(DataError, match=r"neither a folder benchmark_RELEASE/dataset nor benchmark.tgz"):
        read_masks(home, MASKS)


def test_boxes_and_classes_share_one_generated_set(made: Path, tmp_path: Path) -> None:
    """Protects the stand-in of the boxes, which has a name of its own."""
    stand_in_boxes(tmp_path, BOXES)
    expected, source = read_boxes(made, BOXES), read_boxes(tmp_path, BOXES)
    assert source.names == expected.names
    assert all(source.image(number) == expected.image(number) for number in range(0, 200, 20))
