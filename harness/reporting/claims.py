"""tables/claims.yaml: what the papers say of their tables, and whether our numbers say it too; docs/verdicts.md."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from itertools import pairwise
from statistics import mean
from typing import Any, Literal

from harness.config.document import Document, read_yaml
from harness.config.files import project_root, read_as
from harness.config.metrics import METRICS
from harness.config.structure import unknown
from harness.reporting.aggregate import Table

Term = float | str  # a number, a cell "5b:byol", or a difference of two "5b:byol - 5b:simclr"
Key = tuple[str, str, str]  # table, cell, metric

FINISHED = ("complete", "diverged", "quoted")  # a run that diverged has a number, chance
EACH = "{each}"
CELL = re.compile(r"[^\s:]+:\S+")
MINUS = " - "


@dataclass(frozen=True)
class Evidence:
    """What is known of a cell's metric: `values` by seed, its table's word for its state, and how many seeds collapsed.

    A quoted number is seed 0's. `collapsed` is None where no diagnostics are known, as for the paper's own runs.
    at_paper_scale: its data and scale are the paper's.
    """

    values: Mapping[int, float]
    status: str
    collapsed: int | None = None
    at_paper_scale: bool = True

    @property
    def quoted(self) -> bool:
        return self.status == "quoted"

    @property
    def mean(self) -> Fraction:
        return mean(map(exact, self.values.values()))

    def at(self, seed: int | None) -> Fraction:
        """The number of one seed, or the mean; a quoted number is the same for every seed."""
        return self.mean if seed is None or self.quoted else exact(self.values[seed])


def exact(number: float) -> Fraction:
    """The decimal as it is written: numbers that are equal on paper are equal, and so are their differences."""
    return Fraction(str(number))


class Reading:
    """Numbers of the terms of a claim, for one metric: those of one seed, or means."""

    def __init__(self, cells: Mapping[tuple[str, str], Evidence], metric: str, seed: int | None) -> None:
        self._cells, self._metric, self._seed = cells, metric, seed

    def number(self, term: Term) -> Fraction:
        if isinstance(term, float):
            return exact(term)
        first, *rest = (self._cells[cell, self._metric].at(self._seed) for cell in cells_of(term))
        return first - sum(rest)

    def collapsed(self, cell: str, below: Term) -> bool:
        evidence = self._cells[cell, self._metric]
        if evidence.collapsed is None:
            return self.number(cell) < self.number(below)
        return evidence.collapsed > 0


def cells_of(term: Term) -> list[str]:
    return [] if isinstance(term, float) else term.split(MINUS)


@dataclass(frozen=True, kw_only=True)
class Above:
    """Each of `cells` is more than `by` above `than`; a `by` below 0 lets it fall that far short."""

    cells: tuple[str, ...]
    than: Term
    by: float = 0.0

    def holds(self, reading: Reading) -> bool:
        return all(reading.number(cell) > reading.number(self.than) + exact(self.by) for cell in self.cells)


@dataclass(frozen=True, kw_only=True)
class Below:
    """Each of `cells` is more than `by` below `than`."""

    cells: tuple[str, ...]
    than: Term
    by: float = 0.0

    def holds(self, reading: Reading) -> bool:
        return all(reading.number(cell) < reading.number(self.than) - exact(self.by) for cell in self.cells)


@dataclass(frozen=True, kw_only=True)
class Within:
    """Each of `cells` is at most `points` away from `of`."""

    cells: tuple[str, ...]
    of: Term
    points: float

    def holds(self, reading: Reading) -> bool:
        away = (abs(reading.number(cell) - reading.number(self.of)) for cell in self.cells)
        return all(distance <= exact(self.points) for distance in away)


@dataclass(frozen=True, kw_only=True)
class Falling:
    """Each of `cells` is above the next."""

    cells: tuple[str, ...]

    def holds(self, reading: Reading) -> bool:
        numbers = [reading.number(cell) for cell in self.cells]
        return all(a > b for a, b in pairwise(numbers))


@dataclass(frozen=True, kw_only=True)
class Collapsed:
    """Each of `cells` is flagged by the diagnostics, or, where there are none, `below` this."""

    cells: tuple[str, ...]
    below: Term

    def holds(self, reading: Reading) -> bool:
        return all(reading.collapsed(cell, self.below) for cell in self.cells)


@dataclass(frozen=True, kw_only=True)
class NotCollapsed:
    """None of `cells` is."""

    cells: tuple[str, ...]
    below: Term

    def holds(self, reading: Reading) -> bool:
        return not any(reading.collapsed(cell, self.below) for cell in self.cells)


Form = Above | Below | Within | Falling | Collapsed | NotCollapsed
FORMS = ("above", "below", "within", "falling", "collapsed", "not_collapsed")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence of a paper in one of six forms, of which exactly one is given.

    metric: of every cell; `*` stands for what differs between them, as in `transfer.*`.
    each: the form is asked for each of these in place of `{each}`, and holds for all, or for `at_least` so many.
    known_failure: why the paper's own numbers contradict it.
    """

    id: str
    text: str
    source: str
    metric: str = "linear_imagenet.top1"
    each: tuple[str, ...] = ()
    at_least: int | None = None
    known_failure: str | None = None
    above: Above | None = None
    below: Below | None = None
    within: Within | None = None
    falling: Falling | None = None
    collapsed: Collapsed | None = None
    not_collapsed: NotCollapsed | None = None

    @property
    def forms(self) -> dict[str, Form]:
        return {name: form for name in FORMS if (form := getattr(self, name)) is not None}

    @property
    def form(self) -> Form:
        return next(iter(self.forms.values()))

    @property
    def instances(self) -> list[tuple[Form, str]]:
        """The form and its metric, once or for each."""
        told = [(field.name, getattr(self.form, field.name)) for field in fields(self.form)]
        return [
            (replace(self.form, **{name: _put(one, value) for name, value in told}), self.metric.replace(EACH, one))
            for one in self.each or ("",)
        ]

    @property
    def cells(self) -> list[tuple[str, str]]:
        """Every cell with its metric, once, in the order of the file."""
        instances = [(_terms(form), metric) for form, metric in self.instances]
        return list(dict.fromkeys((cell, metric) for terms, metric in instances for t in terms for cell in cells_of(t)))

    @property
    def absolute(self) -> bool:
        """It names a number of points, which is of the paper's data and scale."""
        form = self.form
        if isinstance(form, Within):
            return True
        return isinstance(form, Above | Below) and (isinstance(form.than, float) or form.by != 0)


