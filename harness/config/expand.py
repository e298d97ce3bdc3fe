"""From a table's declaration to its runs: recipe + changes, carried over to the profile's scale, with keys."""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal, get_type_hints

from harness.config.check import check_linear, check_pretrain
from harness.config.datasets import DATASETS
from harness.config.document import Document
from harness.config.errors import ConfigError
from harness.config.files import Cell, FieldMap, ProfileFile, TableFile, named_file, read_profile, read_table
from harness.config.identity import canonical, run_key
from harness.config.layers import Layers
from harness.config.schema import Imported, Linear, Pretrain, RandomEncoder, Spec, Subject
from harness.config.structure import unknown

UNTRAINED = "untrained"  # the cell of the untrained encoder; no declared cell may take this id
_CELL_ID = re.compile(r"[A-Za-z0-9_.+-]+")  # goes into file names, tags and `table5b:byol`


@dataclass(frozen=True)
class Member:
    """One seed of one cell: what is evaluated, and how. The same run may be a member of many cells and tables."""

    table: str
    cell: str
    seed: int
    subject: Subject
    subject_key: str
    evaluation: Linear
    evaluation_key: str
    at_paper_scale: bool  # the profile changes neither, so the number may be judged against the paper's


@dataclass(frozen=True)
class Expansion:
    """A table at a profile. `cells` in the order of the file; `untrained` is last where the profile asks for it."""

    table: str
    profile: str
    seeds: tuple[int, ...]
    cells: tuple[str, ...]
    members: tuple[Member, ...]

    def runs(self) -> dict[str, Spec]:
        """Every distinct run by key, each subject before its evaluations. An untrained encoder is no run of its own."""
        runs: dict[str, Spec] = {}
        for member in self.members:
            if isinstance(member.subject, Pretrain):
                runs[member.subject_key] = member.subject
        for member in self.members:
            runs[member.evaluation_key] = member.evaluation
        return runs

    def subjects(self) -> dict[str, Subject]:
        return {member.subject_key: member.subject for member in self.members}


@dataclass(frozen=True)
class _Change:
    """A value that a cell sets, and the file and line where it does."""

    value: Any
    where: str


@dataclass(frozen=True)
class _Declared:
    """A cell with its grid multiplied out. `recipe_where` is the line that names the recipe."""

    name: str
    recipe: str
    recipe_where: str
    changes: dict[str, _Change]
    evaluation: dict[str, _Change]
    untrained: bool = False
    imported: str | None = None


@dataclass(frozen=True)
class _Source:
    """A table file and the profile at which it is expanded."""

    table: TableFile
    document: Document
    profile: ProfileFile
    profile_document: Document

    def maps(self, section: Literal["pretrain", "linear"], name: str) -> dict[str, list[tuple[FieldMap, str]]]:
        """By key, how the profile carries recipe or evaluation `name` over, and where it says so. Its own go first."""
        maps: dict[str, list[tuple[FieldMap, str]]] = {}
        for where, own in ((f"own.{name}", self.profile.own.get(name, {})), (section, getattr(self.profile, section))):
            for key, how in own.items():
                maps.setdefault(key, []).append((how, self.profile_document.where(f"{where}.{key}")))
        return maps


def expand(table: str, profile: str, seeds: int | None = None, cell: str | None = None) -> Expansion:
    """Expand table `table` at `profile`; `seeds` takes the first n declared ones, `cell` restricts to one cell."""
    source = _Source(*read_table(table), *read_profile(profile))
    chosen = _first_seeds(source.table, source.document, seeds)
    cells = list(_cells(source.table, source.document))
    if cell is not None:
        names = [one.name for one in cells]
        if cell not in names:
            raise ConfigError(f"table {table}: {unknown(cell, names, 'cell')}")
        cells = [cells[names.index(cell)]]
    elif source.profile.untrained and not any(one.untrained for one in cells):
        where = source.document.where("recipe")
        cells.append(_Declared(UNTRAINED, source.table.recipe, where, changes={}, evaluation={}, untrained=True))
    members = tuple(member for one in cells for member in _members(one, chosen, source))
    return Expansion(table, profile, chosen, tuple(one.name for one in cells), members)


def declared_cells(table: str) -> tuple[str, ...]:
    """The ids of a table's cells, in the order of its file."""
    return tuple(cell.name for cell in _cells(*read_table(table)))


