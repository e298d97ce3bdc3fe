"""From cells to runs: grids, sharing, and how a profile carries the paper's values over."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config.errors import ConfigError
from harness.config.expand import UNTRAINED, Expansion, declared_cells, expand
from harness.config.files import profile_names, read_profile, read_table, table_ids
from harness.config.schema import Linear, Logistic, Pretrain, RandomEncoder

Edit = Callable[[str, str, str], None]
Write = Callable[[str], None]
RECIPES = sorted(path.stem for path in (Path(__file__).parents[2] / "experiments" / "recipes").glob("*.yaml"))


def _subjects(expansion: Expansion) -> dict[str, Pretrain]:
    return {m.cell: m.subject for m in expansion.members if m.seed == 0 and isinstance(m.subject, Pretrain)}


def test_the_paper_scale_is_the_paper() -> None:
    """Protects every value of the paper's 300-epoch baseline (its appendices A to C and Table 6)."""
    byol = _subjects(expand("5b", "imagenet", 1, "byol"))["byol"]
    assert (byol.data.dataset, byol.data.split, byol.data.image_size) == ("imagenet", "train+valid", 224)
    assert (byol.model.encoder, byol.model.width) == ("resnet50", 1)
    assert byol.model.projector == byol.model.predictor == (4096, 256)
    assert (byol.objective.target, byol.objective.tau_base, byol.objective.beta) == ("ema", 0.99, 0.0)
    assert (byol.optimizer.base_lr, byol.optimizer.weight_decay, byol.optimizer.momentum) == (0.3, 1e-6, 0.9)
    assert (byol.schedule.epochs, byol.schedule.warmup_epochs, byol.schedule.update_batch) == (300, 10, 4096)
    first, second = byol.data.views.first, byol.data.views.second
    assert (first.blur, first.solarize, second.blur, second.solarize) == (1.0, 0.0, 0.1, 0.2)
    for view in (first, second):
        assert (view.crop_area, view.flip, view.blur_sigma) == ((0.08, 1.0), 0.5, (0.1, 2.0))
        assert (view.jitter, view.grayscale) == (0.8, 0.2)
        assert (view.brightness, view.contrast, view.saturation, view.hue) == (0.4, 0.4, 0.2, 0.1)


def test_the_supervised_recipe_is_the_paper_s() -> None:
    """Protects what its Appendix D.2 states of the baselines of Table 9; the rest is chosen, and said so."""
    run = _subjects(expand("extras", "imagenet", 1, "supervised"))["supervised"]
    assert (run.objective.name, run.objective.label_smoothing, run.optimizer.name) == ("supervised", 0.1, "sgd")
    assert (run.optimizer.momentum, run.optimizer.weight_decay, run.optimizer.base_lr) == (0.9, 1e-4, 0.1)
    assert (run.schedule.epochs, run.schedule.warmup_epochs, run.schedule.decay) == (200, 5, "cosine")
    assert (run.schedule.update_batch, run.data.split) == (1024, "train+valid")
    view = run.data.views.first
    assert (view.crop_area, view.flip, view.jitter, view.grayscale) == ((0.08, 1.0), 0.5, 0.0, 0.0)
    assert (view.blur, view.solarize) == (0.0, 0.0)


def test_large_supervised_baselines_have_randaugment() -> None:
    """Protects Table 9's supervised column: its Appendix C.2 has RandAugment for all large ResNets, no other change."""
    cells = _subjects(expand("9", "imagenet", 1))
    smallest = cells["supervised_50x1"]
    assert smallest == _subjects(expand("extras", "imagenet", 1, "supervised"))["supervised"]
    for name, run in cells.items():
        if name.startswith("supervised") and run != smallest:
            view = run.data.views.first
            assert (view.operations, view.magnitude) == (2, 9)
            assert replace(view, operations=0, magnitude=0) == smallest.data.views.first
            assert replace(run, model=smallest.model, data=smallest.data) == smallest


