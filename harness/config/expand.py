"""From a table's declaration to its runs: recipe + changes, carried over to the profile's scale, with keys."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from harness.config.check import check_linear, check_logistic, check_pretrain
from harness.config.check_scenes import check_depth, check_detection
from harness.config.completion import complete, with_knobs, with_view, with_views
from harness.config.document import Document
from harness.config.errors import ConfigError
from harness.config.files import Cell, FieldMap, ProfileFile, Section, TableFile, named_file, read_profile, read_table
from harness.config.grid import Grid, check_grid
from harness.config.identity import canonical, run_key
from harness.config.layers import Layers
from harness.config.scale import scale
from harness.config.schema import (
    Choice,
    Depth,
    Detection,
    Imported,
    Linear,
    Logistic,
    Pretrain,
    RandomEncoder,
    Spec,
    Subject,
    Tried,
)
from harness.config.segmentation_grid import SegmentationGrid, check_segmentation
from harness.config.structure import unknown

Asked = Linear | Logistic | Grid | SegmentationGrid | Detection | Depth  # by a file of experiments/evaluations
Measured = Linear | Logistic | Choice | Detection | Depth  # what then has a cell's number
# By the kind of the file, which also names the section of a profile that has its maps.
_ASKED: dict[Section, tuple[type[Any], Callable[[Any], None]]] = {
    "linear": (Linear, check_linear),
    "logistic": (Logistic, check_logistic),
    "finetune": (Grid, check_grid),
    "segmentation": (SegmentationGrid, check_segmentation),
    "detection": (Detection, check_detection),
    "depth": (Depth, check_depth),
}
UNTRAINED = "untrained"  # the cell of the untrained encoder; no declared cell may take this id
NO_EVALUATION = "none"
_OF_NO_SUBJECT: dict[str, Any] = {"seed": 0, "subject": ""}
_OF_EVALUATION = "evaluate."  # begins the keys of a grid that change the evaluation
_CELL_ID = re.compile(r"[A-Za-z0-9_.+-]+")  # goes into file names, tags and `table5b:byol`


@dataclass(frozen=True)
class Member:
    """One seed of one cell: what is evaluated, and how. The same run may be a member of many cells and tables.

    It is the seed of what is evaluated, or of the evaluation where those are what the table's seeds tell apart.

    Where a cell asks for what a training measures of itself, the training stands in the place of the evaluation too.
    """

    table: str
    cell: str
    seed: int
    subject: Subject
    subject_key: str
    evaluation: Measured | Pretrain
    evaluation_key: str
    at_paper_scale: bool  # the profile changes neither, so the number may be judged against the paper's
    candidates: tuple[Tried, ...] = ()  # that a choice is made among

    @property
    def keys(self) -> tuple[str, ...]:
        """Of its runs, each once, in the order in which they go."""
        candidates = self.evaluation.candidates if isinstance(self.evaluation, Choice) else ()
        return tuple(dict.fromkeys((self.subject_key, *candidates, self.evaluation_key)))

    @property
    def specs(self) -> dict[str, Spec]:
        """By key."""
        return dict(zip(self.keys, (self.subject, *self.candidates, self.evaluation), strict=False))


@dataclass(frozen=True)
class Expansion:
    """A table at a profile. `cells` in the order of the file; `untrained` is last where the profile asks for it."""

    table: str
    profile: str
    seeds: tuple[int, ...]
    cells: tuple[str, ...]
    members: tuple[Member, ...]

    def runs(self) -> dict[str, Spec]:
        """Every distinct run by key, each after those it waits for. An untrained encoder is no run of its own."""
        stages: tuple[dict[str, Spec], ...] = ({}, {}, {})
        for member in self.members:
            if isinstance(member.subject, Pretrain):
                stages[0][member.subject_key] = member.subject
            for key, spec in list(member.specs.items())[1:]:
                stages[2 if isinstance(spec, Choice) else 1][key] = spec
        return {key: spec for stage in stages for key, spec in stage.items()}

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
    evaluate: str
    evaluate_where: str
    evaluation: dict[str, _Change]
    untrained: bool = False
    imported: str | None = None
    seeds: int | None = None


@dataclass(frozen=True)
class _Source:
    """A table file and the profile at which it is expanded."""

    table: TableFile
    document: Document
    profile: ProfileFile
    profile_document: Document

    def maps(self, section: Section, name: str) -> dict[str, list[tuple[FieldMap, str]]]:
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
        known = [one.name for one in cells]
        if cell not in known:
            raise ConfigError(f"table {table}: {unknown(cell, known, 'cell')}")
        cells = [cells[known.index(cell)]]
    members = [member for one in cells for member in _members(one, chosen, source)]
    names = [one.name for one in cells]
    if cell is None and source.profile.untrained and not any(one.untrained for one in cells):
        untrained = list(_members(_untrained(source.table, source.document), chosen, source))
        if isinstance(untrained[0].evaluation, Linear):  # fine-tuned, it would be trained
            names, members = [*names, UNTRAINED], members + untrained
    return Expansion(table, profile, chosen, tuple(names), tuple(members))


def _untrained(table: TableFile, document: Document) -> _Declared:
    """The encoder of a table's recipe before any training."""
    return _Declared(
        UNTRAINED,
        table.recipe,
        document.where("recipe"),
        changes={},
        evaluate=table.evaluate,
        evaluate_where=document.where("evaluate"),
        evaluation={},
        untrained=True,
    )


