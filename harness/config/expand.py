"""From a table's declaration to its runs: recipe + changes, carried over to the profile's scale, with keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.config.check import check_linear, check_pretrain
from harness.config.datasets import DATASETS
from harness.config.document import Document
from harness.config.errors import ConfigError
from harness.config.files import Cell, FieldMap, ProfileFile, TableFile, named_file, read_profile, read_table
from harness.config.identity import canonical, run_key
from harness.config.layers import Layers
from harness.config.schema import Linear, Pretrain, RandomEncoder, Spec, Subject
from harness.config.structure import StructureError, unknown

UNTRAINED = "untrained"  # the cell of the untrained encoder; no declared cell may take this id


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


def expand(table: str, profile: str, seeds: int | None = None, cell: str | None = None) -> Expansion:
    """Expand table `table` at `profile`; `seeds` takes the first n declared ones, `cell` restricts to one cell."""
    declared, document = read_table(table)
    scale, scale_document = read_profile(profile)
    chosen = _first_seeds(declared, document, seeds)
    cells = list(_cells(declared, document))
    names = [name for name, *_ in cells]
    if cell is not None and cell not in names:
        raise ConfigError(f"table {table}: {unknown(cell, names, 'cell')}")
    members: list[Member] = []
    for name, recipe, changes, evaluation_changes, where in cells:
        if cell not in (None, name):
            continue
        first = _pretrain(recipe, changes, where, scale, scale_document)
        for seed in chosen:
            subject = replace(first, seed=seed)
            evaluation = _evaluation(declared, evaluation_changes, where, scale, scale_document, run_key(subject))
            members.append(_member(table, name, seed, subject, evaluation))
    if scale.untrained and cell is None:
        names.append(UNTRAINED)
        members += _untrained(declared, document, scale, scale_document, chosen)
    return Expansion(table, profile, chosen, tuple(n for n in names if cell in (None, n)), tuple(members))


def _member(table: str, cell: str, seed: int, subject: Subject, evaluation: Linear) -> Member:
    return Member(table, cell, seed, subject, run_key(subject), evaluation, run_key(evaluation))


def _untrained(
    declared: TableFile,
    document: Document,
    scale: ProfileFile,
    scale_document: Document,
    seeds: Sequence[int],
) -> Iterator[Member]:
    model = _pretrain(declared.recipe, {}, document.where(""), scale, scale_document).model
    for seed in seeds:
        subject = RandomEncoder(kind="random", encoder=model.encoder, width=model.width, norm=model.norm, seed=seed)
        evaluation = _evaluation(declared, {}, document.where(""), scale, scale_document, run_key(subject))
        yield _member(declared.table, UNTRAINED, seed, subject, evaluation)


def _first_seeds(declared: TableFile, document: Document, seeds: int | None) -> tuple[int, ...]:
    if seeds is None:
        return declared.seeds
    if not 1 <= seeds <= len(declared.seeds):
        raise ConfigError(
            f"SEEDS={seeds}: table {declared.table} declares {len(declared.seeds)} ({document.where('seeds')})"
        )
    return declared.seeds[:seeds]


CellForm = tuple[str, str, dict[str, Any], dict[str, Any], str]


def _cells(declared: TableFile, document: Document) -> Iterator[CellForm]:
    """Each cell as (id, recipe, changes, changes of the evaluation, file and line); grids multiplied out."""
    seen: dict[str, str] = {}
    for number, cell in enumerate(declared.cells):
        where = document.where(f"cells[{number}]")
        for name, changes in _grid(cell, where):
            if name in seen or name == UNTRAINED:
                first = f"already stands at {seen[name]}" if name in seen else "is reserved"
                raise ConfigError(f"{where}: cell id '{name}' {first}; give each cell its own")
            seen[name] = where
            yield name, cell.recipe or declared.recipe, changes, cell.evaluate, where


def _grid(cell: Cell, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The combinations of a grid; `{beta}` in the id stands for the value of the key that ends in beta."""
    for values in itertools.product(*cell.grid.values()):
        combination = dict(zip(cell.grid, values, strict=True))
        short = {key.rsplit(".", 1)[-1]: value for key, value in combination.items()}
        try:
            name = cell.id.format(**short)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"{where}: id '{cell.id}' names {error}, which its grid does not hold") from None
        yield name, {**cell.set, **combination}