def _members(cell: _Declared, seeds: Sequence[int], source: _Source) -> Iterator[Member]:
    """One member for each seed, which differ in that alone. An imported encoder has no seed; its evaluations have."""
    evaluation, as_in_paper = _evaluation(cell.evaluation, source)
    first, trained_as_in_paper = (_imported(cell), True) if cell.imported else _first(cell, source)
    for seed in seeds:
        subject = first if isinstance(first, Imported) else replace(first, seed=seed)
        key = run_key(subject)
        own = replace(evaluation, subject=key, seed=seed if isinstance(first, Imported) else evaluation.seed)
        at_paper_scale = as_in_paper and trained_as_in_paper
        yield Member(source.table.table, cell.name, seed, subject, key, own, run_key(own), at_paper_scale)


def _first(cell: _Declared, source: _Source) -> tuple[Pretrain | RandomEncoder, bool]:
    """What a cell evaluates, with seed 0, and whether that is the paper's own."""
    paper, spec = _pretrain(cell, source)
    if not cell.untrained:
        return spec, spec == paper
    subjects = [
        RandomEncoder(kind="random", encoder=model.encoder, width=model.width, norm=model.norm, seed=0)
        for model in (paper.model, spec.model)
    ]
    return subjects[1], subjects[0] == subjects[1]


def _imported(cell: _Declared) -> Imported:
    """The encoder that experiments/imported describes."""
    assert cell.imported is not None, "asked for by name"
    layers = Layers(named_file("imported", cell.imported, cell.recipe_where), drop=("source",))
    layers.add("kind", "imported")
    return layers.build(Imported, lambda _spec: None)


def _first_seeds(declared: TableFile, document: Document, seeds: int | None) -> tuple[int, ...]:
    if seeds is None:
        return declared.seeds
    if not 1 <= seeds <= len(declared.seeds):
        raise ConfigError(
            f"SEEDS={seeds}: table {declared.table} declares {len(declared.seeds)} ({document.where('seeds')})"
        )
    return declared.seeds[:seeds]


def _cells(declared: TableFile, document: Document) -> Iterator[_Declared]:
    seen: dict[str, str] = {}
    if not declared.cells:
        raise document.error("cells", "must declare at least one")
    for number, cell in enumerate(declared.cells):
        key = f"cells[{number}]"
        where = document.where(key)
        recipe_where = document.where(f"{key}.recipe" if cell.recipe else "recipe")
        if (cell.untrained or cell.imported) and (cell.set or cell.grid):
            kind = "untrained" if cell.untrained else "imported"
            raise ConfigError(f"{where}: an {kind} encoder has nothing to set; name a recipe or an import that is so")
        for name, combination in _grid(cell, where):
            if not _CELL_ID.fullmatch(name):
                raise ConfigError(f"{where}: cell id '{name}' may hold letters, digits and _ . + - alone")
            if name in seen or name == UNTRAINED:
                first = f"already stands at {seen[name]}" if name in seen else "is reserved"
                raise ConfigError(f"{where}: cell id '{name}' {first}; give each cell its own")
            seen[name] = where
            changes = {k: _Change(v, document.where(f"{key}.set.{k}")) for k, v in cell.set.items()}
            changes |= {k: _Change(v, document.where(f"{key}.grid.{k}")) for k, v in combination.items()}
            evaluation = {k: _Change(v, document.where(f"{key}.evaluate.{k}")) for k, v in cell.evaluate.items()}
            recipe = cell.recipe or declared.recipe
            yield _Declared(name, recipe, recipe_where, changes, evaluation, cell.untrained, cell.imported)


