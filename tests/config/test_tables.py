"""The declared tables against each other and against the paper: what is one run, what a row says, what adds up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from itertools import pairwise

import pytest

from harness.config.expand import UNTRAINED, Expansion, declared_cells, expand
from harness.config.files import profile_names, table_ids
from harness.config.schema import Linear, Pretrain
from harness.reporting.aggregate import build_table
from harness.reporting.layout import LabelValue, Layout, cells_of, read_layout

# Added up from the papers' tables: rows, numbers, their sum, and the sum of what stands after ±.
# Table 19 has a 13th row, with the settings of the fourth and 70.1. raft1 has one row more, without numbers.
PAPER = {
    "5a": (5, 5, 229.8, 0.7),
    "7": (12, 24, 2056.2, 0),
    "14a": (9, 18, 1426.5, 0),
    "14b": (6, 12, 975.2, 0.3),
    "15a": (7, 14, 1056.3, 6.2),
    "15b": (5, 10, 809.3, 0.7),
    "16": (14, 28, 2181.5, 11.1),
    "17": (28, 56, 4169.8, 3.1),
    "18": (19, 38, 3069.8, 1),
    "19": (12, 12, 498.1, 0),
    "20": (4, 8, 631, 0.4),
    "21": (6, 6, 273.71, 1.8),
    "22": (25, 25, 669.6, 62.1),
    "raft1": (13, 39, 685.654559, 10.53),
    "raft3": (13, 39, 528.483514, 12.01),
}

BASELINES = {
    "5a": "tau_0.99",
    "5b": "byol",
    "14a": "projector_2_predictor_2",
    "14b": "dim_256",
    "15a": "lr_0.3",
    "15b": "wd_1e-06",
    "16": "byol_4096",
    "17": "byol_baseline",
    "18": "byol",
    "19": "byol",
    "20": "l2",
    "21": "byol",
    "extras": "byol",
}
HARD_COPIES = {"5a": "stop_gradient", "19": "pred_sg_beta0", "21": "lambda_1.0", "22": "mu_1.0_lambda_1.0"}

# The twelve encoders of Table 9, narrow ones first. At other scales than the paper's, two widths of one stand for all.
SIZES = (("50x1", "101x1", "152x1", "200x1"), ("50x2", "101x2", "50x3", "152x2", "200x2", "50x4", "101x3", "152x3"))
FEW_ENCODERS = {
    "1b": {("byol_50x2", "byol_50x4", "byol_200x2")},
    "7": {(f"r50x4_{one}", f"r200x2_{one}") for one in ("plain", "aug", "reg", "aug_reg")},
    "9": {
        *(tuple(f"byol_{size}" for size in sizes) for sizes in SIZES),
        *(tuple(f"supervised_{size}" for size in sizes if size != "50x1") for sizes in SIZES),
    },
    "2b": {tuple(f"byol_{size}_{part}" for size in ("50x2", "50x4", "200x2")) for part in ("1pct", "10pct")},
    "fractions_encoders": {
        tuple(f"byol_{size}_{part}" for size in sizes) for sizes in SIZES for part in (2, 5, 10, 20, 50, 100)
    },
}

# Table 3's datasets; Table 13 leaves out VOC 2007.
TRANSFERRED = (
    *("food101", "cifar10", "cifar100", "birdsnap", "sun397", "cars", "aircraft", "voc2007", "dtd", "pets"),
    *("caltech101", "flowers"),
)

# Cells that a profile makes one run: a mirrored digit is no digit, and a batch of 4 is the smallest worth its time.
SAME_AT = {
    **{
        (profile, table): same
        for profile in ("laptop", "cifar10", "imagenette")
        for table, same in FEW_ENCODERS.items()
    },
    ("imagenette", "13"): {
        ("byol_imagenet_places365", "byol_places365_places365"),
        ("byol_imagenet_imagenet", "byol_places365_imagenet"),
        *((f"byol_imagenet_{name}", f"byol_places365_{name}") for name in TRANSFERRED if name != "voc2007"),
    },
    ("laptop", "16"): {("byol_128", "byol_64"), ("simclr_128", "simclr_64")},
    ("laptop", "17"): {
        (f"{method}_{one}", f"{method}_{other}")
        for method in ("byol", "simclr")
        for one, other in (("baseline", "remove_flip"), ("crop_only", "crop_and_flip_only"))
    },
}

# One run of which the paper prints several numbers (its spread of seeds at work): by table and cell, top-1.
KNOWN_TO_DIFFER = [
    {
        ("5a", "stop_gradient"): 0.3,
        ("19", "pred_sg_beta0"): 5.5,
        ("21", "lambda_1.0"): 5.5,
        ("22", "mu_1.0_lambda_1.0"): 3.2,
    },
    {("3", "linear_byol_birdsnap"): 57.2, ("13", "byol_imagenet_birdsnap"): 57.3},
    {("3", "linear_byol_sun397"): 62.2, ("13", "byol_imagenet_sun397"): 62.6},
    {("3", "linear_byol_cars"): 67.8, ("13", "byol_imagenet_cars"): 67.2},
    {("3", "linear_byol_dtd"): 75.5, ("13", "byol_imagenet_dtd"): 76.5},
    {("5b", "pred_online_beta1"): 69.1, ("19", "pred_online_beta1"): 69.0},
    {("5b", "simclr"): 69.4, ("19", "simclr"): 69.4, ("simclr_steps", "section_5"): 69.2},
    {("21", "lambda_2.0"): 62.8, ("22", "mu_1.0_lambda_2.0"): 60.8},
    {("21", "lambda_10.0"): 66.6, ("22", "mu_1.0_lambda_10.0"): 66.9},
]


@pytest.fixture(scope="module")
def paper_scale() -> dict[str, Expansion]:
    """Every table at the paper's scale, one seed."""
    return {table: expand(table, "imagenet", 1) for table in table_ids()}


