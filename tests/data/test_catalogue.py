"""The catalogue: every dataset of the tables has an entry whose reader reads what its stand-in writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.config.datasets import DATASETS, LONGEST_SIDES, REAL, STAND_IN, STAND_IN_PER_CLASS
from harness.data.catalogue import CATALOGUE, entry_of, facts_of, full_name, generated, remedy
from harness.data.errors import DataError
from harness.data.intake import examine
from harness.data.source import SPLITS


def test_every_dataset_has_an_entry() -> None:
    """Protects `harness prepare NAME` for every name that a configuration may carry."""
    assert tuple(CATALOGUE) == REAL
    assert {entry_of(name).title for name in DATASETS} == {entry.title for entry in CATALOGUE.values()}
    for name in DATASETS:
        base = name.removesuffix(STAND_IN)
        for side in LONGEST_SIDES:
            base = base.removesuffix(f"-{side}px")
        assert entry_of(name) is CATALOGUE[base]


@pytest.mark.parametrize("name", [name for name in REAL if not CATALOGUE[name].built_in])
def test_every_reader_is_there(name: str) -> None:
    """Protects against an entry whose reader has another name."""
    entry = CATALOGUE[name]
    assert entry.where
    with pytest.raises(DataError):
        entry.read(Path("/nowhere"), facts_of(name))


@pytest.mark.parametrize("name", ["aircraft", "cifar100", "voc2012"])
def test_a_stand_in_is_read_like_the_real_set(name: str, tmp_path: Path) -> None:
    """Protects the chain without the owners' files: same layout, same reader, the facts of the stand-in."""
    entry, facts = entry_of(name + STAND_IN), facts_of(name + STAND_IN)
    entry.stand_in(tmp_path, facts)
    source = entry.read(tmp_path, facts)
    examine(name, source, facts)
    for split in SPLITS:
        assert len(source.splits[split]) == STAND_IN_PER_CLASS[split] * facts.classes == facts.images(split)


def test_options_complete_a_name() -> None:
    """Protects the two ways to name a dataset's form, which are one."""
    assert full_name("food101") == "food101"
    assert full_name("food101", stand_in=True) == full_name("food101-stand-in", stand_in=True) == "food101-stand-in"
    assert full_name("imagenet", longest_side=500) == full_name("imagenet-500px") == "imagenet-500px"
    for name, options in (
        ("food101", {"longest_side": 123}),
        ("cifar10", {"longest_side": 256}),
        ("digits", {"stand_in": True}),
    ):
        with pytest.raises(DataError, match="unknown dataset"):
            full_name(name, **options)  # type: ignore[arg-type]


def test_generated_sets_need_no_files() -> None:
    """Protects what a sweep prepares by itself, and the command it asks for where it cannot."""
    assert generated("digits")
    assert generated("imagenet-stand-in")
    assert not generated("imagenet")
    assert remedy("voc2007-boxes-stand-in") == "run `harness prepare voc2007-boxes-stand-in`"
    assert remedy("voc2007-boxes") == "run `harness prepare voc2007-boxes --source FOLDER`"


def test_looking_a_name_up_imports_no_reader() -> None:
    """Protects the time of commands that only name datasets."""
    code = (
        "import sys, harness.data.catalogue as c; c.entry_of('dtd'); print(*(m for m in sys.modules if 'readers' in m))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "\n"