def _grid(cell: Cell, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The combinations of a grid; `{beta}` in the id stands for the value of the key that ends in beta."""
    for key, values in cell.grid.items():
        if not values or key in cell.set:
            raise ConfigError(f"{where}: grid: {key}: {'is in `set` too' if values else 'names no value'}")
    for chosen in itertools.product(*cell.grid.values()):
        combination = dict(zip(cell.grid, chosen, strict=True))
        short = {key.rsplit(".", 1)[-1]: value for key, value in combination.items()}
        try:
            name = cell.id.format(**short)
        except (AttributeError, KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"{where}: id '{cell.id}' names {error}, which its grid does not hold") from None
        yield name, combination


def _pretrain(cell: _Declared, source: _Source) -> tuple[Pretrain, Pretrain]:
    """A cell in the paper's terms, and at the profile's scale."""
    recipe = named_file("recipes", cell.recipe, cell.recipe_where)
    own = _with_knobs(_with_views(Layers(recipe, drop=("expected", "about"))), Pretrain)
    layers = own.copy()
    for key, change in cell.changes.items():
        layers.set(key, change.value, change.where)
        layers = _with_views(layers) if key == "data.views" else layers
    added = {"kind": "pretrain", "seed": 0}  # the table's seeds replace this one
    paper = canonical(_complete(layers, added).build(Pretrain, check_pretrain))  # must hold before it is scaled
    _scale(layers, own, source.maps("pretrain", cell.recipe), "recipe")
    spec = canonical(_complete(layers, added).build(Pretrain, check_pretrain))
    assert isinstance(paper, Pretrain)
    assert isinstance(spec, Pretrain)
    return paper, spec


def _evaluation(changes: Mapping[str, _Change], source: _Source) -> tuple[Linear, bool]:
    """The evaluation of a cell, of no subject yet, and whether it is the paper's own."""
    name = source.table.evaluate
    own = Layers(named_file("evaluations", name, source.document.where("evaluate")), drop=("about",))
    own = _with_knobs(own, Linear)
    layers = own.copy()
    for key, change in changes.items():
        layers.set(key, change.value, change.where)
    added = {"subject": "", "seed": 0}
    paper = _complete(layers, added).build(Linear, check_linear)
    _scale(layers, own, source.maps("linear", name), "evaluation")
    spec = _complete(layers, added).build(Linear, check_linear)
    return spec, spec == paper


def _with_knobs(layers: Layers, cls: type) -> Layers:
    """What the schema gained later stands at its neutral value where a file leaves it out, so that cells can set it."""
    for key, value in _knobs(cls).items():
        section = key.rpartition(".")[0]
        if not layers.has(key) and (not section or isinstance(layers.get(section), dict)):
            layers.add(key, value)
    return layers


@cache
def _knobs(cls: type) -> dict[str, Any]:
    """The dotted keys of a schema's fields that have a neutral value."""
    knobs: dict[str, Any] = {}
    hints = get_type_hints(cls)
    for field in fields(cls):
        if is_dataclass(hint := hints[field.name]) and isinstance(hint, type):
            knobs |= {f"{field.name}.{key}": value for key, value in _knobs(hint).items()}
        elif "neutral" in field.metadata:
            knobs[field.name] = field.metadata["neutral"]
    return knobs


def _with_views(layers: Layers) -> Layers:
    """`views: byol` stands for the file of that name, so that a spec holds every probability and range itself."""
    if layers.has("data.views") and isinstance(name := layers.get("data.views"), str):
        layers.include("data.views", named_file("views", name, layers.where("data.views")))
    return layers


def _complete(layers: Layers, added: Mapping[str, Any]) -> Layers:
    """Add what no file sets: the dataset's facts, and `added`."""
    layers = layers.copy()
    for key, value in added.items():
        layers.add(key, value)
    if layers.has("data.dataset"):  # if not, the schema will say so
        name = layers.get("data.dataset")
        if not isinstance(name, str) or name not in DATASETS:
            problem = unknown(name, DATASETS, "dataset")
            raise ConfigError(f"{layers.where('data.dataset')}: data.dataset: {problem}")
        for fact, value in DATASETS[name].identity().items():
            layers.add(f"data.{fact}", value)
    return layers


def _scale(layers: Layers, own: Layers, maps: Mapping[str, Sequence[tuple[FieldMap, str]]], kind: str) -> None:
    """Each key by the first of its maps that is for this cell."""
    cell = layers.copy()  # in the paper's terms
    for key, ways in maps.items():
        for how, where in ways:
            for needed in (key, *how.when):
                if not (layers.has(needed) and own.has(needed)):
                    raise ConfigError(f"{where}: {needed}: no {kind} has this key")
        fitting = (way for way in ways if all(cell.get(name) == wanted for name, wanted in way[0].when.items()))
        if (way := next(fitting, None)) is None:
            continue
        how, where = way
        value = layers.get(key)
        if value is not None or how.value is not None:
            layers.set(key, _carried(value, own.get(key), how, f"{where}: {key}"), where)


def _carried(value: Any, baseline: Any, how: FieldMap, where: str) -> Any:
    """One value of the paper at the profile's scale; `baseline` is the recipe's own."""
    if how.value is not None:
        return how.value
    if isinstance(value, list):
        return [_carried(item, None, how, where) for item in value]
    if how.table is not None:
        if not isinstance(value, Hashable) or value not in how.table:
            raise ConfigError(f"{where}: the table has no entry for {value!r}")
        return how.table[value]
    if not isinstance(value, int | float):
        raise ConfigError(f"{where}: {value!r} is no number; give value or table")
    if how.relative is not None:
        if value and not baseline:
            raise ConfigError(f"{where}: relative needs a recipe's own value that is not {baseline!r}")
        return how.relative * float(value) / float(baseline or 1)  # 0 is 0 at every scale
    if how.factor is not None:
        scaled = value * how.factor
        return max(round(scaled), how.floor) if how.floor is not None else scaled
    assert how.complement is not None, "read_profile lets nothing else through"
    return round(1 - (1 - value) * how.complement, 12)
