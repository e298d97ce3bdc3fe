"""Contradictions between the values of a spec that each fit their own declaration."""

from __future__ import annotations

import json
import math
from typing import Any

from harness.config.datasets import DATASETS, RecordType
from harness.config.schema import Linear, Logistic, Objective, Optimizer, Pretrain, Schedule, View
from harness.config.structure import StructureError

WIDEST = 4  # Table 9's; wider ones are neither built nor priced


def check_pretrain(spec: Pretrain) -> None:
    """Raise StructureError with the key that is at odds with the rest."""
    if not 1 <= spec.model.width <= WIDEST:
        raise StructureError("model.width", f"must be 1 to {WIDEST}, not {spec.model.width}")
    _check_view(spec.data.views.first, "data.views.first")
    _check_view(spec.data.views.second, "data.views.second")
    if spec.objective.name == "supervised":
        _check_supervised(spec)
    else:
        _check_objective(spec)
        _check_target(spec.objective)
    _check_optimizer(spec.optimizer)
    _check_schedule(spec.schedule)


def _check_view(view: View, key: str) -> None:
    for name in ("flip", "jitter", "grayscale", "blur", "solarize"):
        within(getattr(view, name), 1.0, f"{key}.{name}")
    for name, limit in (("operations", 2), ("magnitude", 30)):
        within(getattr(view, name), limit, f"{key}.{name}")
    for name, most in (("crop_area", 1.0), ("blur_sigma", math.inf)):
        low, high = getattr(view, name)
        if not 0 < low <= high <= most:
            raise StructureError(f"{key}.{name}", f"must be a range above 0, not {low} to {high}")


def within(value: float, most: float, key: str) -> None:
    if not 0 <= value <= most:
        wanted = f"must lie between 0 and {most:g}" if math.isfinite(most) else "must be at least 0"
        raise StructureError(key, f"{wanted}, not {value}")


def _check_objective(spec: Pretrain) -> None:
    objective = spec.objective
    _check_heads(spec)
    within(objective.beta, math.inf, "objective.beta")
    if objective.beta > 0 and objective.temperature is None:
        raise StructureError("objective.beta", f"{objective.beta} needs an objective.temperature")
    if objective.beta == 0 and objective.temperature is not None:
        raise StructureError("objective.temperature", "has no effect where beta is 0; set it to null")
    if objective.temperature is not None and objective.temperature <= 0:
        raise StructureError("objective.temperature", f"must be above 0, not {objective.temperature}")
    if objective.beta == 0 and not objective.scaled:
        raise StructureError("objective.scaled", "has no effect where beta is 0; leave it out")
    if objective.beta > 0 and objective.normalization != "l2":
        raise StructureError("objective.normalization", "must be l2 where beta is not 0: negatives are cosines")
    if (objective.name == "align") != (objective.cross_model is not None):
        wanted = "is needed where" if objective.name == "align" else "has no effect unless"
        raise StructureError("objective.cross_model", f"{wanted} objective.name is align")
    if objective.name == "align" and (objective.beta > 0 or objective.normalization != "l2"):
        raise StructureError("objective.name", "align has neither negatives nor another normalization than l2")
    if objective.tangential and objective.target == "online":
        raise StructureError("objective.tangential", "needs a target that no gradient reaches")
    if objective.label_smoothing != 0:
        raise StructureError("objective.label_smoothing", "has no effect unless objective.name is supervised")


def _check_heads(spec: Pretrain) -> None:
    objective, model = spec.objective, spec.model
    for key, widths in (("model.projector", model.projector), ("model.predictor", model.predictor)):
        if widths is not None and (not widths or min(widths) < 1):
            raise StructureError(key, "must name the width of every layer, each at least 1")
    solved = objective.predictor_fit == "least_squares"
    if solved and not objective.predictor:
        raise StructureError("objective.predictor_fit", "has no effect where objective.predictor is false")
    if objective.predictor and not solved and model.predictor is None:
        raise StructureError("model.predictor", "is needed where objective.predictor is true")
    if model.predictor and model.predictor[-1] != model.projector[-1]:
        raise StructureError("model.predictor", "must end in the projector's width: the two are compared")
    if solved and spec.schedule.statistics_batch <= model.projector[-1]:
        problem = f"ends in {model.projector[-1]}; least squares on {spec.schedule.statistics_batch} images fits all"
        raise StructureError("model.projector", problem)
    if model.predictor_start == "identity" and model.predictor != model.projector[-1:]:
        raise StructureError("model.predictor_start", "identity is for a predictor of one square layer")
    _check_scale(spec)
    multiplier = spec.optimizer.predictor_multiplier
    if multiplier != 1.0 and (solved or not objective.predictor):
        raise StructureError("optimizer.predictor_multiplier", f"{multiplier} is on a predictor that is not learned")


# What training on labels has not, and how its absence is written.
_UNLABELLED: dict[str, Any] = {
    "model.projector": (),
    "model.predictor": None,
    "model.output_norm": False,
    "model.predictor_start": "random",
    "objective.predictor": False,
    "objective.target": None,
    "objective.tau_base": None,
    "objective.beta": 0.0,
    "objective.temperature": None,
    "objective.normalization": "l2",
    "objective.scaled": True,
    "objective.predictor_fit": "learned",
    "objective.tau_schedule": "cosine",
    "objective.cross_model": None,
    "objective.tangential": False,
    "optimizer.predictor_multiplier": 1.0,
    "optimizer.projector_multiplier": 1.0,
}


