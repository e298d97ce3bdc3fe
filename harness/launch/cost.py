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
from harness.config.schema import (
    Choice,
    Depth,
    Detection,
    Evaluation,
    Finetune,
    FinetuneData,
    Linear,
    Logistic,
    Pretrain,
    Segmentation,
    Spec,
    Subject,
)
from harness.launch.machines import Machine

PARAMETER_BYTES = 4
PASSES = 20  # over the features that a fit takes; an assumption, the forward passes cost more
REGIONS = 1000  # of an image that a detector's box head sees in the test


@dataclass(frozen=True, kw_only=True)
class EncoderCost:
    """Of one encoder: parameters, features, and multiply-adds of one forward pass of one image at a size."""

    parameters: int
    features: int
    multiply_adds: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class SceneCost:
    """Of one network on an encoder: parameters, and multiply-adds of one forward pass of one image of `HxW` pixels.

    region: of what a detector does with one region of it; the others are then of what it does before.
    """

    parameters: int
    multiply_adds: dict[str, int]
    region: int = 0


@dataclass(frozen=True, kw_only=True)
class Costs:
    """scenes: by kind of run and encoder."""

    encoders: dict[str, EncoderCost]
    scenes: dict[str, dict[str, SceneCost]]


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
def costs() -> Costs:
    """experiments/costs.yaml, which a test holds against counting."""
    return read_as(Costs, read_yaml(project_root() / "experiments" / "costs.yaml"))


def encoder_costs() -> dict[str, EncoderCost]:
    return costs().encoders


def cost(spec: Spec, others: Mapping[str, Spec], scale: Scale) -> Cost:
    """`others` has the subject of an evaluation, and of a choice that trains once more its candidates."""
    done = work(spec, others)
    per_hour = scale.speed(done.form).tflops * 1e12 * 3600
    return Cost(done.form, done.flops, done.flops / per_hour, done.disk_bytes)


def work(spec: Spec, others: Mapping[str, Spec]) -> Work:
    if isinstance(spec, Pretrain):
        return _pretrain(spec)
    assert isinstance(spec, Evaluation), "a random encoder is no run"
    subject = others[spec.subject]
    assert isinstance(subject, Subject), "an evaluation is of an encoder"
    if isinstance(spec, Linear):
        return _linear(spec, subject)
    if isinstance(spec, Logistic):
        return _logistic(spec, subject)
    if isinstance(spec, Finetune):
        return _finetune(spec, subject)
    if isinstance(spec, Choice):
        return _choice(spec, subject, others)
    return _detection(spec, subject) if isinstance(spec, Detection) else _scenes(spec, subject)


def _encoder(form: Form) -> tuple[EncoderCost, int]:
    name, size = form.encoder, form.image_size
    known = encoder_costs()
    if name not in known or size not in known[name].multiply_adds:
        raise _uncounted(f"{name} at {size} px")
    return known[name], known[name].multiply_adds[size]


def _network(kind: str, encoder: str, height: int, width: int) -> tuple[SceneCost, int]:
    size = f"{height}x{width}"
    known = costs().scenes.get(kind, {}).get(encoder)
    if known is None or size not in known.multiply_adds:
        raise _uncounted(f"{kind} by {encoder} at {size} px")
    return known, known.multiply_adds[size]


def _uncounted(what: str) -> ConfigError:
    where = shown(project_root() / "experiments" / "costs.yaml")
    return ConfigError(f"{where}: has no cost of {what}; count it with harness.models.flops")


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


def _evaluated(spec: Evaluation, subject: Subject, image_size: int) -> Form:
    model = subject.model if isinstance(subject, Pretrain) else subject
    return Form(spec.kind, f"{model.encoder}_x{model.width}", image_size)


def _finetune(spec: Finetune, subject: Subject) -> Work:
    """Three forward passes an image and epoch (one of them forward), and one an image that is scored.

    On disk, two checkpoints of network and momentum, and the network where a choice tests it: not of one of steps.
    """
    form = _evaluated(spec, subject, spec.data.image_size)
    encoder, forward = _encoder(form)
    facts = DATASETS[spec.data.dataset]
    head = encoder.features * facts.classes
    networks = 5 if spec.steps is None else 4
    images = 3 * _trained(spec, spec.data.train) + facts.images(spec.data.select)
    return Work(form, 2.0 * images * (forward + head), PARAMETER_BYTES * networks * (encoder.parameters + head))