def test_imagenette_is_the_set_up_of_the_release(table: Write) -> None:
    """Protects the run behind the README's 92.3: the 1000-epoch recipe, by the release's small settings."""
    table("  - {id: only, recipe: byol_r50_1000ep}\n")
    run = _subjects(expand("5b", "imagenette", 1))["only"]
    assert (run.data.dataset, run.data.image_size, run.data.split) == ("imagenette", 128, "train+valid")
    assert (run.model.encoder, run.model.projector) == ("resnet18", (4096, 256))
    assert (run.schedule.epochs, run.schedule.update_batch, run.schedule.statistics_batch) == (1000, 256, 256)
    assert (run.optimizer.base_lr, run.optimizer.weight_decay) == (2.0, 1e-6)
    assert run.objective.tau_base == 0.996


def test_the_laptop_scale() -> None:
    """Protects each kind of map with its exact value: table, value, factor, relative and complement."""
    byol = _subjects(expand("5b", "laptop", 1, "byol"))["byol"]
    assert (byol.data.dataset, byol.data.image_size, byol.model.encoder) == ("digits", 16, "resnet_tiny")
    assert byol.data.views.second.crop_area == (0.4, 1.0)
    assert byol.model.projector == byol.model.predictor == (256, 16)
    assert byol.schedule.update_batch == byol.schedule.statistics_batch == 128
    assert (byol.schedule.epochs, byol.schedule.warmup_epochs) == (40, 2)
    assert (byol.optimizer.base_lr, byol.optimizer.weight_decay) == (1.0, 1e-4)
    assert byol.objective.tau_base == 0.95
    assert byol.data.stand_in
    assert byol.optimizer.momentum == 0.9, "what no map names stays the paper's"


def test_maps_carry_what_a_cell_sets(table: Write) -> None:
    """Protects the meaning of an ablation at another scale: a ratio to the recipe's value stays that ratio."""
    table(
        "  - {id: lr, set: {optimizer.base_lr: 0.15}}\n"
        "  - {id: wd, set: {optimizer.weight_decay: 0}}\n"
        "  - {id: tau, set: {objective.tau_base: 0.999}}\n"
        "  - {id: batch, set: {schedule.update_batch: 4096, schedule.statistics_batch: 256}}\n"
        "  - {id: smallest, set: {schedule.statistics_batch: 64}}\n"
        "  - {id: heads, set: {model.projector: [2048, 64], model.predictor: [64]}}\n"
    )
    cells = _subjects(expand("5b", "laptop"))
    assert cells["lr"].optimizer.base_lr == 0.5
    assert cells["wd"].optimizer.weight_decay == 0.0
    assert cells["tau"].objective.tau_base == 0.995
    assert (cells["batch"].schedule.update_batch, cells["batch"].schedule.statistics_batch) == (128, 8)
    assert cells["smallest"].schedule.statistics_batch == 4, "the floor"
    assert cells["heads"].model.projector == (128, 8)
    assert cells["heads"].model.predictor == (8,)


def test_nothing_is_nothing_at_every_scale(table: Write) -> None:
    """Protects a recipe without weight decay from a ratio to it, and a person from one that has no meaning."""
    table("  - {id: raft, recipe: raft_r18_300ep, set: {}}\n")
    assert _subjects(expand("5b", "laptop"))["raft"].optimizer.weight_decay == 0.0
    table("  - {id: raft, recipe: raft_r18_300ep, set: {optimizer.weight_decay: 1.0e-6}}\n")
    with pytest.raises(ConfigError, match=r"laptop.yaml:21: .*relative needs a recipe's own value that is not 0.0"):
        expand("5b", "laptop")


