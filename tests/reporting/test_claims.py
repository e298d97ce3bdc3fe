"""tables/claims.yaml: every claim against the papers' own numbers, its mistakes, and how evidence is judged."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.errors import ConfigError
from harness.config.expand import declared_cells
from harness.config.files import table_ids
from harness.reporting.aggregate import Table, build_table
from harness.reporting.claims import (
    Above,
    Below,
    Claim,
    Collapsed,
    Evidence,
    Falling,
    Form,
    NotCollapsed,
    Reading,
    Within,
    check_claims,
    evidence_of,
    judge,
    read_claims,
)
from harness.reporting.layout import Layout, cells_of, layout_ids, read_layout

REPOSITORY = Path(__file__).parents[2]
TOP1 = "linear_imagenet.top1"
CLAIMS = {claim.id: claim for claim in read_claims()}
PRINTS_NO_NUMBER = {"initial_scale_matters_little"}  # above 72 %, the paper says, of scales that it does not name


def layout_of(table: str) -> Layout:
    return read_layout(table, declared_cells(table) if table in table_ids() else ())


LAYOUTS = {table: layout_of(table) for table in layout_ids()}
PAPER = {
    (table, cell, metric): Evidence({0: number.mean}, "quoted")
    for table, layout in LAYOUTS.items()
    for cell, numbers in layout.paper.items()
    for metric, number in numbers.items()
}


def ours(*values: float, status: str = "complete", collapsed: int = 0, at_paper_scale: bool = True) -> Evidence:
    return Evidence(dict(enumerate(values)), status, collapsed, at_paper_scale)


def of_5b(**cells: Evidence) -> dict[tuple[str, str, str], Evidence]:
    return {("5b", cell, TOP1): evidence for cell, evidence in cells.items()}


# --- the file


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS.keys())
def test_the_paper_s_own_numbers(claim: Claim) -> None:
    """Protects the claims from misreading: each holds on the paper's numbers, or they are known to contradict it."""
    judgement = judge(claim, PAPER)
    if claim.id in PRINTS_NO_NUMBER:
        assert judgement.state == "undecided"
    else:
        assert judgement.state == ("fails" if claim.known_failure else "holds"), judgement.reason


def test_the_file_covers_the_papers() -> None:
    """Protects its breadth: every table of results that the paper draws a claim from, and both papers."""
    tables = {cell.partition(":")[0] for claim in CLAIMS.values() for cell, _ in claim.cells}
    # Two print settings and counts, of two curves the paper has no numbers, and one is ours.
    results = set(LAYOUTS) - {"6", "10", "detection", "fractions", "fractions_encoders"}
    assert results - tables == {"11", "12"}  # Table 4 beside more quoted numbers, without claims of their own
    assert len(CLAIMS) >= 100
    assert sum(claim.source.startswith("RAFT") for claim in CLAIMS.values()) >= 10
    failures = sum(claim.known_failure is not None for claim in CLAIMS.values())
    documented = f"of {len(CLAIMS)} claims {failures} do."
    assert documented in (REPOSITORY / "docs" / "verdicts.md").read_text(encoding="utf-8")


def test_every_cell_exists() -> None:
    """Protects a claim from a cell that was renamed, and from a metric that its table has no column for."""
    check_claims(CLAIMS.values(), {table: _cells(layout) for table, layout in LAYOUTS.items()})
    printed = evidence_of(build_table(layout, None, {}) for layout in LAYOUTS.values())
    for claim in CLAIMS.values():
        for cell, metric in claim.cells:
            table, _, name = cell.partition(":")
            fits = [key for key in printed if key[:2] == (table, name) and fnmatchcase(key[2], metric)]
            assert len(fits) == 1, f"{claim.id}: {cell} has {len(fits)} metrics like {metric}"