def _check_supervised(spec: Pretrain) -> None:
    for key, absent in _UNLABELLED.items():
        section, name = key.split(".")
        if getattr(getattr(spec, section), name) != absent:
            raise StructureError(key, f"has no part in supervised training; set it to {json.dumps(absent)}")
    if spec.data.views.second != spec.data.views.first:
        raise StructureError("data.views.second", "must be like data.views.first: supervised training sees one view")
    if DATASETS[spec.data.dataset].record != "class":
        raise StructureError("data.dataset", f"{spec.data.dataset} has no class for each image to supervise with")
    if not 0 <= spec.objective.label_smoothing < 1:
        problem = f"must be at least 0 and below 1, not {spec.objective.label_smoothing:g}"
        raise StructureError("objective.label_smoothing", problem)
    _check_scale(spec)


def _check_scale(spec: Pretrain) -> None:
    if spec.model.initial_scale <= 0:
        raise StructureError("model.initial_scale", f"must be above 0, not {spec.model.initial_scale}")


def _check_target(objective: Objective) -> None:
    if objective.target is None:
        raise StructureError("objective.target", "is needed unless objective.name is supervised")
    if objective.target != "ema":
        return
    if objective.tau_base is None:
        raise StructureError("objective.tau_base", "is needed where the target is ema")
    if objective.tau_base == 0:
        problem = "0 with the cosine schedule is no hard copy; set target: stop_gradient"
        raise StructureError("objective.tau_base", problem)
    if not 0 < objective.tau_base <= 1:
        raise StructureError("objective.tau_base", f"must lie between 0 and 1, not {objective.tau_base}")


def _check_optimizer(optimizer: Optimizer) -> None:
    for name, most in (
        ("base_lr", math.inf),
        ("weight_decay", math.inf),
        ("momentum", 1.0),
        ("predictor_multiplier", math.inf),
        ("projector_multiplier", math.inf),
    ):
        within(getattr(optimizer, name), most, f"optimizer.{name}")
    if optimizer.name == "adam" and optimizer.momentum == 1.0:
        raise StructureError("optimizer.momentum", "must be below 1 for adam, which divides by 1 - momentum")
    if optimizer.name == "sgd" and optimizer.momentum == 0:
        raise StructureError("optimizer.momentum", "must be above 0 for sgd, whose momentum is Nesterov's")
    if (optimizer.name == "lars") != (optimizer.trust is not None):
        raise StructureError("optimizer.trust", "is LARS's: a number there, and null for sgd and adam")


def _check_schedule(schedule: Schedule) -> None:
    for name in ("epochs", "update_batch", "statistics_batch"):
        if getattr(schedule, name) < 1:
            raise StructureError(f"schedule.{name}", f"must be at least 1, not {getattr(schedule, name)}")
    if schedule.statistics_batch < 2:
        raise StructureError("schedule.statistics_batch", "must be at least 2: one image has no batch statistics")
    if schedule.update_batch % schedule.statistics_batch:
        problem = f"{schedule.statistics_batch} does not divide the update batch of {schedule.update_batch}"
        raise StructureError("schedule.statistics_batch", problem)
    if not 0 <= schedule.warmup_epochs <= schedule.epochs:
        raise StructureError("schedule.warmup_epochs", f"must lie between 0 and the {schedule.epochs} epochs")


def check_linear(spec: Linear) -> None:
    """As check_pretrain, for an evaluation."""
    check_labelled(spec.data.dataset, "class")
    for name in ("epochs", "batch"):
        if getattr(spec, name) < 1:
            raise StructureError(name, f"must be at least 1, not {getattr(spec, name)}")
    if not spec.learning_rates:
        raise StructureError("learning_rates", "must name at least one")
    if spec.data.view is not None:
        _check_view(spec.data.view, "data.view")
    if spec.logit_clip is not None and spec.logit_clip <= 0:
        raise StructureError("logit_clip", f"must be above 0, not {spec.logit_clip}")
    within(spec.logit_penalty, math.inf, "logit_penalty")


def check_logistic(spec: Logistic) -> None:
    """Likewise."""
    check_labelled(spec.data.dataset)
    strengths = spec.strengths
    if strengths.count < 1:
        raise StructureError("strengths.count", f"must be at least 1, not {strengths.count}")
    if not 0 < strengths.low <= strengths.high:
        problem = f"must be above 0 and at most strengths.high, {strengths.high:g}; it is {strengths.low:g}"
        raise StructureError("strengths.low", problem)
    if (strengths.count == 1) != (strengths.low == strengths.high):
        problem = f"{strengths.count} do not go from {strengths.low:g} to {strengths.high:g}; low = high is for one"
        raise StructureError("strengths.count", problem)


_LACKING: dict[RecordType, str] = {
    "class": "no class",
    "mask": "no mask",
    "boxes": "no boxes",
    "depth": "no depths",
}


def check_labelled(dataset: str, wanted: RecordType | None = None) -> None:
    """An evaluation needs one kind of record for each image; without `wanted` a class, or a flag for each class."""
    record = DATASETS[dataset].record
    if record not in ((wanted,) if wanted else ("class", "labels")):
        lacking = _LACKING[wanted] if wanted else "neither a class nor flags of classes"
        raise StructureError("data.dataset", f"{dataset} has {lacking} for each image; it holds {record}")


def check_statistics(batch: int) -> None:
    if batch < 2:
        raise StructureError("batch", f"must be at least 2, not {batch}: one image has no batch statistics")
