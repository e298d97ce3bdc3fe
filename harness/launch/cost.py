"""What a run costs, before it is started: floating-point operations from data, device time from a profile's figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from harness.config.datasets import DATASETS
from harness.config.document import read_yaml, shown
from harness.config.errors import ConfigError
from harness.config.files import Machine, project_root, read_as
from harness.config.schema import Linear, Pretrain, Spec, Subject

PARAMETER_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class EncoderCost:
    """Of one encoder: parameters, features, and multiply-adds of one forward pass of one image at a size."""

    parameters: int
    features: int
    multiply_adds: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class EncoderCosts:
    encoders: dict[str, EncoderCost]


@dataclass(frozen=True)
class Scale:
    """The machine that a profile reckons with."""

    machine: Machine


@dataclass(frozen=True)
class Cost:
    """Of one run. device_hours on the profile's machine; disk while it runs: two checkpoints and the encoder."""

    flops: float
    device_hours: float
    disk_bytes: int


@cache
def encoder_costs() -> dict[str, EncoderCost]:
    """experiments/costs.yaml, which a test holds against counting."""
    return read_as(EncoderCosts, read_yaml(project_root() / "experiments" / "costs.yaml")).encoders


def cost(spec: Spec, subjects: Mapping[str, Subject], scale: Scale) -> Cost:
    if isinstance(spec, Pretrain):
        return _pretrain(spec, scale)
    assert isinstance(spec, Linear), "a random encoder is no run"
    return _linear(spec, subjects[spec.subject], scale)


def _encoder(encoder: str, width: int, size: int) -> tuple[EncoderCost, int]:
    name = f"{encoder}_x{width}"
    where = shown(project_root() / "experiments" / "costs.yaml")
    known = encoder_costs()
    if name not in known or size not in known[name].multiply_adds:
        raise ConfigError(f"{where}: has no cost of {name} at {size} px; count it with harness.models.flops")
    return known[name], known[name].multiply_adds[size]


def _mlp(widths: tuple[int, ...]) -> int:
    return sum(a * b for a, b in pairwise(widths))


def _pretrain(spec: Pretrain, scale: Scale) -> Cost:
    """Two views, each forward and backward (two forwards) through online, and forward through a target of its own."""
    encoder, forward = _encoder(spec.model.encoder, spec.model.width, spec.data.image_size)
    projector = _mlp((encoder.features, *spec.model.projector))
    head = _mlp((spec.model.projector[-1], *spec.model.predictor)) if spec.model.predictor else 0
    own_target = spec.objective.target in ("ema", "constant")
    per_image = 2 * (3 * (forward + projector + head) + (forward + projector) * own_target)
    images = spec.schedule.epochs * DATASETS[spec.data.dataset].images(spec.data.split)
    online = encoder.parameters + projector + head
    # a checkpoint: online, momentum, and the target where it has parameters of its own
    checkpoint = 2 * online + (encoder.parameters + projector) * own_target
    disk = PARAMETER_BYTES * (2 * checkpoint + encoder.parameters)
    return _cost(2.0 * per_image * images, disk, scale)


def _linear(spec: Linear, subject: Subject, scale: Scale) -> Cost:
    """One forward pass an image and epoch; the heads' own cost is thousands of times smaller."""
    model = subject.model if isinstance(subject, Pretrain) else subject
    encoder, forward = _encoder(model.encoder, model.width, spec.data.image_size)
    facts = DATASETS[spec.data.dataset]
    heads = len(spec.learning_rates) * encoder.features * facts.classes
    trained = spec.epochs * facts.images(spec.data.train)
    scored = facts.images(spec.data.select) + facts.images(spec.data.test)
    flops = 2.0 * (trained * (forward + 3 * heads) + scored * (forward + heads))
    return _cost(flops, PARAMETER_BYTES * 4 * heads, scale)


def _cost(flops: float, disk: int, scale: Scale) -> Cost:
    return Cost(flops, flops / (scale.machine.sustained_tflops * 1e12) / 3600, disk)