def _cells(layout: Layout) -> list[str]:
    return [cell for row in layout.rows for cell in cells_of(row).values()]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("  - id: byol_beats_simclr\n", "  - id: best_r50\n", "'best_r50' stands twice"),
        ("metric: segmentation.miou\n    falling", "metric: miou\n    falling", "unknown metric 'miou'"),
        ("    not_collapsed: {cells: [\"5b:byol\"], below: 6}\n", "", "give exactly one of above, below"),
        ("than: 68.4", "than: 68.4, by: lots", "by: must be a number, not the text 'lots'"),
        ("than: 68.4", "then: 68.4", "then: unknown key 'then'; did you mean 'than'?"),
        ("of: 1.9", "of: 5b", "'5b' is no cell; write table:cell"),
        ('"5b:nopred_ema_beta1 - 5b:simclr"', '"5b:nopred_ema_beta1 -5b:simclr"', "-5b:simclr' is no cell"),
        ("at_least: 7\n    above", "at_least: 13\n    above", "must be between 1 and the 12 of each"),
        ("    each: [50x2, 50x4]\n", "", "goes with a list `each`"),
        ('falling: {cells: ["8:maxup", "9:supervised_simclr_50x1", "1a:byol"]}', "falling: {cells: []}", "too few"),
        ("source: Section 3.2", "sauce: Section 3.2", "sauce: unknown key 'sauce'; did you mean 'source'?"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, problem: str
) -> None:
    """Protects the person who made it: file, line and what is wrong."""
    line = _edited(tmp_path, monkeypatch, old, new)
    with pytest.raises(ConfigError) as caught:
        check_claims(read_claims(), {table: _cells(layout) for table, layout in LAYOUTS.items()})
    place, _, told = str(caught.value).partition(": ")
    assert place.startswith("tables/claims.yaml:")
    assert abs(int(place.rpartition(":")[2]) - line) <= 4, "the claim's own lines"
    assert problem in told


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('["16:byol_256", "16:byol_128"', '["61:byol_256", "16:byol_128"', "unknown table '61'"),
        ('than: "5b:simclr"}', 'than: "5b:simclear"}', "unknown cell of table 5b 'simclear'; did you mean 'simclr'?"),
    ],
)
def test_a_cell_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, problem: str
) -> None:
    """Protects a claim from being pending for ever."""
    _edited(tmp_path, monkeypatch, old, new)
    claims = read_claims()
    with pytest.raises(ConfigError, match=r"tables/claims.yaml:\d+: claims\[\d+\]") as caught:
        check_claims(claims, {table: _cells(layout) for table, layout in LAYOUTS.items()})
    assert problem in str(caught.value)