def test_a_recipe_may_have_maps_of_its_own(table: Write) -> None:
    """Protects Adam from LARS's learning rate: what a profile says for one recipe goes before what it says for all."""
    table("  - {id: byol, set: {}}\n  - {id: raft, recipe: raft_r18_300ep, set: {optimizer.base_lr: 6.0e-4}}\n")
    cells = _subjects(expand("5b", "laptop"))
    assert (cells["byol"].optimizer.base_lr, cells["raft"].optimizer.base_lr) == (1.0, 2e-3)
    assert (cells["raft"].schedule.update_batch, cells["raft"].schedule.epochs) == (64, 40)
    assert cells["raft"].model.projector == (128, 32)
    assert expand("raft1", "laptop", 1, "byol").members[0].evaluation.learning_rates == (5e-3,)
    assert expand("5b", "laptop", 1, "byol").members[0].evaluation.learning_rates == (0.4, 0.3, 0.2, 0.1, 0.05)


def test_a_map_may_be_for_some_cells_alone(edit: Edit, table: Write) -> None:
    """Protects what a condition compares: all it names, in the paper's terms, whatever other maps made of them."""
    table(
        "  - {id: mlp, set: {}}\n"
        "  - {id: linear, set: {model.predictor: [256]}}\n"
        "  - {id: longer, set: {model.predictor: [256], schedule.epochs: 1000}}\n"
    )
    shorter = "{factor: 0.5, floor: 0, when: {model.predictor: [256], schedule.epochs: 300}}"
    edit("profiles/laptop.yaml", "{table: {10: 2, 0: 0}}", shorter)
    cells = _subjects(expand("5b", "laptop"))
    assert {name: cell.schedule.warmup_epochs for name, cell in cells.items()} == {"mlp": 10, "linear": 5, "longer": 10}


def test_a_recipe_s_own_map_that_is_for_others_leaves_a_cell_to_the_general_one() -> None:
    """Protects the rank of maps: the recipe's own first, but only for the cells that meet its condition."""
    cells = _subjects(expand("raft1", "laptop"))
    assert {cells[name].objective.tau_base for name in ("byol_np", "raft_np", "byol_prime_np")} == {0.5}
    assert {cells[name].objective.tau_base for name in ("byol", "raft", "byol_lp")} == {0.98}


def _conditions(profile: str) -> list[tuple[str, dict[str, object]]]:
    """Every condition of a profile, with the recipe whose maps hold it."""
    parsed, _ = read_profile(profile)
    return [(name, how.when) for name, maps in parsed.own.items() for how in maps.values() if how.when]


@pytest.mark.parametrize("profile", profile_names())
def test_every_condition_is_met_by_some_cell_and_not_by_all(profile: str) -> None:
    """Protects a profile from a condition that is misspelt (nobody meets it) or idle (everybody does)."""
    for recipe, when in _conditions(profile):
        tables = [read_table(table)[0] for table in table_ids()]
        cells = [(t, cell) for t in tables for cell in t.cells if (cell.recipe or t.recipe) == recipe]
        met = [all(cell.set.get(key) == value for key, value in when.items()) for _, cell in cells]
        assert any(met), f"{profile}: own.{recipe}: no cell has {when}"
        assert not all(met), f"{profile}: own.{recipe}: every cell has {when}"


def test_a_cell_may_set_what_its_recipe_leaves_out(table: Write) -> None:
    """Protects knobs that came later: recipes need not name them, and cells can set them."""
    table("  - {id: only, set: {objective.normalization: none, schedule.decay: none}, evaluate: {optimizer: adam}}\n")
    member = expand("5b", "laptop", 1, "only").members[0]
    assert isinstance(member.subject, Pretrain)
    assert (member.subject.objective.normalization, member.subject.schedule.decay) == ("none", "none")
    assert member.evaluation.optimizer == "adam"


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_at_every_profile(table: Write, recipe: str, profile: str) -> None:
    """Protects recipes that no table uses yet from a profile that cannot carry them over."""
    table(f"  - {{id: only, recipe: {recipe}, set: {{}}}}\n")
    assert _subjects(expand("5b", profile))["only"].optimizer.base_lr > 0