@cache
def _layout(table: str) -> Layout:
    return read_layout(table, declared_cells(table))


def _keys(expansion: Expansion) -> dict[str, str]:
    return {member.cell: member.subject_key for member in expansion.members}


def _measured(expansion: Expansion) -> dict[str, str]:
    """What each cell's number is of: its evaluation, or its training where that measures itself."""
    return {member.cell: member.evaluation_key for member in expansion.members}


@pytest.mark.parametrize("table", PAPER)
def test_the_numbers_add_up(table: str) -> None:
    """Protects the paper's columns from a slip of the hand: rows, numbers and sums, computed from the papers."""
    rows, count, total, spread = PAPER[table]
    numbers = [number for cell in _layout(table).paper.values() for number in cell.values()]
    assert len(_layout(table).paper) == rows
    assert len(declared_cells(table)) == rows + (table == "raft1")
    assert len(numbers) == count
    assert sum(number.mean for number in numbers) == pytest.approx(total, rel=1e-9)
    assert sum(number.half_range or 0 for number in numbers) == pytest.approx(spread, abs=1e-9)


def test_the_baseline_is_one_run(paper_scale: dict[str, Expansion]) -> None:
    """Protects sharing: the 300-epoch baseline is trained once for thirteen tables, and is 72.5 in each."""
    keys = {_keys(paper_scale[table])[cell] for table, cell in BASELINES.items()}
    assert len(keys) == 1
    holding = {table for table, expansion in paper_scale.items() if keys & set(_keys(expansion).values())}
    assert holding == BASELINES.keys()
    assert {_layout(table).paper[cell]["linear_imagenet.top1"].mean for table, cell in BASELINES.items()} == {72.5}


def test_a_hard_copy_is_one_run(paper_scale: dict[str, Expansion]) -> None:
    """Protects sharing: tau = 0, a stop-gradient and multipliers of 1 are the same training."""
    assert len({_keys(paper_scale[table])[cell] for table, cell in HARD_COPIES.items()}) == 1


