"""A mistake in experiments/ is one sentence with file, line and key, and where it can be, with the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.errors import ConfigError
from harness.config.expand import expand
from harness.config.files import project_root

Edit = Callable[[str, str, str], None]

RECIPE = "recipes/byol_r50_300ep.yaml"
TABLE = "tables/table5b.yaml"
LAPTOP = "profiles/laptop.yaml"
LINEAR = "evaluations/linear_imagenet.yaml"
VIEWS = "views/byol.yaml"

# Each mistake: the file, what stands there, what is written instead, the line, and what the person reads after it.
MISTAKES = {
    "misspelt key": (
        *(RECIPE, "weight_decay:", "weight_decya:", 7),
        "optimizer.weight_decya: unknown key 'weight_decya'; did you mean 'weight_decay'?",
    ),
    "misspelt section": (RECIPE, "data: {", "date: {", 4, "date: unknown key 'date'; did you mean 'data'?"),
    "missing key": (RECIPE, ", trust: 1.0e-3", "", 7, "optimizer.trust: is missing"),
    "number as text in a recipe": (
        *(RECIPE, "1.0e-6", "1e-6", 7),
        "optimizer.weight_decay: must be a number, not the text '1e-6'; YAML reads 1e-6 as text here, write 1.0e-06",
    ),
    "number as text in an evaluation": (
        *(LINEAR, "0.05]", "5e-2]", 7),
        "learning_rates[4]: must be a number, not the text '5e-2'; YAML reads 5e-2 as text here, write 0.05",
    ),
    "number as text in a view": (
        *(VIEWS, "blur: 0.1", "blur: 1e-1", 23),
        "data.views.second.blur: must be a number, not the text '1e-1'; YAML reads 1e-1 as text here, write 0.1",
    ),
    "whole number as text": (
        *(RECIPE, "epochs: 300", "epochs: 3e2", 8),
        "schedule.epochs: must be a whole number, not the text '3e2'; YAML reads 3e2 as text here, write 300",
    ),
    "no number": (RECIPE, "base_lr: 0.3", "base_lr: .nan", 7, "optimizer.base_lr: must be a finite number, not .nan"),
    "no choice": (
        *(RECIPE, "target: ema", "target: EMA", 6),
        "objective.target: must be one of ema, constant, stop_gradient, online, not the text 'EMA'",
    ),
    "unknown views": (RECIPE, "views: byol", "views: boyl", 4, "unknown views 'boyl'; did you mean 'byol'?"),
    "unknown dataset": (
        *(RECIPE, "dataset: imagenet", "dataset: imagnet", 4),
        "data.dataset: unknown dataset 'imagnet'; did you mean 'imagenet'?",
    ),
    "fact of the dataset": (
        *(RECIPE, "split: train+valid", "split: train+valid, store: raw", 4),
        "data.store: is not set here; it follows from the dataset or the table",
    ),
    "predictor of another width": (
        *(RECIPE, "predictor: [4096, 256]", "predictor: [4096, 128]", 5),
        "model.predictor: must end in the projector's width: the two are compared",
    ),
    "no predictor": (
        *(RECIPE, "predictor: [4096, 256]", "predictor: null", 5),
        "model.predictor: is needed where objective.predictor is true",
    ),
    "no layer": (
        *(RECIPE, "projector: [4096, 256]", "projector: []", 5),
        "model.projector: must name the width of every layer, each at least 1",
    ),
    "trust of another optimizer": (
        *(RECIPE, "name: lars", "name: sgd", 7),
        "optimizer.trust: is LARS's: a number there, and null for sgd and adam",
    ),
    "statistics batch": (
        *(RECIPE, "statistics_batch: 4096", "statistics_batch: 96", 8),
        "schedule.statistics_batch: 96 does not divide the update batch of 4096",
    ),
    "warm-up": (
        *(RECIPE, "warmup_epochs: 10", "warmup_epochs: 301", 8),
        "schedule.warmup_epochs: must lie between 0 and the 300 epochs",
    ),
    "probability": (
        *(VIEWS, "solarize: 0.2", "solarize: 20", 25),
        "data.views.second.solarize: must lie between 0 and 1, not 20.0",
    ),
    "range": (
        *(VIEWS, "blur: 0.1\n  blur_sigma: [0.1, 2.0]", "blur: 0.1\n  blur_sigma: [2.0, 0.1]", 24),
        "data.views.second.blur_sigma: must be a range above 0, not 2.0 to 0.1",
    ),
    "three operations": (
        *(VIEWS, "solarize: 0.2", "solarize: 0.2\n  operations: 3", 26),
        "data.views.second.operations: must lie between 0 and 2, not 3",
    ),
    "no learning rate": (LINEAR, "[0.4, 0.3, 0.2, 0.1, 0.05]", "[]", 7, "learning_rates: must name at least one"),
    "no epoch of an evaluation": (LINEAR, "epochs: 80", "epochs: 0", 9, "epochs: must be at least 1, not 0"),
    "encoder of a width that is none": (RECIPE, "width: 1", "width: 5", 5, "model.width: must be 1 to 4, not 5"),
    "clip of nothing": (
        *(LINEAR, "batch: 1024", "batch: 1024\nlogit_clip: 0", 11),
        "logit_clip: must be above 0, not 0.0",
    ),
    "penalty below nothing": (
        *(LINEAR, "batch: 1024", "batch: 1024\nlogit_penalty: -1.0", 11),
        "logit_penalty: must be at least 0, not -1.0",
    ),
    "unknown recipe": (
        *(TABLE, "byol_r50_300ep", "byol_r50_30ep", 5),
        "unknown recipe 'byol_r50_30ep'; did you mean 'byol_r50_300ep'?",
    ),
    "unknown evaluation": (
        *(TABLE, "evaluate: linear_imagenet", "evaluate: linear_imagnet", 7),
        "unknown evaluation 'linear_imagnet'; did you mean 'linear_imagenet'?",
    ),
    "misspelt key of a cell": (
        *(TABLE, "id: byol, set", "id: byol, sets", 9),
        "cells[0].sets: unknown key 'sets'; did you mean 'set'?",
    ),
    "cell id twice": (
        *(TABLE, "id: simclr", "id: byol", 12),
        "cell id 'byol' already stands at experiments/tables/table5b.yaml:9; give each cell its own",
    ),
    "reserved cell id": (
        *(TABLE, "id: simclr", "id: untrained", 12),
        "cell id 'untrained' is reserved; give each cell its own",
    ),
    "cell id that no tag can hold": (
        *(TABLE, "id: simclr", 'id: "sim:clr"', 12),
        "cell id 'sim:clr' may hold letters, digits and _ . + - alone",
    ),
    "no seeds": (TABLE, "[0, 1, 2]", "[]", 6, "seeds: must be different whole numbers from 0 on, at least one"),
    "seed twice": (
        TABLE,
        "[0, 1, 2]",
        "[0, 1, 1]",
        6,
        "seeds: must be different whole numbers from 0 on, at least one",
    ),
    "another table": (TABLE, 'table: "5b"', 'table: "5a"', 3, "table: says '5a' in the file of table 5b"),
    "map of an unknown key": (
        *(LAPTOP, "schedule.epochs: {table", "schedule.epoch: {table", 22),
        "schedule.epoch: no recipe has this key",
    ),
    "map of an unknown key of evaluations": (
        *(LAPTOP, "  batch: {value: 128}", "  batches: {value: 128}", 32),
        "batches: no evaluation has this key",
    ),
    "map without the value": (
        *(LAPTOP, "{300: 40, ", "{", 22),
        "schedule.epochs: the table has no entry for 300",
    ),
    "map with two meanings": (
        *(LAPTOP, "{complement: 5.0}", "{complement: 5.0, factor: 2.0}", 19),
        "pretrain.objective.tau_base: give exactly one of value, table, relative, complement, "
        "or factor with or without floor",
    ),
    "map with none": (
        *(LAPTOP, "{complement: 5.0}", "{}", 19),
        "pretrain.objective.tau_base: give exactly one of value, table, relative, complement, "
        "or factor with or without floor",
    ),
    "map of a list by a ratio": (
        *(LAPTOP, "model.projector: {table: {4096: 256,", "model.projector: {relative: 2.0} #", 17),
        "model.projector: relative needs a recipe's own value that is not None",
    ),
    "width without an entry": (
        *(LAPTOP, "model.projector: {table: {4096: 256, ", "model.projector: {table: {", 17),
        "model.projector: the table has no entry for 4096",
    ),
    "own maps of nothing": (
        *(LAPTOP, "  raft_r18_300ep:", "  raft_r18:", 84),
        "own.raft_r18: unknown recipe or evaluation 'raft_r18'; did you mean 'raft_r18_300ep'?",
    ),
    "own map with none": (
        *(LAPTOP, "optimizer.base_lr: {relative: 1.0e-3}", "optimizer.base_lr: {}", 87),
        "own.raft_r18_300ep.optimizer.base_lr: give exactly one of value, table, relative, complement, "
        "or factor with or without floor",
    ),
    "condition on an unknown key": (
        *(LAPTOP, "tau_base: {complement: 5.0}", "tau_base: {complement: 5.0, when: {model.predicter: [256]}}", 19),
        "model.predicter: no recipe has this key",
    ),
    "condition that is no mapping": (
        *(LAPTOP, "tau_base: {complement: 5.0}", "tau_base: {complement: 5.0, when: linear}", 19),
        "pretrain.objective.tau_base.when: must be a mapping, not the text 'linear'",
    ),
    "condition without a map": (
        *(LAPTOP, "tau_base: {complement: 5.0}", "tau_base: {when: {model.predictor: [256]}}", 19),
        "pretrain.objective.tau_base: give exactly one of value, table, relative, complement, "
        "or factor with or without floor",
    ),
    "factor of text": (
        *(LAPTOP, "objective.tau_base: {complement: 5.0}", "data.split: {factor: 2.0}", 19),
        "data.split: 'train+valid' is no number; give value or table",
    ),
    "fraction of a pixel": (
        *(LAPTOP, "size: {value: 16}\n  data.views", "size: {value: 16.5}\n  data.views", 9),
        "data.image_size: must be a whole number, not 16.5",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_file(edit: Edit, mistake: str) -> None:
    """Protects the person who made it from a traceback, a guess, or a run of the wrong thing."""
    file, old, new, line, problem = MISTAKES[mistake]
    edit(file, old, new)
    with pytest.raises(ConfigError) as caught:
        expand("5b", "laptop")
    assert str(caught.value) == f"experiments/{file}:{line}: {problem}"


# What a cell may not set. The cell spans lines 7 and 8 of its file; the change stands on line 8.
CHANGES = {
    "objective.beta: 1": "objective.beta: 1.0 needs an objective.temperature",
    "objective.temperature: 0.1": "objective.temperature: has no effect where beta is 0; set it to null",
    "objective.beta: -1": "objective.beta: must be at least 0, not -1.0",
    "objective.tau_base: 0.0": "objective.tau_base: 0 with the cosine schedule is no hard copy; "
    "set target: stop_gradient",
    "objective.tau_base: 1.5": "objective.tau_base: must lie between 0 and 1, not 1.5",
    "objective.tau_base: null": "objective.tau_base: is needed where the target is ema",
    "objective.tau: 0.9": "objective.tau: unknown key 'tau'; "
    "known: name, predictor, target, tau_base, beta, temperature, normalization, scaled, predictor_fit, tau_schedule, "
    "cross_model, tangential, label_smoothing",
    "objective.beta.more: 1": "objective.beta.more: there is nothing below the value 0.0",
    "objective.target: null": "objective.target: is needed unless objective.name is supervised",
    "objective.label_smoothing: 0.1": "objective.label_smoothing: has no effect unless objective.name is supervised",
    "objective: 5": "objective: must be a mapping, not 5",
    "optimizer.weight_decay: 1e-7": "optimizer.weight_decay: must be a number, not the text '1e-7'; "
    "YAML reads 1e-7 as text here, write 1.0e-07",
    "optimizer.weight_decay: -1.0": "optimizer.weight_decay: must be at least 0, not -1.0",
    "schedule.statistics_batch: 1": "schedule.statistics_batch: must be at least 2: one image has no batch statistics",
    "schedule.epochs: true": "schedule.epochs: must be a whole number, not True",
    "schedule.epochs: 0": "schedule.epochs: must be at least 1, not 0",
}


@pytest.mark.parametrize("profile", ["laptop", "imagenet"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_mistake_in_a_cell(table: Callable[[str], None], change: str, profile: str) -> None:
    """Protects the same words at every profile: what is refused is said in the paper's terms, not the scaled ones."""
    table(f"  - id: only\n    set: {{{change}}}\n")
    with pytest.raises(ConfigError) as caught:
        expand("5b", profile)
    assert str(caught.value) == f"experiments/tables/table5b.yaml:8: {CHANGES[change]}"