def test_a_null_has_nothing_to_scale(table: Write) -> None:
    """Protects cells without a moving target or a predictor from the maps of either."""
    table("  - {id: only, set: {objective.target: online, objective.tau_base: null}}\n")
    assert _subjects(expand("5b", "laptop"))["only"].objective.tau_base is None


def test_grid(table: Write) -> None:
    """Protects the order, names and values of a grid's cells, and that its id must name each key."""
    table(
        '  - {id: "b{beta}_t{temperature}", set: {objective.predictor: false},'
        " grid: {objective.beta: [0.5, 1.0], objective.temperature: [0.1, 0.3]}}\n"
    )
    expansion = expand("5b", "imagenet")
    assert expansion.cells == declared_cells("5b") == ("b0.5_t0.1", "b0.5_t0.3", "b1.0_t0.1", "b1.0_t0.3")
    objective = _subjects(expansion)["b0.5_t0.3"].objective
    assert (objective.beta, objective.temperature, objective.predictor) == (0.5, 0.3, False)


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ('{id: "x_{tau}", grid: {objective.beta: [0.0]}}', "id 'x_{tau}' names 'tau', which its grid does not hold"),
        ('{id: "x_{beta.no}", grid: {objective.beta: [0.0]}}', "which its grid does not hold"),
        ("{id: x, grid: {objective.beta: []}}", "grid: objective.beta: names no value"),
        ("{id: x, set: {objective.beta: 0.0}, grid: {objective.beta: [0.0]}}", "grid: objective.beta: is in `set` too"),
        ("{id: x, grid: {schedule.epochs: [100, 300]}}", "cell id 'x' already stands at"),
    ],
)
def test_a_grid_that_cannot_be(table: Write, cell: str, problem: str) -> None:
    """Protects against cells that would silently overwrite each other or vanish."""
    table(f"  - {cell}\n")
    with pytest.raises(ConfigError) as caught:
        expand("5b", "imagenet")
    assert str(caught.value).startswith("experiments/tables/table5b.yaml:7: ")
    assert problem in str(caught.value)


def test_a_cell_may_change_its_evaluation(table: Write) -> None:
    """Protects sharing: two protocols on one subject are one pretraining and two evaluations."""
    table("  - {id: a, set: {}}\n  - {id: b, set: {}, evaluate: {epochs: 90}}\n")
    expansion = expand("5b", "imagenet", 1)
    a, b = expansion.members
    assert a.subject_key == b.subject_key
    assert (a.evaluation.epochs, b.evaluation.epochs) == (80, 90)
    assert [spec.kind for spec in expansion.runs().values()] == ["pretrain", "linear", "linear"]


def test_a_cell_may_have_an_evaluation_of_its_own(table: Write) -> None:
    """Protects Table 13, of whose columns one is on ImageNet and one on Places365: two evaluations of one subject."""
    table("  - {id: a}\n  - {id: b, evaluation: linear_places365, evaluate: {epochs: 90}}\n")
    a, b = (member.evaluation for member in expand("5b", "imagenet", 1).members)
    assert isinstance(a, Linear)
    assert isinstance(b, Linear)
    assert a.subject == b.subject
    assert (a.evaluation, a.data.dataset, a.epochs) == ("linear_imagenet", "imagenet", 80)
    assert (b.evaluation, b.data.dataset, b.epochs) == ("linear_places365", "places365", 90)