def test_one_run_has_one_number(paper_scale: dict[str, Expansion]) -> None:
    """Protects both the declarations and the numbers: where tables share a run, they print the same top-1.

    The paper prints its runs more than once, so a cell that means another run, or a wrong number, shows here.
    """
    printed: dict[str, dict[tuple[str, str], float]] = {}
    for table, expansion in paper_scale.items():
        for cell, key in _measured(expansion).items():
            for metric, number in _layout(table).paper.get(cell, {}).items():
                if metric.endswith(".top1"):
                    printed.setdefault(key, {})[table, cell] = number.mean
    shared = [numbers for numbers in printed.values() if len(numbers) > 1]
    assert len(shared) > 15
    differing = [numbers for numbers in shared if len(set(numbers.values())) > 1]
    in_order = [dict(sorted(numbers.items())) for numbers in differing]
    assert sorted(in_order, key=str) == sorted((dict(sorted(one.items())) for one in KNOWN_TO_DIFFER), key=str)


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("table", table_ids())
def test_cells_are_different_runs(table: str, profile: str) -> None:
    """Protects an ablation from cells that a profile makes equal, and the known cases from more of them."""
    expansion = expand(table, profile, 1)
    cells: dict[str, tuple[str, ...]] = {}
    for cell, key in _measured(expansion).items():
        cells[key] = (*cells.get(key, ()), cell)
    same = {names for names in cells.values() if len(names) > 1}
    assert set(map(frozenset, same)) == set(map(frozenset, SAME_AT.get((profile, table), set())))


TIMES = "\N{MULTIPLICATION SIGN}"
Said = Callable[[Pretrain], object]
SAID: dict[tuple[str, str], Said] = {
    ("5a", "tau"): lambda s: {"constant": 1, "ema": s.objective.tau_base, "stop_gradient": 0}[s.objective.target],
    ("1b", "architecture"): lambda s: s.model.encoder.replace("resnet", "ResNet-"),
    ("1b", "width"): lambda s: f"{s.model.width}{TIMES}",
    ("7", "architecture"): lambda s: f"{s.model.encoder.replace('resnet', 'ResNet-')} ({s.model.width}{TIMES})",
    ("9", "architecture"): lambda s: s.model.encoder.replace("resnet", "ResNet-"),
    ("9", "multiplier"): lambda s: f"{s.model.width}{TIMES}",
    ("13", "pretraining"): lambda s: {"imagenet": "ImageNet", "places365": "Places365"}[s.data.dataset],
    ("13", "method"): lambda s: "BYOL" if s.objective.predictor else "SimCLR",
    ("14a", "projector"): lambda s: len(s.model.projector),
    ("14a", "predictor"): lambda s: len(s.model.predictor or ()),
    ("14b", "dim"): lambda s: s.model.projector[-1],
    ("15a", "lr"): lambda s: s.optimizer.base_lr,
    ("15b", "wd"): lambda s: s.optimizer.weight_decay,
    ("16", "batch"): lambda s: s.schedule.statistics_batch,
    ("18", "beta"): lambda s: s.objective.beta,
    ("18", "temperature"): lambda s: s.objective.temperature,
    ("19", "predictor"): lambda s: s.objective.predictor,
    ("19", "target"): lambda s: s.objective.target.replace("ema", "moving average").replace("_", " "),
    ("19", "beta"): lambda s: s.objective.beta,
    ("21", "multiplier"): lambda s: s.optimizer.predictor_multiplier if s.objective.target != "ema" else None,
    ("22", "projector"): lambda s: s.optimizer.projector_multiplier,
    ("raft1", "cross_model"): lambda s: s.objective.cross_model,
    ("raft1", "predictor"): lambda s: {(512, 128): "MLP", (128,): "linear", None: None}[s.model.predictor],
    ("raft3", "cross_model"): lambda s: s.objective.cross_model,
    ("raft3", "predictor"): lambda s: {(512, 128): "MLP", (128,): "linear", None: None}[s.model.predictor],
    ("simclr_steps", "scaled"): lambda s: s.objective.scaled,
    ("simclr_steps", "hidden"): lambda s: s.model.projector[0],
    ("simclr_steps", "output"): lambda s: s.model.projector[1],
    ("simclr_steps", "output_norm"): lambda s: s.model.output_norm,
}


