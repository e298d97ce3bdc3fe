"""The datasets of this machine: prepared on demand, checked, and listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.config.datasets import DATASETS
from harness.config.errors import ConfigError
from harness.data.catalogue import CATALOGUE, entry_of, facts_of, full_name, generated, remedy
from harness.data.check import check
from harness.data.dataset import JOINED, open_dataset
from harness.data.errors import DataError
from harness.data.manifest import FILE, load
from harness.data.prepare import add_list, add_subsets
from harness.data.prepare import prepare as write
from harness.launch.bar import Bar
from harness.launch.site import Site, check_writable

Say = Callable[[str], None]

OWNERS_VALID = ("official", "partition-1")  # split ids of datasets whose owner gives a valid split


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options of `harness prepare`."""

    source: Path | None = None
    stand_in: bool = False
    longest_side: int | None = None
    skip_broken: bool = False
    check: bool = False
    lists: list[tuple[str, Path]] = field(default_factory=list)


def prepare(dataset: str | None, wanted: Wanted, here: Site, say: Say) -> int:
    """What `harness prepare` does; 1 where a check finds something."""
    if dataset is None:
        if wanted != Wanted():
            raise ConfigError("name the dataset to prepare; `harness prepare` alone lists them")
        return _list(here, say)
    try:
        name = full_name(dataset, wanted.stand_in, wanted.longest_side)
        if wanted.check:
            return _check(name, here, say)
        _write(name, wanted, here, say)
        for title, file in wanted.lists:
            add_list(name, here.data, title, file, say)
    except DataError as error:
        raise ConfigError(str(error)) from None
    return 0


def ready(names: Iterable[str], here: Site, say: Say) -> None:
    """Prepare what can be generated; ConfigError, with the command to give, where the owner's files are needed."""
    for name in sorted(names):
        try:
            add_subsets(name, here.data, say)
        except DataError as error:
            if not generated(name):
                raise ConfigError(str(error)) from None
            prepare(name, Wanted(), here, say)


def absent(names: Iterable[str], here: Site) -> dict[str, str]:
    """Of these datasets, those that a person has to prepare: what is wrong, and the command to give."""
    found = {}
    for name in sorted(names):
        try:
            if not generated(name):
                load(here.data / name, name, facts_of(name))
        except DataError as error:
            found[name] = str(error)
    return found


def command(name: str) -> str:
    """What prepares a dataset."""
    return remedy(name).removeprefix("run ")


def counts(name: str, here: Site) -> dict[str, int]:
    """Table 10's numbers of a prepared dataset; nothing where it is not prepared.

    Where the valid split is not the owner's, it was taken from the owner's train split.
    """
    try:
        found = load(here.data / name, name, facts_of(name))
    except DataError:
        return {}
    splits = found.counts
    owners = splits["train"] + (0 if found.split_id in OWNERS_VALID else splits["valid"])
    return {"classes": len(found.classes), "original_train": owners, **splits}


def check_lists(wanted: Iterable[tuple[str, str]], here: Site) -> None:
    """ConfigError, with the command to give, for the first list of labels that a dataset lacks, before a sweep does."""
    for name, split in sorted(wanted):
        dataset = open_dataset(name, here.data)
        if split not in (*JOINED, *dataset.manifest.lists):
            remedy = f"add it with `harness prepare {name} --list {split}=FILE`, one image's name a line"
            raise ConfigError(f"{dataset.folder} has no list of images {split}; {remedy}")


def _write(name: str, wanted: Wanted, here: Site, say: Say) -> None:
    check_writable(here)
    with Bar(name, say) as bar:
        write(name, here.data, say, source=wanted.source, skip_broken=wanted.skip_broken, progress=bar)


def _check(name: str, here: Site, say: Say) -> int:
    with Bar(name, say) as bar:
        findings = check(name, here.data, bar)
    for finding in findings or ["ok"]:
        say(f"{name}: {finding}")
    return 1 if findings else 0


def _list(here: Site, say: Say) -> int:
    """Every dataset, in which forms it is prepared, what its --source holds, and where that can be had."""
    there = [name for name in DATASETS if (here.data / name / FILE).exists()]
    for name, entry in CATALOGUE.items():
        facts = facts_of(name)
        count = f"{facts.images('train+valid+test')} images" + (f", {facts.classes} classes" if facts.classes else "")
        forms = ", ".join(one for one in there if entry_of(one) is entry)
        say(f"{name}: {entry.title}, {count}; {f'prepared: {forms}' if forms else 'not prepared'}")
        if not entry.built_in:
            say(f"    holds: {entry.layout}")
        say(f"    from:  {entry.where}")
    return 0