# Likewise, of supervised training.
UNSUPERVISED = {
    "model.projector: [4096, 256]": "model.projector: has no part in supervised training; set it to []",
    "model.predictor: [256]": "model.predictor: has no part in supervised training; set it to null",
    "objective.predictor: true": "objective.predictor: has no part in supervised training; set it to false",
    "objective.target: ema": "objective.target: has no part in supervised training; set it to null",
    "objective.tau_base: 0.99": "objective.tau_base: has no part in supervised training; set it to null",
    "objective.beta: 1.0": "objective.beta: has no part in supervised training; set it to 0.0",
    "optimizer.predictor_multiplier: 2.0": "optimizer.predictor_multiplier: has no part in supervised training; "
    "set it to 1.0",
    "objective.label_smoothing: 1.0": "objective.label_smoothing: must be at least 0 and below 1, not 1",
    "optimizer.momentum: 0": "optimizer.momentum: must be above 0 for sgd, whose momentum is Nesterov's",
    "data.dataset: nyu-depth": "data.dataset: nyu-depth has no class for each image to supervise with",
    "model.initial_scale: 0.0": "model.initial_scale: must be above 0, not 0.0",
}


@pytest.mark.parametrize("change", UNSUPERVISED)
def test_a_knob_that_labels_have_not(table: Callable[[str], None], change: str) -> None:
    """Protects a supervised cell from settings that would be silently without effect."""
    table(f"  - id: only\n    recipe: supervised_r50\n    set: {{{change}}}\n")
    with pytest.raises(ConfigError) as caught:
        expand("5b", "imagenet")
    assert str(caught.value) == f"experiments/tables/table5b.yaml:9: {UNSUPERVISED[change]}"