@pytest.mark.parametrize(("table", "column"), SAID)
def test_a_row_says_what_its_cell_does(paper_scale: dict[str, Expansion], table: str, column: str) -> None:
    """Protects the reader: the value printed in a row is the value that its run is trained with."""
    rows = _labels(table, column)
    for member in paper_scale[table].members:
        if isinstance(member.subject, Pretrain):
            assert SAID[table, column](member.subject) == rows[member.cell], member.cell


def test_a_row_says_how_its_cell_is_evaluated(paper_scale: dict[str, Expansion]) -> None:
    """Protects Table 7's ticks: the two changes of the protocol, with the paper's two constants."""
    views, logits = _labels("7", "augmentations"), _labels("7", "regularization")
    for member in paper_scale["7"].members:
        evaluation, subject = member.evaluation, member.subject
        assert isinstance(evaluation, Linear)
        assert isinstance(subject, Pretrain)
        assert evaluation.data.view == (subject.data.views.first if views[member.cell] else None)
        changed = (evaluation.logit_clip, evaluation.logit_penalty)
        assert changed == ((20.0, 1e-2) if logits[member.cell] else (None, 0.0))


TITLED: dict[str, Said] = {
    "9": lambda s: "BYOL" if s.objective.name == "bootstrap" else "Supervised (ours)",
    "16": lambda s: "BYOL" if s.objective.predictor else "SimCLR (repro)",
    "17": lambda s: "BYOL" if s.objective.predictor else "SimCLR (repro)",
    "22": lambda s: f"λ = {s.optimizer.predictor_multiplier:g}",
}


@pytest.mark.parametrize("table", TITLED)
def test_a_block_says_what_its_cells_do(paper_scale: dict[str, Expansion], table: str) -> None:
    """Protects the reader of a table with blocks side by side, as the test above."""
    layout = _layout(table)
    titles = {cell: layout.groups[group].title for row in layout.rows for group, cell in cells_of(row).items()}
    for member in paper_scale[table].members:
        assert isinstance(member.subject, Pretrain)
        assert TITLED[table](member.subject) == titles[member.cell], member.cell


@pytest.mark.parametrize(("table", "column"), [(t, c) for t in table_ids() for c in _layout(t).settings])
def test_a_setting_is_the_field_that_its_column_names(
    paper_scale: dict[str, Expansion], table: str, column: str
) -> None:
    """Protects `(here X)`: at the paper's scale the field has the value that the row prints, or is off."""
    found = build_table(_layout(table), paper_scale[table], {cell: [] for cell in paper_scale[table].cells})
    assert not [key for key in found.used if key[1] == column]
    laptop = expand(table, "laptop", 1)
    assert build_table(_layout(table), laptop, {cell: [] for cell in laptop.cells}).used


def _labels(table: str, column: str) -> dict[str, LabelValue]:
    """What the rows say in one column, by cell."""
    said = {}
    for row in _layout(table).rows:
        value = row.get(column)
        assert not isinstance(value, dict)
        said |= dict.fromkeys(cells_of(row).values(), value)
    return said


def _difference(one: Pretrain, other: Pretrain) -> set[str]:
    def flat(value: object, key: str) -> dict[str, object]:
        if isinstance(value, dict):
            return {k: v for name, item in value.items() for k, v in flat(item, f"{key}.{name}").items()}
        return {key: value}

    a, b = flat(asdict(one), ""), flat(asdict(other), "")
    return {key.lstrip(".") for key in a if a[key] != b[key]}