def test_a_cell_may_ask_for_its_training_alone(table: Write) -> None:
    """Protects Table 9's supervised column from evaluations nobody reads: the training stands in their place."""
    table("  - {id: byol}\n  - {id: supervised, recipe: supervised_r50, evaluation: none}\n")
    expansion = expand("5b", "imagenet", 1)
    byol, supervised = expansion.members
    assert supervised.evaluation == supervised.subject
    assert supervised.evaluation_key == supervised.subject_key
    assert supervised.at_paper_scale
    assert [spec.kind for spec in expansion.runs().values()] == ["pretrain", "pretrain", "linear"]
    assert list(expansion.runs()) == [byol.subject_key, supervised.subject_key, byol.evaluation_key]


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("{id: x, untrained: true, evaluation: none}", "is for what is trained; name an evaluation"),
        ("{id: x, evaluation: none, evaluate: {epochs: 1}}", "has nothing to set"),
    ],
)
def test_what_cannot_do_without_an_evaluation(table: Write, cell: str, problem: str) -> None:
    """Protects against a cell that would have no number, and one whose changes would change nothing."""
    table(f"  - {cell}\n")
    with pytest.raises(ConfigError) as caught:
        expand("5b", "imagenet")
    assert str(caught.value) == f"experiments/tables/table5b.yaml:7: cell 'x': evaluation 'none' {problem}"


def test_an_evaluation_may_train_on_the_views_of_pretraining(table: Write) -> None:
    """Protects Table 7: T's operations with the evaluation's own crop and flip, which a profile carries over."""
    table("  - {id: plain}\n  - {id: changed, evaluate: {data.view: byol.first}}\n")
    for profile, crop, flip in (("imagenet", (0.08, 1.0), 0.5), ("laptop", (0.4, 1.0), 0.0)):
        plain, changed = (member.evaluation for member in expand("5b", profile, 1).members[:2])
        subject = _subjects(expand("5b", profile, 1))["plain"]
        assert isinstance(plain, Linear)
        assert isinstance(changed, Linear)
        assert plain.data.view is None
        assert changed.data.view == replace(subject.data.views.first, crop_area=crop, flip=flip)
        assert (changed.data.crop_area, changed.data.flip) == (crop, flip)


@pytest.mark.parametrize("view", ["byol", "byol.third"])
def test_which_of_the_two_views_must_be_said(table: Write, view: str) -> None:
    """Protects from a guess: pretraining has two distributions."""
    table(f"  - {{id: x, evaluate: {{data.view: {view}}}}}\n")
    with pytest.raises(ConfigError, match=r"table5b.yaml:7: data.view: .* byol.first or byol.second"):
        expand("5b", "imagenet")


def test_a_cell_may_change_its_views(table: Write) -> None:
    """Protects cells that name a file of views, or one probability of it."""
    table("  - {id: a, set: {data.views: byol, data.views.second.blur: 0.5}}\n")
    views = _subjects(expand("5b", "imagenet"))["a"].data.views
    assert (views.first.blur, views.second.blur) == (1.0, 0.5)


def test_seeds_and_one_cell() -> None:
    """Protects SEEDS and CELL: each restricts, and neither changes a key."""
    full = expand("5b", "laptop")
    few = expand("5b", "laptop", 2, "simclr")
    assert few.seeds == (0, 1)
    assert few.cells == ("simclr",)
    assert [m for m in full.members if m.cell == "simclr" and m.seed < 2] == list(few.members)
    assert all(member.evaluation.subject == member.subject_key for member in full.members)


def test_the_untrained_encoder() -> None:
    """Protects the footer's row: evaluated as any other, where the profile asks, with nothing to train."""
    full = expand("5b", "laptop")
    rows = [member for member in full.members if member.cell == UNTRAINED]
    assert full.cells[-1] == UNTRAINED
    assert [member.seed for member in rows] == [0, 1, 2]
    assert all(isinstance(member.subject, RandomEncoder) for member in rows)
    assert not {member.subject_key for member in rows} & full.runs().keys()
    assert UNTRAINED not in expand("5b", "imagenet").cells
    assert UNTRAINED not in declared_cells("5b")