def declared_cells(table: str) -> tuple[str, ...]:
    """The ids of a table's cells, in the order of its file."""
    return tuple(cell.name for cell in _cells(*read_table(table)))


def _members(cell: _Declared, seeds: Sequence[int], source: _Source) -> Iterator[Member]:
    """One member for each seed, which differ in that alone. An imported encoder has no seed; its evaluations have."""
    first, trained_as_in_paper = (_imported(cell), True) if cell.imported else _first(cell, source)
    evaluation, as_in_paper = (None, True) if cell.evaluate == NO_EVALUATION else _evaluation(cell, source)
    of_evaluation = source.table.seeds_of == "evaluation"
    if of_evaluation and not hasattr(evaluation, "seed"):
        problem = f"cell '{cell.name}': evaluation '{cell.evaluate}' has no seed, and the table's seeds are its"
        raise ConfigError(f"{cell.evaluate_where}: {problem}; leave out seeds_of, or name another evaluation")
    for seed in seeds[: cell.seeds]:
        subject = first if isinstance(first, Imported) else replace(first, seed=0 if of_evaluation else seed)
        key = run_key(subject)
        own: Measured | Pretrain
        candidates: tuple[Tried, ...] = ()
        if evaluation is None:
            own = _measures_itself(subject, cell)
        else:
            own, candidates = _of_subject(evaluation, key, seed if of_evaluation or cell.imported else 0)
        as_printed = as_in_paper and trained_as_in_paper
        yield Member(source.table.table, cell.name, seed, subject, key, own, run_key(own), as_printed, candidates)


def _of_subject(evaluation: Asked, subject: str, seed: int) -> tuple[Measured, tuple[Tried, ...]]:
    """What is run on a subject, and the candidates of a choice. A logistic regression has nothing random."""
    if isinstance(evaluation, Grid):
        tuned = evaluation.candidates(subject, seed)
        return _choice(evaluation, subject, tuned), tuned
    if isinstance(evaluation, SegmentationGrid):
        segmented = evaluation.candidates(subject, seed)
        return _choice(evaluation, subject, segmented), segmented
    if isinstance(evaluation, Logistic):
        return replace(evaluation, subject=subject), ()
    return replace(evaluation, subject=subject, seed=seed), ()


def _choice(grid: Grid | SegmentationGrid, subject: str, candidates: Sequence[Tried]) -> Choice:
    """Among these, with the keys that they have."""
    return Choice(
        kind="choice",
        evaluation=grid.evaluation,
        evaluation_version=grid.evaluation_version,
        subject=subject,
        data=grid.data,
        candidates=tuple(run_key(candidate) for candidate in candidates),
        retrain=grid.retrain,
    )