def _edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> int:
    """A copy of the file with `old` made `new` where it first stands, and that line."""
    (tmp_path / "experiments" / "recipes").mkdir(parents=True)
    (tmp_path / "tables").mkdir()
    path = tmp_path / "tables" / "claims.yaml"
    shutil.copy(REPOSITORY / "tables" / "claims.yaml", path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    text = path.read_text(encoding="utf-8")
    before, found, after = text.partition(old)
    assert found
    path.write_text(before + new + after, encoding="utf-8")
    return before.count("\n") + 1


# --- the forms


def claim_of(form: Form, **more: object) -> Claim:
    names: Mapping[type, str] = {
        Above: "above", Below: "below", Within: "within", Falling: "falling",
        Collapsed: "collapsed", NotCollapsed: "not_collapsed",
    }  # fmt: skip
    return Claim(id="c", text="A claim.", source="Section 5", **{names[type(form)]: form, **more})  # type: ignore[arg-type]


A, B, C = "5b:a", "5b:b", "5b:c"


@pytest.mark.parametrize(
    ("form", "holds"),
    [
        (Above(cells=(A,), than=B), True),  # a = 72.5, b = 70.9, c = 70.9
        (Above(cells=(B,), than=A), False),
        (Above(cells=(B,), than=C), False),
        (Above(cells=(A, B), than=C), False),
        (Above(cells=(A,), than=B, by=1.5), True),
        (Above(cells=(A,), than=B, by=1.6), False),  # 72.5 - 70.9 is 1.5999... in binary
        (Above(cells=(B,), than=A, by=-1.7), True),
        (Above(cells=(A,), than=72.4), True),
        (Above(cells=(A,), than=72.5), False),
        (Below(cells=(B, C), than=A), True),
        (Below(cells=(B, C), than=A, by=1.6), False),
        (Below(cells=(A,), than=B, by=-1.7), True),
        (Within(cells=(B,), of=A, points=1.6), True),
        (Within(cells=(B,), of=A, points=1.5), False),
        (Within(cells=(A, B), of=72.0, points=1.0), False),
        (Within(cells=(f"{A} - {B}",), of=1.6, points=0.0), True),
        (Falling(cells=(A, B)), True),
        (Falling(cells=(A, B, C)), False),
        (Above(cells=(f"{A} - {B}",), than=f"{B} - {C}"), True),
        (Collapsed(cells=(A,), below=6.0), False),
        (NotCollapsed(cells=(A, B), below=6.0), True),
        (NotCollapsed(cells=(A, B), below=71.0), False),
    ],
)
def test_a_form_on_the_paper_s_numbers(form: Form, holds: bool) -> None:
    """Protects each form's edge: decimals that are equal on paper are equal, whatever binary makes of them."""
    evidence = of_5b(a=Evidence({0: 72.5}, "quoted"), b=Evidence({0: 70.9}, "quoted"), c=Evidence({0: 70.9}, "quoted"))
    assert judge(claim_of(form), evidence).state == ("holds" if holds else "fails")


def test_flags_come_before_numbers() -> None:
    """Protects a small scale, where a collapsed encoder may still be far above chance: the diagnostics decide."""
    evidence = of_5b(a=ours(40, 41, 42, collapsed=3), b=ours(2, 1, 3), c=ours(40, 41, 42, collapsed=1))
    assert judge(claim_of(Collapsed(cells=(A,), below=6.0)), evidence).state == "holds"
    assert judge(claim_of(NotCollapsed(cells=(A,), below=6.0)), evidence).state == "fails"
    assert judge(claim_of(Collapsed(cells=(B,), below=6.0)), evidence).state == "fails"
    partly = judge(claim_of(Collapsed(cells=(A, C), below=6.0)), evidence)
    assert (partly.state, partly.reason) == ("undecided", "5b:c collapsed in 1 of 3 seeds")


@pytest.mark.parametrize(("least", "state"), [(None, "fails"), (3, "fails"), (2, "holds"), (1, "holds")])
def test_each_and_at_least(least: int | None, state: str) -> None:
    """Protects the count of "on 7 of 12 datasets"; without one, all are meant."""
    form = Above(cells=("5b:ours_{each}",), than="5b:theirs_{each}")
    cells = {"ours_x": 2, "ours_y": 3, "ours_z": 1, "theirs_x": 1, "theirs_y": 2, "theirs_z": 2}
    evidence = of_5b(**{cell: ours(value, value, value) for cell, value in cells.items()})
    assert judge(claim_of(form, each=("x", "y", "z"), at_least=least), evidence).state == state


def test_a_metric_that_differs_between_cells() -> None:
    """Protects claims over several datasets: each cell's own metric is found, and two that fit are one too many."""
    claim = claim_of(Above(cells=("3:a",), than="3:b"), metric="transfer.*")
    evidence = {
        ("3", "a", "transfer.map11"): ours(80, 81, 82),
        ("3", "b", "transfer.top1"): ours(70, 71, 72),
        ("3", "b", "detection.ap50"): ours(90, 91, 92),
    }
    assert judge(claim, evidence).state == "holds"
    evidence["3", "b", "transfer.mean_per_class"] = ours(60, 61, 62)
    assert judge(claim, evidence).reason == "3:b is pending"


# --- the judgement


@pytest.mark.parametrize(
    ("first", "second", "state", "seeds", "reason"),
    [
        (ours(3, 4, 5), ours(1, 2, 3), "holds", "TTT", "3 of 3 seeds"),
        (ours(1, 2, 3), ours(3, 4, 5), "fails", "FFF", "0 of 3 seeds"),
        (ours(3, 4, 5), ours(1, 5, 3), "undecided", "TFT", "holds on the means, fails in seeds 1"),
        (ours(3, 1, 2), ours(2, 4, 5), "undecided", "TFF", "fails on the means, holds in seeds 0"),
        (ours(3, 4), Evidence({1: 1, 2: 9}, "complete", 0), "undecided", "T", "fails on the means, holds in seeds 1"),
        (ours(3), Evidence({1: 1}, "complete", 0), "undecided", "", "its cells have no seed in common"),
        (ours(3, 4, 5), Evidence({0: 2}, "quoted"), "holds", "TTT", "3 of 3 seeds"),
        (ours(3, 4, 5), Evidence({}, "quoted"), "undecided", "", "5b:b has no number"),
        (Evidence({0: 3}, "quoted"), Evidence({0: 2}, "quoted"), "holds", "T", "quoted numbers alone"),
        (ours(3, 4, 5), ours(0.1, 0.1, 0.1, status="diverged"), "holds", "TTT", "3 of 3 seeds"),
        (ours(3, 4, 5), ours(1, 2, status="partial"), "undecided", "", "5b:b is partial"),
        (ours(3, 4, 5), ours(status="pending"), "undecided", "", "5b:b is pending"),
        (ours(3, 4, status="failed"), ours(1, 2, 3), "undecided", "", "5b:a is failed"),
    ],
)
def test_the_rule(first: Evidence, second: Evidence, state: str, seeds: str, reason: str) -> None:
    """Protects the words: holds and fails need the means and every seed; an unfinished cell decides nothing."""
    judgement = judge(claim_of(Above(cells=(A,), than=B)), of_5b(a=first, b=second))
    assert (judgement.state, judgement.reason) == (state, reason)
    assert "".join("T" if held else "F" for held in judgement.seeds.values()) == seeds


def test_a_cell_that_no_table_has_is_pending() -> None:
    """Protects a report that was asked for a few tables."""
    judgement = judge(claim_of(Above(cells=(A,), than=B)), of_5b(a=ours(1, 2, 3)))
    assert (judgement.state, judgement.reason) == ("undecided", "5b:b is pending")


@pytest.mark.parametrize(
    ("form", "state"),
    [
        (Above(cells=(A,), than=B), "holds"),
        (Falling(cells=(A, B)), "holds"),
        (Above(cells=(f"{A} - {B}",), than=f"{B} - {A}"), "holds"),
        (NotCollapsed(cells=(A, B), below=6.0), "holds"),
        (Above(cells=(A,), than=2.0), "undecided"),
        (Above(cells=(A,), than=B, by=1.0), "undecided"),
        (Below(cells=(B,), than=A, by=-1.0), "undecided"),
        (Within(cells=(A,), of=B, points=5.0), "undecided"),
    ],
)
def test_at_other_scales(form: Form, state: str) -> None:
    """Protects from judging points of the paper on other data: there order and collapse alone mean something."""
    evidence = of_5b(a=ours(3, 4, 5, at_paper_scale=False), b=ours(1, 2, 3, at_paper_scale=False))
    assert judge(claim_of(form), evidence).state == state
    at_scale = {key: replace(one, at_paper_scale=True) for key, one in evidence.items()}
    assert judge(claim_of(form), at_scale).state == "holds"


def test_quoted_numbers_are_of_the_paper_s_scale() -> None:
    """Protects from comparing an encoder of another scale with a number of ImageNet."""
    evidence = of_5b(a=ours(90, 91, 92, at_paper_scale=False), b=Evidence({0: 71.1}, "quoted"))
    judgement = judge(claim_of(Above(cells=(A,), than=B)), evidence)
    assert (judgement.state, judgement.reason) == ("undecided", "5b:b is quoted, at the paper's data and scale")


values = st.dictionaries(st.integers(0, 3), st.floats(0, 100), min_size=1)


@given(st.fixed_dictionaries({"a": values, "b": values}), st.floats(-5, 5))
def test_a_seed_is_judged_by_itself(drawn: dict[str, dict[int, float]], by: float) -> None:
    """Protects the seeds shown beside a claim: each is what the claim says of that seed alone."""
    claim = claim_of(Above(cells=(A,), than=B, by=by))
    judgement = judge(claim, of_5b(**{cell: Evidence(seeds, "complete", 0) for cell, seeds in drawn.items()}))
    assert set(judgement.seeds) == set(drawn["a"]) & set(drawn["b"])
    for seed, held in judgement.seeds.items():
        alone = of_5b(**{cell: Evidence({seed: seeds[seed]}, "complete", 0) for cell, seeds in drawn.items()})
        assert judge(claim, alone).state == ("holds" if held else "fails")


@given(st.lists(st.integers(0, 1000), min_size=3, max_size=3), st.integers(-1000, 1000))
def test_forms_against_plain_comparisons(drawn: list[int], by: int) -> None:
    """Protects ties: on one decimal, the forms agree with integers, in which nothing is rounded."""
    a, b, c = drawn
    cells = {
        (cell, TOP1): Evidence({0: value / 10}, "quoted") for cell, value in zip((A, B, C), (a, b, c), strict=True)
    }
    reading = Reading(cells, TOP1, None)
    assert Above(cells=(A,), than=B).holds(reading) is (a > b)
    assert Below(cells=(A,), than=B).holds(reading) is (a < b)
    assert Falling(cells=(A, B, C)).holds(reading) is (a > b > c)
    assert Within(cells=(A,), of=B, points=abs(by) / 10).holds(reading) is (abs(a - b) <= abs(by))
    assert Above(cells=(A,), than=B, by=by / 10).holds(reading) is (a - b > by)
    assert Below(cells=(A,), than=B, by=by / 10).holds(reading) is (a < b - by)
    assert Above(cells=(f"{A} - {B}",), than=f"{B} - {C}").holds(reading) is (a - b > b - c)


def test_from_tables_to_claims(table: Callable[..., Table]) -> None:
    """Protects the way from built tables: numbers by seed, states, collapses and scale arrive."""
    evidence = evidence_of([table("imagenet")])
    assert evidence["5b", "byol", TOP1] == Evidence({0: 72.4, 1: 72.5, 2: 72.75}, "complete", 0, True)
    assert evidence["5b", "pred_online_beta0", TOP1].collapsed == 3
    assert judge(CLAIMS["negatives_hurt"], evidence).state == "holds"
    assert judge(CLAIMS["byol_beats_simclr"], evidence).reason == "5b:simclr is pending"
    assert judge(CLAIMS["mean_teacher_collapses"], evidence).reason == "5b:nopred_ema_beta0 collapsed in 1 of 3 seeds"
    small = evidence_of([table("laptop")])
    assert not small["5b", "byol", TOP1].at_paper_scale
    assert judge(CLAIMS["negatives_hurt"], small).state == "holds"