def test_a_cell_of_the_untrained_encoder(table: Write) -> None:
    """Protects a table that has such a row of its own: its recipe's encoder, and no second row of the profile's."""
    table("  - {id: rand, untrained: true}\n  - {id: small, recipe: raft_r18_300ep, untrained: true}\n")
    for profile in ("laptop", "imagenet"):
        expansion = expand("5b", profile, 2)
        assert expansion.cells == ("rand", "small")
        assert [spec.kind for spec in expansion.runs().values()] == ["linear"] * len(expansion.runs())
    encoders = [member.subject for member in expansion.members]
    assert encoders == [
        RandomEncoder(kind="random", encoder=encoder, width=1, norm="batch", seed=seed)
        for encoder in ("resnet50", "resnet18")
        for seed in (0, 1)
    ]


@pytest.mark.parametrize("change", ["set: {objective.beta: 0.0}", "grid: {objective.beta: [0.0]}"])
def test_an_untrained_encoder_has_no_settings(table: Write, change: str) -> None:
    """Protects against a change that would say nothing."""
    table(f"  - {{id: x, untrained: true, {change}}}\n")
    with pytest.raises(ConfigError, match=r"table5b.yaml:7: an untrained encoder has nothing to set; name a recipe"):
        expand("5b", "laptop")


def test_tables_come_in_the_order_of_the_paper(edit: Callable[[str, str, str], None]) -> None:
    """Protects `make tables` from reading 14a before 5b."""
    for table in Path("experiments/tables").iterdir():
        table.unlink()
    for name in ("raft1", "14a", "10", "5b", "extras", "5a"):
        Path(f"experiments/tables/table{name}.yaml").touch()
    assert table_ids() == ["5a", "5b", "10", "14a", "extras", "raft1"]


@pytest.mark.parametrize(
    ("table", "profile", "cells"), [("5b", "imagenet", 8), ("5b", "cifar10", 0), ("raft1", "cifar10", 14)]
)
def test_cells_at_the_paper_s_own_scale(table: str, profile: str, cells: int) -> None:
    """Protects verdicts: given where the profile changes nothing, and nowhere else."""
    members = expand(table, profile).members
    assert len({m.cell for m in members if m.at_paper_scale and m.cell != UNTRAINED}) == cells


def test_a_grid_of_evaluations(table: Callable[[str], None]) -> None:
    """Protects Table 3's sixty cells in five: keys below `evaluate.` change the evaluation, others the training."""
    table(
        """  - id: "{dataset}_{tau_base}"
    evaluation: transfer_linear
    grid: {evaluate.data.dataset: [dtd, pets], objective.tau_base: [0.9, 0.99]}
"""
    )
    found = expand("5b", "imagenet", 1)
    assert found.cells == ("dtd_0.9", "dtd_0.99", "pets_0.9", "pets_0.99")
    for member in found.members:
        assert isinstance(member.subject, Pretrain)
        assert isinstance(member.evaluation, Logistic)
        assert member.cell == f"{member.evaluation.data.dataset}_{member.subject.objective.tau_base}"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            "grid: {evaluate.data.dataset: [dtd]}, evaluate: {data.dataset: pets}",
            "grid: evaluate.data.dataset: is in `evaluate` too",
        ),
        ("grid: {evaluate.data.dataset: []}", "grid: evaluate.data.dataset: names no value"),
        ("grid: {evaluate.data.dataset: [dtt]}", "data.dataset: unknown dataset 'dtt'; did you mean 'dtd'?"),
        ("grid: {evaluate.data.epochs: [3]}", "data.epochs: unknown key 'epochs'"),
        ("untrained: true, grid: {model.width: [1, 2]}", "an untrained encoder has nothing to set"),
    ],
)
def test_a_mistake_in_a_grid_of_evaluations(table: Callable[[str], None], cell: str, message: str) -> None:
    """Protects the person who made it, as other mistakes do."""
    table(f"  - {{id: only, evaluation: transfer_linear, {cell}}}\n")
    with pytest.raises(ConfigError, match=rf"table5b\.yaml:7: .*{re.escape(message)}"):
        expand("5b", "imagenet")