def test_two_views_of_a_supervised_run(table: Callable[[str], None]) -> None:
    """Protects labels from a second view that nobody would look at; the line is that of the second view."""
    table("  - {id: only, recipe: supervised_r50, set: {data.views: byol}}\n")
    with pytest.raises(ConfigError, match=r"views/byol.yaml:14: data.views.second: must be like data.views.first: "):
        expand("5b", "imagenet")


def test_temperature_of_zero(table: Callable[[str], None]) -> None:
    """Protects InfoNCE from a division by zero."""
    table("  - {id: only, set: {objective.beta: 1.0, objective.temperature: 0}}\n")
    with pytest.raises(ConfigError, match=r"table5b.yaml:7: objective.temperature: must be above 0, not 0.0"):
        expand("5b", "imagenet")


def test_names_a_person_types(edit: Edit) -> None:
    """Protects the command line's suggestions for a wrong table, profile, cell or number of seeds."""
    for arguments, problem in (
        (("5b", "labtop"), "experiments/profiles: unknown profile 'labtop'; did you mean 'laptop'?"),
        (("5bb", "laptop"), "experiments/tables: unknown table 'table5bb'; did you mean 'table5b'?"),
        (("5b", "laptop", None, "simclear"), "table 5b: unknown cell 'simclear'; did you mean 'simclr'?"),
        (("5b", "laptop", 4), "SEEDS=4: table 5b declares 3 (experiments/tables/table5b.yaml:6)"),
        (("5b", "laptop", 0), "SEEDS=0: table 5b declares 3 (experiments/tables/table5b.yaml:6)"),
    ):
        with pytest.raises(ConfigError, match=f"^{re.escape(problem)}$"):
            expand(*arguments)


def test_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a person outside a checkout, or with a HARNESS_ROOT that is none, and finds one from a sub-folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_ROOT", raising=False)
    with pytest.raises(ConfigError, match="run in a checkout or set HARNESS_ROOT"):
        project_root()
    (tmp_path / "experiments" / "recipes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "experiments")
    assert project_root() == tmp_path.resolve()
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path / "elsewhere"))
    with pytest.raises(ConfigError, match="elsewhere holds no experiments/recipes"):
        project_root()