@dataclass(frozen=True, kw_only=True)
class ClaimsFile:
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Judgement:
    """`seeds`: whether the claim holds in each seed that all its cells have."""

    claim: Claim
    state: Literal["holds", "fails", "undecided"]
    seeds: Mapping[int, bool]
    reason: str


def _put(one: str, value: Any) -> Any:
    """`one` in place of `{each}`, in terms and lists of them."""
    if isinstance(value, tuple):
        return tuple(_put(one, item) for item in value)
    return value.replace(EACH, one) if isinstance(value, str) else value


def _terms(form: Form) -> list[Term]:
    values = (getattr(form, field.name) for field in fields(form))
    return [term for value in values for term in (value if isinstance(value, tuple) else (value,))]


def read_claims() -> tuple[Claim, ...]:
    """The claims as they stand in the file; whether their cells exist is `check_claims`'s to say."""
    document = _document()
    claims = read_as(ClaimsFile, document).claims
    ids: set[str] = set()
    for number, claim in enumerate(claims):
        where = f"claims[{number}]"
        if claim.id in ids:
            raise document.error(f"{where}.id", f"'{claim.id}' stands twice")
        ids.add(claim.id)
        if len(claim.forms) != 1:
            raise document.error(where, f"give exactly one of {', '.join(FORMS)}")
        _check_form(claim, document, f"{where}.{next(iter(claim.forms))}")
        if claim.at_least is not None and not 0 < claim.at_least <= len(claim.each):
            raise document.error(f"{where}.at_least", f"must be between 1 and the {len(claim.each)} of each")
        for _, metric in claim.instances:
            if not any(fnmatchcase(name, metric) for name in METRICS):
                raise document.error(f"{where}.metric", unknown(metric, METRICS, "metric"))
    return claims


def _document() -> Document:
    return read_yaml(project_root() / "tables" / "claims.yaml")


