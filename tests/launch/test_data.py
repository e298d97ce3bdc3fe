"""`harness prepare` as a person gives it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.config.datasets import DATASETS, REAL
from harness.config.errors import ConfigError
from harness.data.catalogue import CATALOGUE
from harness.launch.data import absent, check_lists, command, counts, ready
from harness.launch.site import Site, site


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A machine with nothing on it."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    return site()


def test_prepare_with_every_option(here: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the way from the owner's files to a smaller store with a list of one's own, in one command."""
    facts = DATASETS["imagenet-stand-in"]
    CATALOGUE["imagenet"].stand_in(tmp_path / "official", facts)
    names = [f"{path.name}\n" for path in sorted(tmp_path.glob("official/train/*/*"))]
    (tmp_path / "few.txt").write_text("".join(names[::20]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "imagenet-256px", facts.__class__(**{**facts.__dict__, "store": "longest-side-80"}))
        source = ["--source", str(tmp_path / "official"), "--skip-broken", "--list", f"simclr-1={tmp_path / 'few.txt'}"]
        assert main(["prepare", "imagenet", "--longest-side", "256", *source]) == 0
    told = capsys.readouterr().out
    assert "converted to JPEG: longer side above 80 pixels" in told
    assert f"simclr-1 lists {len(names[::20])} images" in told
    manifest = json.loads((here.data / "imagenet-256px/manifest.json").read_text())
    assert manifest["source"] == "official"
    assert set(manifest["lists"]) > {"simclr-1", "balanced-1", "balanced-50", "train"}


def test_the_list_of_datasets(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the overview: every dataset, whether it is there, what it holds and where it can be had."""
    assert main(["prepare", "digits"]) == 0
    capsys.readouterr()
    assert main(["prepare"]) == 0
    told = capsys.readouterr().out
    assert "digits: handwritten digits, 1797 images, 10 classes; prepared: digits\n" in told
    assert "food101: Food-101, 101000 images, 101 classes; not prepared\n" in told
    assert all(f"{name}: " in told for name in REAL)
    assert told.count("from:") == len(REAL)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["food101"], "--source FOLDER"),
        (["--stand-in"], "name the dataset"),
        (["food101", "--list", "mine"], "LIST=FILE"),
        (["food101", "--longest-side", "0"], "at least 1"),
        (["food102"], "did you mean 'food101'"),
    ],
)
def test_mistakes_are_one_line(command: list[str], words: str, here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects a person who mistypes: exit code 2 and one sentence."""
    assert main(["prepare", *command]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1


def test_a_sweep_prepares_what_can_be_generated(here: Site) -> None:
    """Protects a fresh clone: stand-ins come by themselves, and real sets are asked for by their command."""
    ready({"flowers-stand-in"}, here, lambda _: None)
    assert (here.data / "flowers-stand-in/manifest.json").exists()
    with pytest.raises(ConfigError, match=r"harness prepare flowers --source FOLDER"):
        ready({"flowers"}, here, lambda _: None)


def test_a_list_that_nobody_added_is_asked_for_before_the_sweep(here: Site) -> None:
    """Protects GPU-hours: fine-tuning on SimCLR's lists comes after weeks of pretraining, and must not fail then."""
    ready({"digits"}, here, lambda _: None)
    check_lists({("digits", "train"), ("digits", "balanced-10")}, here)
    with pytest.raises(ConfigError, match=r"no list of images simclr-1; .*harness prepare digits --list simclr-1=FILE"):
        check_lists({("digits", "simclr-1"), ("digits", "train")}, here)


def test_what_a_person_has_to_prepare(here: Site) -> None:
    """Protects a sweep from stopping, and a report from asking for what is generated: real sets that are not whole."""
    assert absent({"flowers-stand-in", "digits"}, here) == {}
    damaged = here.data / "dtd" / "manifest.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    found = absent({"pets", "dtd", "digits"}, here)
    assert list(found) == ["dtd", "pets"]
    assert "cannot be read" in found["dtd"]
    assert all(command(name) in why for name, why in found.items())
    assert (counts("dtd", here), counts("pets", here)) == ({}, {})