def test_the_steps_of_simclr(paper_scale: dict[str, Expansion]) -> None:
    """Protects `one by one`: each row changes one thing, from Table 16's SimCLR to that of Table 5b."""
    runs = [m.subject for m in paper_scale["simclr_steps"].members if isinstance(m.subject, Pretrain)]
    steps = [_difference(one, other) for one, other in pairwise(runs)]
    assert steps == [{"objective.scaled"}, {"model.projector"}, {"model.projector"}, {"model.output_norm"}]
    keys = list(_keys(paper_scale["simclr_steps"]).values())
    assert keys[0] == _keys(paper_scale["16"])["simclr_4096"] == _keys(paper_scale["17"])["simclr_baseline"]
    assert keys[-1] == _keys(paper_scale["5b"])["simclr"] == _keys(paper_scale["19"])["simclr"]


def test_an_ablation_changes_what_it_ablates(paper_scale: dict[str, Expansion]) -> None:
    """Protects the paper's `all other hyperparameters unchanged`: what differs from the baseline, table by table."""
    baseline = next(m.subject for m in paper_scale["5b"].members if m.cell == "byol")
    assert isinstance(baseline, Pretrain)
    for table, prefixes in {
        "5a": ("objective.target", "objective.tau_base"),
        "14a": ("model.projector", "model.predictor"),
        "14b": ("model.projector", "model.predictor"),
        "15a": ("optimizer.base_lr",),
        "15b": ("optimizer.weight_decay",),
        "16": ("schedule.statistics_batch",),
        "17": ("data.views.",),
        "18": ("objective.beta", "objective.temperature"),
        "20": ("objective.normalization",),
        "21": ("objective.target", "objective.tau_base", "optimizer.predictor_multiplier"),
        "22": ("objective.target", "objective.tau_base", "optimizer.pr"),
    }.items():
        for member in paper_scale[table].members:
            if isinstance(member.subject, Pretrain) and not member.cell.startswith("simclr"):
                assert all(key.startswith(prefixes) for key in _difference(baseline, member.subject)), member.cell


@pytest.mark.parametrize("profile", profile_names())
def test_a_sweep_stays_a_sweep(profile: str) -> None:
    """Protects the order of a sweep at every scale: more of something stays more, or as much."""
    for table, column in (("5a", "tau"), ("14b", "dim"), ("15a", "lr"), ("15b", "wd"), ("16", "batch")):
        rows = _labels(table, column)
        runs = {m.cell: m.subject for m in expand(table, profile, 1).members if isinstance(m.subject, Pretrain)}
        cells = sorted((cell for cell in runs if "simclr" not in cell), key=lambda cell: float(str(rows[cell])))
        values = [float(str(SAID[table, column](runs[cell]))) for cell in cells]
        assert values == sorted(values), table
        assert len(set(values)) >= len(values) - (table == "16")


def test_the_tables_of_raft_share_their_rows(paper_scale: dict[str, Expansion]) -> None:
    """Protects RAFT's Table 3, of which four trained rows and the untrained encoder stand in its Table 1."""
    one, three = _keys(paper_scale["raft1"]), _keys(paper_scale["raft3"])
    for cell, other in (
        ("rand_baseline", "rand_baseline"),
        ("raft", "raft_-1.0"),
        ("raft_lp", "raft_lp_-1.0"),
        ("raft_np", "raft_np_-1.0"),
        ("byol_prime_np", "byol_prime_np_1.0"),
    ):
        assert one[cell] == three[other]
        metric = "linear_raft.top1"
        assert _layout("raft1").paper[cell][metric] == _layout("raft3").paper[other][metric]
    assert len(set(one.values()) & set(three.values())) == 5


@pytest.mark.parametrize("profile", profile_names())
def test_raft_keeps_its_own_scale(profile: str) -> None:
    """Protects the RAFT paper's set-up where there is CIFAR-10: the same runs at `imagenet` and at `cifar10`."""
    expansion = expand("raft1", profile, 1)
    assert UNTRAINED not in expansion.cells, "the table has this row itself"
    same = _keys(expansion) == _keys(expand("raft1", "imagenet", 1))
    assert same == (profile in ("imagenet", "cifar10"))