def _check_form(claim: Claim, document: Document, where: str) -> None:
    if len(claim.form.cells) < (2 if isinstance(claim.form, Falling) else 1):
        raise document.error(where, "names too few cells")
    told = (claim.metric, *(str(term) for term in _terms(claim.form)))
    if any(EACH in term for term in told) != bool(claim.each):
        raise document.error(where, f"goes with a list `each` where it has {EACH}, and without where it has none")
    for cell, _ in claim.cells:
        if not CELL.fullmatch(cell):
            raise document.error(where, f"'{cell}' is no cell; write table:cell, as 5b:byol, or a difference of two")


def check_claims(claims: Iterable[Claim], known: Mapping[str, Collection[str]]) -> None:
    """Every cell must stand in its table; `known` has the cells of each table."""
    for number, claim in enumerate(claims):
        for told, _ in claim.cells:
            table, _, cell = told.partition(":")
            where = f"claims[{number}].{next(iter(claim.forms))}"
            if table not in known:
                raise _document().error(where, unknown(table, known, "table"))
            if cell not in known[table]:
                raise _document().error(where, unknown(cell, known[table], f"cell of table {table}"))


def evidence_of(tables: Iterable[Table]) -> dict[Key, Evidence]:
    """What built tables know of their cells: our numbers, and the paper's where it quotes them."""
    found = {}
    for table in tables:
        for (cell, metric), number in table.numbers.items():
            key = (table.layout.table, cell, metric)
            if number.status == "quoted":
                values = {} if number.paper is None else {0: number.paper.mean}
                found[key] = Evidence(values, number.status)
            else:
                at_paper_scale = number.at_paper_scale and not number.stand_in
                found[key] = Evidence(number.values, number.status, number.collapsed, at_paper_scale)
    return found


def judge(claim: Claim, evidence: Mapping[Key, Evidence]) -> Judgement:
    """Holds on the means and in every common seed, or fails in all of these; anything else is undecided."""
    cells = {key: _find(evidence, *key) for key in claim.cells}
    if reason := _undecidable(claim, cells):
        return Judgement(claim, "undecided", {}, reason)
    ours = [set(one.values) for one in cells.values() if not one.quoted]
    seeds = {seed: _outcome(claim, cells, seed) for seed in sorted(set.intersection(*ours) if ours else {0})}
    if not seeds:
        return Judgement(claim, "undecided", {}, "its cells have no seed in common")
    means, held = _outcome(claim, cells, None), sum(seeds.values())
    count = f"{held} of {len(seeds)} seeds" if ours else "quoted numbers alone"
    if means and held == len(seeds):
        return Judgement(claim, "holds", seeds, count)
    if not means and not held:
        return Judgement(claim, "fails", seeds, count)
    against = ", ".join(str(seed) for seed, holds in seeds.items() if holds != means)
    words = ("holds", "fails") if means else ("fails", "holds")
    return Judgement(claim, "undecided", seeds, f"{words[0]} on the means, {words[1]} in seeds {against}")


def _outcome(claim: Claim, cells: Mapping[tuple[str, str], Evidence], seed: int | None) -> bool:
    held = [form.holds(Reading(cells, metric, seed)) for form, metric in claim.instances]
    return sum(held) >= (claim.at_least or len(held))


def _find(evidence: Mapping[Key, Evidence], told: str, metric: str) -> Evidence:
    """The one metric of the cell that fits; a cell without any is pending."""
    table, _, cell = told.partition(":")
    found = [one for key, one in evidence.items() if key[:2] == (table, cell) and fnmatchcase(key[2], metric)]
    return found[0] if len(found) == 1 else Evidence({}, "pending")


def _undecidable(claim: Claim, cells: Mapping[tuple[str, str], Evidence]) -> str | None:
    """Why the claim cannot be judged yet, or here."""
    for (cell, _), one in cells.items():
        if one.status not in FINISHED:
            return f"{cell} is {one.status}"
        if not one.values:
            return f"{cell} has no number"
        if isinstance(claim.form, Collapsed | NotCollapsed) and 0 < (one.collapsed or 0) < len(one.values):
            return f"{cell} collapsed in {one.collapsed} of {len(one.values)} seeds"
    if all(one.at_paper_scale for one in cells.values()):
        return None
    if claim.absolute:
        return "names a number of points, which is of the paper's data and scale"
    quoted = (f"{cell} is quoted, at the paper's data and scale" for (cell, _), one in cells.items() if one.quoted)
    return next(quoted, None)