def _choice(spec: Choice, subject: Subject, others: Mapping[str, Spec]) -> Work:
    """One forward pass a test image; and where it trains once more, as much as its longest candidate would there."""
    tried = [others[key] for key in spec.candidates] if spec.retrain else []
    segmented = next((one for one in tried if isinstance(one, Segmentation)), None)
    if segmented is not None:
        return _scenes(segmented, subject, spec)
    assert isinstance(spec.data, FinetuneData), "a choice is among fine-tunings or segmentations"
    form = _evaluated(spec, subject, spec.data.image_size)
    encoder, forward = _encoder(form)
    facts = DATASETS[spec.data.dataset]
    head = encoder.features * facts.classes
    images, disk = facts.images(spec.data.test), 0
    if spec.retrain is not None:
        images += 3 * max(_trained(one, spec.retrain) for one in tried if isinstance(one, Finetune))
        disk = PARAMETER_BYTES * 4 * (encoder.parameters + head)
    return Work(form, 2.0 * images * (forward + head), disk)


def _trained(spec: Finetune, split: str) -> int:
    """How many images a fine-tuning on these sees, each as often as it does."""
    if spec.epochs is None:
        return (spec.steps or 0) * spec.batch
    return spec.epochs * DATASETS[spec.data.dataset].images(split)


def _scenes(spec: Segmentation | Depth, subject: Subject, choice: Choice | None = None) -> Work:
    """Three forward passes an image and update (one of them forward), and one an image that is scored: of those that
    choose for a candidate, else of the test. `choice` trains as its candidate `spec` does.

    On disk, two checkpoints of network and momentum.
    """
    height, width = (spec.crop, spec.crop) if isinstance(spec, Segmentation) else spec.crop
    form = _evaluated(choice or spec, subject, max(height, width))
    network, forward = _network(spec.kind, form.encoder, height, width)
    candidate = isinstance(spec, Segmentation) and choice is None
    images = 3 * spec.steps * spec.batch
    images += DATASETS[spec.data.dataset].images(spec.data.select if candidate else spec.data.test)
    return Work(form, 2.0 * images * forward, PARAMETER_BYTES * 4 * network.parameters)


def _detection(spec: Detection, subject: Subject) -> Work:
    """As many passes, of images and of their regions; frozen, one of images alone (the proposals' own are next to it
    nothing). Images are taken to be 4 to 3, and training ones as large as their mean over the range of edges.
    """
    edge = spec.test_edge
    form = _evaluated(spec, subject, edge)
    network, forward = _network(spec.kind, form.encoder, 3 * edge // 4, edge)
    low, high = spec.edges
    larger = (low * low + low * high + high * high) / 3 / edge**2
    trained = (1 if spec.frozen else 3) * forward * larger + 3 * spec.samples * network.region
    tested = forward + REGIONS * network.region
    seen = spec.steps * spec.batch * trained + DATASETS[spec.data.dataset].images(spec.data.test) * tested
    return Work(form, 2.0 * seen, PARAMETER_BYTES * 4 * network.parameters)


def _logistic(spec: Logistic, subject: Subject) -> Work:
    """One forward pass an image. Each of PASSES multiplies features with weights and with the gradient of logits, for
    every lambda on the training images; for one, on these and those that choose. On disk, the features.
    """
    form = _evaluated(spec, subject, spec.data.image_size)
    encoder, forward = _encoder(form)
    data, facts = spec.data, DATASETS[spec.data.dataset]
    train, select, test = (facts.images(split) for split in (data.train, data.select, data.test))
    seen = spec.strengths.count * train + train + select
    head = encoder.features * facts.classes
    images = train + select + test
    return Work(form, 2.0 * (images * forward + 2 * PASSES * seen * head), PARAMETER_BYTES * images * encoder.features)


def _linear(spec: Linear, subject: Subject) -> Work:
    """One forward pass an image and epoch; the heads' own cost is thousands of times smaller."""
    form = _evaluated(spec, subject, spec.data.image_size)
    encoder, forward = _encoder(form)
    facts = DATASETS[spec.data.dataset]
    heads = len(spec.learning_rates) * encoder.features * facts.classes
    trained = spec.epochs * facts.images(spec.data.train)
    scored = facts.images(spec.data.select) + facts.images(spec.data.test)
    flops = 2.0 * (trained * (forward + 3 * heads) + scored * (forward + heads))
    return Work(form, flops, PARAMETER_BYTES * 4 * heads)
