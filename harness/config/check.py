"""Contradictions between the values of a spec that each fit their own declaration."""

from __future__ import annotations

from harness.config.schema import Linear, Objective, Pretrain, Schedule
from harness.config.structure import StructureError


def check_pretrain(spec: Pretrain) -> None:
    """Raise StructureError with the key that is at odds with the rest."""
    _check_objective(spec)
    _check_target(spec.objective)
    _check_schedule(spec.schedule)


def _check_objective(spec: Pretrain) -> None:
    objective, model = spec.objective, spec.model
    if objective.beta > 0 and objective.temperature is None:
        raise StructureError("objective.temperature", f"is needed where beta is {objective.beta}")
    if objective.beta == 0 and objective.temperature is not None:
        raise StructureError("objective.temperature", "has no effect where beta is 0; set it to null")
    if objective.temperature is not None and objective.temperature <= 0:
        raise StructureError("objective.temperature", f"must be above 0, not {objective.temperature}")
    if objective.predictor and model.predictor is None:
        raise StructureError("model.predictor", "is needed where objective.predictor is true")
    if model.predictor and model.predictor[-1] != model.projector[-1]:
        raise StructureError("model.predictor", "must end in the projector's width: the two are compared")


def _check_target(objective: Objective) -> None:
    if objective.target != "ema":
        return
    if objective.tau_base is None:
        raise StructureError("objective.tau_base", "is needed where the target is ema")
    if objective.tau_base == 0:
        problem = "0 with the cosine schedule is no hard copy; set target: stop_gradient"
        raise StructureError("objective.tau_base", problem)
    if not 0 < objective.tau_base <= 1:
        raise StructureError("objective.tau_base", f"must lie between 0 and 1, not {objective.tau_base}")


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
    for name in ("epochs", "batch"):
        if getattr(spec, name) < 1:
            raise StructureError(name, f"must be at least 1, not {getattr(spec, name)}")
    if not spec.learning_rates:
        raise StructureError("learning_rates", "must name at least one")