def _pretrain(
    recipe: str, changes: dict[str, Any], where: str, scale: ProfileFile, scale_document: Document
) -> Pretrain:
    own = _with_views(Layers(named_file("recipes", recipe), drop=("expected", "about")))
    layers = own.copy()
    for key, value in changes.items():
        layers.set(key, value, where)
        layers = _with_views(layers) if key == "data.views" else layers
    _complete(layers, kind="pretrain").build(Pretrain)  # the paper's terms must hold before they are scaled
    _scale(layers, own, scale.pretrain, scale_document, "pretrain")
    spec = _complete(layers, kind="pretrain").build(Pretrain)
    try:
        check_pretrain(spec)
    except StructureError as error:
        raise ConfigError(f"{layers.where(error.key)}: {error.key}: {error.problem}") from None
    result = canonical(spec)
    assert isinstance(result, Pretrain)
    return result


def _evaluation(
    declared: TableFile,
    changes: dict[str, Any],
    where: str,
    scale: ProfileFile,
    scale_document: Document,
    subject: str,
) -> Linear:
    own = Layers(named_file("evaluations", declared.evaluate), drop=("about",))
    layers = own.copy()
    for key, value in changes.items():
        layers.set(key, value, where)
    _scale(layers, own, scale.linear, scale_document, "linear")
    layers = _complete(layers)
    layers.add("subject", subject)
    spec = layers.build(Linear)
    try:
        check_linear(spec)
    except StructureError as error:
        raise ConfigError(f"{layers.where(error.key)}: {error.key}: {error.problem}") from None
    return spec


def _with_views(layers: Layers) -> Layers:
    """`views: byol` stands for the file of that name, so that a spec holds every probability and range itself."""
    if isinstance(layers.get("data.views"), str):
        layers.set("data.views", named_file("views", layers.get("data.views")).data, layers.where("data.views"))
    return layers


def _complete(layers: Layers, kind: str | None = None) -> Layers:
    """Add what no file sets: the dataset's facts, the seed (0 until the table's seeds replace it), the kind of run."""
    layers = layers.copy()
    name = layers.get("data.dataset")
    if name not in DATASETS:
        problem = unknown(str(name), list(DATASETS), "dataset")
        raise ConfigError(f"{layers.where('data.dataset')}: data.dataset: {problem}")
    for fact, value in DATASETS[name].identity().items():
        layers.add(f"data.{fact}", value)
    layers.add("seed", 0)
    if kind is not None:
        layers.add("kind", kind)
    return layers


def _scale(layers: Layers, own: Layers, maps: dict[str, FieldMap], document: Document, section: str) -> None:
    for key, how in maps.items():
        where = document.where(f"{section}.{key}")
        if not layers.has(key):
            raise ConfigError(f"{where}: {key}: no recipe has this key")
        value, baseline = layers.get(key), own.get(key)
        if value is not None or how.value is not None:
            layers.set(key, _carried(value, baseline, how, f"{where}: {key}"), where)


def _carried(value: Any, baseline: Any, how: FieldMap, where: str) -> Any:
    """One value of the paper at the profile's scale."""
    if how.value is not None:
        return how.value
    if how.table is not None:
        if value not in how.table:
            raise ConfigError(f"{where}: the table has no entry for {value!r}")
        return how.table[value]
    if isinstance(value, list):
        return [_carried(item, item, how, where) for item in value]
    if how.relative is not None:
        return how.relative * float(value) / float(baseline)
    if how.factor is not None:
        scaled = value * how.factor
        return max(round(scaled), how.floor) if how.floor is not None else scaled
    if how.complement is not None:
        return round(1 - (1 - value) * how.complement, 12)
    raise ConfigError(f"{where}: says nothing; give value, table, relative, factor or complement")