def _measures_itself(subject: Subject, cell: _Declared) -> Pretrain:
    """The training of a cell without an evaluation."""
    if not isinstance(subject, Pretrain) or cell.evaluation:
        problem = "has nothing to set" if cell.evaluation else "is for what is trained; name an evaluation"
        raise ConfigError(f"{cell.evaluate_where}: cell '{cell.name}': evaluation '{NO_EVALUATION}' {problem}")
    return subject


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
        changed = [*cell.set, *(name for name in cell.grid if not name.startswith(_OF_EVALUATION))]
        if cell.seeds is not None and not 1 <= cell.seeds <= len(declared.seeds):
            raise ConfigError(f"{where}: seeds: must be 1 to the table's {len(declared.seeds)}, not {cell.seeds}")
        if (cell.untrained or cell.imported) and changed:
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
            evaluation = {k: _Change(v, document.where(f"{key}.evaluate.{k}")) for k, v in cell.evaluate.items()}
            for name_of, value in combination.items():
                of = evaluation if name_of.startswith(_OF_EVALUATION) else changes
                of[name_of.removeprefix(_OF_EVALUATION)] = _Change(value, document.where(f"{key}.grid.{name_of}"))
            yield _Declared(
                name,
                cell.recipe or declared.recipe,
                recipe_where,
                changes,
                cell.evaluation or declared.evaluate,
                document.where(f"{key}.evaluation" if cell.evaluation else "evaluate"),
                evaluation,
                cell.untrained,
                cell.imported,
                cell.seeds,
            )


def _grid(cell: Cell, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The combinations of a grid; `{beta}` in the id stands for the value of the key that ends in beta."""
    told = {"set": set(cell.set), "evaluate": {f"{_OF_EVALUATION}{key}" for key in cell.evaluate}}
    for key, values in cell.grid.items():
        if not values:
            raise ConfigError(f"{where}: grid: {key}: names no value")
        for section, keys in told.items():
            if key in keys:
                raise ConfigError(f"{where}: grid: {key}: is in `{section}` too")
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
    own = with_knobs(with_views(Layers(recipe, drop=("expected", "about"))), Pretrain)
    layers = own.copy()
    for key, change in cell.changes.items():
        layers.set(key, change.value, change.where)
        layers = with_views(layers) if key == "data.views" else layers
    added = {"kind": "pretrain", "seed": 0}  # the table's seeds replace this one
    paper = canonical(complete(layers, added).build(Pretrain, check_pretrain))  # must hold before it is scaled
    scale(layers, own, source.maps("pretrain", cell.recipe), "recipe")
    spec = canonical(complete(layers, added).build(Pretrain, check_pretrain))
    assert isinstance(paper, Pretrain)
    assert isinstance(spec, Pretrain)
    return paper, spec


def _evaluation(cell: _Declared, source: _Source) -> tuple[Asked, bool]:
    """The evaluation of a cell, of no subject yet, and whether it is the paper's own."""
    own = Layers(named_file("evaluations", cell.evaluate, cell.evaluate_where), drop=("about",))
    section = next((name for name in _ASKED if own.has("kind") and name == own.get("kind")), None)
    if section is None:
        problem = unknown(own.get("kind"), _ASKED, "kind of evaluation") if own.has("kind") else "is missing"
        raise ConfigError(f"{own.where('kind')}: kind: {problem}")
    form, check = _ASKED[section]
    added = {name: value for name, value in _OF_NO_SUBJECT.items() if name in {one.name for one in fields(form)}}
    own = with_knobs(own, form)
    layers = own.copy()
    for key, change in cell.evaluation.items():
        layers.set(key, change.value, change.where)
        layers = with_view(layers) if key == "data.view" else layers
    paper = _one_form(complete(layers, added).build(form, check))
    scale(layers, own, source.maps(section, cell.evaluate), "evaluation")
    scaled = _one_form(complete(layers, added).build(form, check))
    return scaled, scaled == paper


def _one_form(asked: Asked) -> Asked:
    """Of linear evaluations that mean the same; what a grid stands for has one."""
    if not isinstance(asked, Linear):
        return asked
    linear = canonical(asked)
    assert isinstance(linear, Linear)
    return linear
