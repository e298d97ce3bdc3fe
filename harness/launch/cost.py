"""What a run costs, before it is started: floating-point operations from data, device time from a machine's speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from harness.config.datasets import DATASETS
from harness.config.document import read_yaml, shown
from harness.config.errors import ConfigError
from harness.config.files import project_root, read_as
from harness.config.schema import Choice, Finetune, Linear, Pretrain, Spec, Subject
from harness.launch.machines import Machine

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


class Form(NamedTuple):
    """What runs of one speed have in common. `encoder` with its width: `resnet50_x1`."""

    kind: str
    encoder: str
    image_size: int


@dataclass(frozen=True)
class Work:
    """What a run computes, whatever the machine; disk while it runs: two checkpoints and the encoder."""

    form: Form
    flops: float
    disk_bytes: int


@dataclass(frozen=True)
class Speed:
    """Sustained on one device; `runs` is on how many it was measured, 0 where it is assumed."""

    tflops: float
    runs: int


@dataclass(frozen=True)
class Scale:
    """The machine that a plan reckons with, and how fast the forms of run that have finished on it went."""

    machine: Machine
    measured: Mapping[Form, Speed] = field(default_factory=dict)

    def speed(self, form: Form) -> Speed:
        return self.measured.get(form) or Speed(self.machine.assumed_tflops, 0)


@dataclass(frozen=True)
class Cost:
    """Of one run: its work, and the hours that one device of the plan's machine takes for it."""

    form: Form
    flops: float
    device_hours: float
    disk_bytes: int


@cache
def encoder_costs() -> dict[str, EncoderCost]:
    """experiments/costs.yaml, which a test holds against counting."""
    return read_as(EncoderCosts, read_yaml(project_root() / "experiments" / "costs.yaml")).encoders


def cost(spec: Spec, subjects: Mapping[str, Subject], scale: Scale) -> Cost:
    done = work(spec, subjects)
    per_hour = scale.speed(done.form).tflops * 1e12 * 3600
    return Cost(done.form, done.flops, done.flops / per_hour, done.disk_bytes)


def work(spec: Spec, subjects: Mapping[str, Subject]) -> Work:
    if isinstance(spec, Pretrain):
        return _pretrain(spec)
    assert isinstance(spec, Linear | Finetune | Choice), "a random encoder is no run"
    subject = subjects[spec.subject]
    return _linear(spec, subject) if isinstance(spec, Linear) else _finetune(spec, subject)


def _encoder(form: Form) -> tuple[EncoderCost, int]:
    name, size = form.encoder, form.image_size
    where = shown(project_root() / "experiments" / "costs.yaml")
    known = encoder_costs()
    if name not in known or size not in known[name].multiply_adds:
        raise ConfigError(f"{where}: has no cost of {name} at {size} px; count it with harness.models.flops")
    return known[name], known[name].multiply_adds[size]


def _mlp(widths: tuple[int, ...]) -> int:
    return sum(a * b for a, b in pairwise(widths))


def _pretrain(spec: Pretrain) -> Work:
    """Two views, each forward and backward (two forwards) through online, and forward through a target of its own.

    Supervised, it is one view, through encoder and classifier.
    """
    form = Form(spec.kind, f"{spec.model.encoder}_x{spec.model.width}", spec.data.image_size)
    encoder, forward = _encoder(form)
    projector = _mlp((encoder.features, *spec.model.projector))
    head = _mlp((spec.model.projector[-1], *spec.model.predictor)) if spec.model.predictor else 0
    views = 2
    if spec.objective.name == "supervised":
        views, head = 1, encoder.features * DATASETS[spec.data.dataset].classes
    own_target = spec.objective.target in ("ema", "constant")
    per_image = views * (3 * (forward + projector + head) + (forward + projector) * own_target)
    images = spec.schedule.epochs * DATASETS[spec.data.dataset].images(spec.data.split)
    online = encoder.parameters + projector + head
    # a checkpoint: online, momentum, and the target where it has parameters of its own
    checkpoint = 2 * online + (encoder.parameters + projector) * own_target
    disk = PARAMETER_BYTES * (2 * checkpoint + encoder.parameters)
    return Work(form, 2.0 * per_image * images, disk)


def _evaluated(spec: Linear | Finetune | Choice, subject: Subject) -> Form:
    model = subject.model if isinstance(subject, Pretrain) else subject
    return Form(spec.kind, f"{model.encoder}_x{model.width}", spec.data.image_size)


def _finetune(spec: Finetune | Choice, subject: Subject) -> Work:
    """Three forward passes an image and epoch (one of them forward), and one an image that is scored.

    On disk, two checkpoints of network and momentum, and the network.
    """
    form = _evaluated(spec, subject)
    encoder, forward = _encoder(form)
    facts = DATASETS[spec.data.dataset]
    head = encoder.features * facts.classes
    if isinstance(spec, Choice):
        return Work(form, 2.0 * facts.images(spec.data.test) * (forward + head), 0)
    trained = (spec.steps or 0) * spec.batch if spec.epochs is None else spec.epochs * facts.images(spec.data.train)
    images = 3 * trained + facts.images(spec.data.select)
    return Work(form, 2.0 * images * (forward + head), PARAMETER_BYTES * 5 * (encoder.parameters + head))


def _linear(spec: Linear, subject: Subject) -> Work:
    """One forward pass an image and epoch; the heads' own cost is thousands of times smaller."""
    form = _evaluated(spec, subject)
    encoder, forward = _encoder(form)
    facts = DATASETS[spec.data.dataset]
    heads = len(spec.learning_rates) * encoder.features * facts.classes
    trained = spec.epochs * facts.images(spec.data.train)
    scored = facts.images(spec.data.select) + facts.images(spec.data.test)
    flops = 2.0 * (trained * (forward + 3 * heads) + scored * (forward + heads))
    return Work(form, flops, PARAMETER_BYTES * 4 * heads)
