"""The declarations as they stand in experiments/ and tables/: tables of cells, profiles, layouts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from harness.config.document import Document, read_yaml, shown
from harness.config.errors import ConfigError
from harness.config.structure import StructureError, structure, unknown

T = TypeVar("T")
# Of a profile: maps of what is trained, and of each kind of evaluation.
Section = Literal["pretrain", "linear", "logistic", "finetune", "segmentation", "detection", "depth"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell, or with `grid` one cell for each combination. `set` changes the recipe, `evaluate` the evaluation; so
    does a key of `grid` that begins with `evaluate.`.

    evaluation: its own in place of the table's; `none` where what its training measures of itself is all that is asked.
    untrained: the recipe's encoder as initialised, which only the evaluation trains on.
    imported: an encoder of experiments/imported, by name, in place of what the recipe would train.
    seeds: how many of the table's, the first ones; all without it.
    """

    id: str
    set: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    evaluation: str | None = None
    recipe: str | None = None
    untrained: bool = False
    imported: str | None = None
    seeds: int | None = None


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """experiments/tables/table<ID>.yaml: which runs a table of the paper asks for.

    seeds_of: what the seeds tell apart: pretrainings, each evaluated with seed 0, or evaluations of that of seed 0.
    """

    table: str
    question: str
    recipe: str
    seeds: tuple[int, ...]
    evaluate: str
    cells: tuple[Cell, ...]
    seeds_of: Literal["subject", "evaluation"] = "subject"


@dataclass(frozen=True, kw_only=True)
class FieldMap:
    """How a profile carries one field over from the paper's scale. Exactly one is set, `floor` goes with factor alone,
    and `when` with any.

    A list is carried over item by item, but for `value`.

    value: the same at every cell.
    table: by look-up; a value without an entry is an error.
    relative: this, times the cell's value over the recipe's own; 0 stays 0.
    factor: times the cell's value, rounded and at least `floor` where that is set.
    complement: 1 - x is multiplied by this (for tau).
    when: only for cells that have these values, in the paper's terms. The others go by the general map of the key after
        the recipe's own, or keep what they set.
    """

    value: Any = None
    table: dict[Any, Any] | None = None
    relative: float | None = None
    factor: float | None = None
    floor: int | None = None
    complement: float | None = None
    when: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ProfileFile:
    """experiments/profiles/<name>.yaml: the scale at which recipes are run.

    machine: the one of experiments/machines.yaml that costs are reckoned on.
    own: by the name of a recipe or an evaluation, maps that go before those of its section.
    stand_ins: Table 10 counts the generated twins of its datasets.
    """

    profile: str
    description: str
    machine: str
    pretrain: dict[str, FieldMap] = field(default_factory=dict)
    linear: dict[str, FieldMap] = field(default_factory=dict)
    logistic: dict[str, FieldMap] = field(default_factory=dict)
    finetune: dict[str, FieldMap] = field(default_factory=dict)
    segmentation: dict[str, FieldMap] = field(default_factory=dict)
    detection: dict[str, FieldMap] = field(default_factory=dict)
    depth: dict[str, FieldMap] = field(default_factory=dict)
    own: dict[str, dict[str, FieldMap]] = field(default_factory=dict)
    untrained: bool = False  # evaluate the untrained encoder too, for each table's footer
    stand_ins: bool = False


def project_root() -> Path:
    """The checkout that holds experiments/ and tables/: HARNESS_ROOT, or found from the working directory upward."""
    named = os.environ.get("HARNESS_ROOT")
    if named:
        root = Path(named).resolve()
        if not (root / "experiments" / "recipes").is_dir():
            raise ConfigError(f"HARNESS_ROOT={named} holds no experiments/recipes; point it at a checkout")
        return root
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "experiments" / "recipes").is_dir():
            return folder
    raise ConfigError("no experiments/ folder here or above; run in a checkout or set HARNESS_ROOT to one")


def read_as(cls: type[T], document: Document) -> T:
    """The whole document as a dataclass, errors with file and line."""
    try:
        return structure(cls, document.data)
    except StructureError as error:
        raise document.error(error.key, error.problem) from None


Kind = Literal["recipes", "evaluations", "profiles", "tables", "views", "imported"]  # the folders of experiments/

_ONE: dict[Kind, str] = {
    "recipes": "recipe",
    "evaluations": "evaluation",
    "profiles": "profile",
    "tables": "table",
    "views": "views",
    "imported": "imported encoder",
}


def named_file(kind: Kind, name: str, where: str | None = None) -> Document:
    """experiments/<kind>/<name>.yaml; a name that does not exist is an error that lists those that do.

    `where` is the file and line that names it; None where a person did.
    """
    folder = project_root() / "experiments" / kind
    path = folder / f"{name}.yaml"
    if path.parent != folder or not path.is_file():  # a name may lead nowhere else
        raise ConfigError(f"{where or shown(folder)}: {unknown(name, _names(kind), _ONE[kind])}")
    return read_yaml(path)


def table_ids() -> list[str]:
    """The ids of all declared tables in the paper's order, `5b` for table5b.yaml."""
    folder = project_root() / "experiments" / "tables"
    return sorted((path.stem.removeprefix("table") for path in folder.glob("table*.yaml")), key=paper_order)


def profile_names() -> list[str]:
    return _names("profiles")


def _names(kind: str) -> list[str]:
    return sorted(path.stem for path in (project_root() / "experiments" / kind).glob("*.yaml"))


def paper_order(table: str) -> tuple[bool, list[tuple[int, str]]]:
    """5b before 14a, and tables that do not start with a number last."""
    parts = [(int(part), "") if part.isdigit() else (0, part) for part in re.findall(r"\d+|\D+", table)]
    return not table[:1].isdigit(), parts


def read_table(table: str) -> tuple[TableFile, Document]:
    document = named_file("tables", f"table{table}")
    parsed = read_as(TableFile, document)
    if parsed.table != table:
        raise document.error("table", f"says '{parsed.table}' in the file of table {table}")
    if not parsed.seeds or len(set(parsed.seeds)) < len(parsed.seeds) or min(parsed.seeds) < 0:
        raise document.error("seeds", "must be different whole numbers from 0 on, at least one")
    return parsed, document


def read_profile(name: str) -> tuple[ProfileFile, Document]:
    document = named_file("profiles", name)
    parsed = read_as(ProfileFile, document)
    sections = {name: getattr(parsed, name) for name in get_args(Section)}
    for own, maps in parsed.own.items():
        if own not in (known := [*_names("recipes"), *_names("evaluations")]):
            raise document.error(f"own.{own}", unknown(own, known, "recipe or evaluation"))
        sections[f"own.{own}"] = maps
    for section, maps in sections.items():
        for key, how in maps.items():
            ways = [one.name for one in fields(how) if one.name not in ("floor", "when")]
            told = [way for way in ways if getattr(how, way) is not None]
            if len(told) != 1 or (how.floor is not None and told != ["factor"]):
                problem = "give exactly one of value, table, relative, complement, or factor with or without floor"
                raise document.error(f"{section}.{key}", problem)
    return parsed, document
