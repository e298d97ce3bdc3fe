"""Costs that are said before a run starts, against counting on the models themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harness.config.datasets import DATASETS
from harness.config.errors import ConfigError
from harness.config.expand import expand
from harness.config.files import profile_names
from harness.config.schema import Depth, Detection, Linear, Pretrain, RandomEncoder, Segmentation
from harness.evaluation.depth import filters
from harness.launch.cost import (
    PASSES,
    REGIONS,
    Form,
    Scale,
    Speed,
    cost,
    costs,
    encoder_costs,
)
from harness.launch.machines import Machine
from harness.models.depth import DepthNetwork
from harness.models.detection import POOLED, FasterRCNN
from harness.models.flops import multiply_adds
from harness.models.networks import Classifier
from harness.models.resnet import ENCODERS, ResNet
from harness.models.segmentation import FCN
from harness.training.ranks import Ranks
from harness.training.state import build_state, build_supervised
from harness.training.step import Plan, group_loss

MACHINE = Machine(
    device="device",
    reported=("A Device",),
    peak_tflops={"float32": 1.0, "tf32": 8.0},
    assumed_precision="tf32",
    assumed_fraction=0.25,
)
SCALE = Scale(MACHINE)
IMAGES = 1297  # of train+valid


@pytest.mark.parametrize("name", encoder_costs())
def test_figures_are_what_counting_gives(name: str) -> None:
    """experiments/costs.yaml holds parameters, features and multiply-adds as the models have them."""
    figure = encoder_costs()[name]
    encoder, _, width = name.rpartition("_x")
    with torch.device("meta"):
        model = ResNet(encoder, int(width))
    assert figure.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert figure.features == model.features
    for size, count in figure.multiply_adds.items():
        assert count == multiply_adds(model, (1, 3, size, size)), f"at {size} px"


def test_every_encoder_is_counted() -> None:
    """At ImageNet's size or the laptop's two; the plain ones at every profile's, where imports are evaluated."""
    for encoder in ENCODERS:
        for width in range(1, 5):
            sizes = {"resnet_tiny": {16}, "resnet18": {96, 128, 224}}.get(encoder, {224})
            if width == 1:
                sizes = {16, 64} if encoder == "resnet_tiny" else {16, 96, 128, 224}
            assert set(encoder_costs()[f"{encoder}_x{width}"].multiply_adds) == sizes


def pretraining(cell: str) -> Pretrain:
    """A cell of Table 5b at the laptop profile."""
    subject = expand("5b", "laptop", seeds=1, cell=cell).members[0].subject
    assert isinstance(subject, Pretrain)
    return subject


@pytest.mark.parametrize("cell", ["byol", "nopred_ema_beta0", "pred_online_beta0", "nopred_online_beta0"])
def test_a_pretraining_costs_what_torch_counts(cell: str) -> None:
    """Torch's own counter over one real update agrees, but for the input gradient that a first layer never computes."""
    spec, images = pretraining(cell), 4
    ranks = Ranks.join(images, images)
    state, plan = build_state(spec, torch.device("cpu"), ranks), Plan(spec, IMAGES)
    view1, view2 = torch.randn(2, images, 3, 16, 16)
    with FlopCounterMode(display=False) as counter:
        group_loss(state, plan.spec, view1, view2, ranks)[0].backward()
    first = state.online.encoder.conv1.weight.numel() * 8 * 8  # multiply-adds of the first layer at 16 px, stride 2
    per_image = counter.get_total_flops() / images + 2 * 2 * first
    assert cost(spec, {}, SCALE).flops == pytest.approx(per_image * spec.schedule.epochs * IMAGES, rel=1e-12)


def test_training_on_labels_costs_what_torch_counts() -> None:
    """One view through encoder and classifier, counted as above; and its checkpoints have no target."""
    spec = expand("extras", "laptop", seeds=1, cell="supervised").members[0].subject
    assert isinstance(spec, Pretrain)
    state = build_supervised(spec, 10, torch.device("cpu"), Ranks.join(32, 32))
    with FlopCounterMode(display=False) as counter:
        state.network(torch.randn(4, 3, 16, 16)).sum().backward()
    first = state.network.encoder.conv1.weight.numel() * 8 * 8
    per_image = counter.get_total_flops() / 4 + 2 * first
    found = cost(spec, {}, SCALE)
    assert found.flops == pytest.approx(per_image * spec.schedule.epochs * IMAGES, rel=1e-12)
    weights = sum(parameter.numel() for parameter in state.parameters())
    encoder = sum(parameter.numel() for parameter in state.network.encoder.parameters())
    assert found.disk_bytes == pytest.approx(4 * (2 * 2 * weights + encoder), rel=0.1)


def test_a_linear_evaluation_costs_its_forward_passes() -> None:
    """One forward pass of each training image an epoch and of each scored image once; the heads are next to nothing."""
    member = expand("5b", "laptop", seeds=1, cell="byol").members[0]
    spec = member.evaluation
    forward = 2 * encoder_costs()["resnet_tiny_x1"].multiply_adds[16]
    heads = 2 * 5 * 64 * 10
    expected = spec.epochs * 1097 * (forward + 3 * heads) + 700 * (forward + heads)
    assert cost(spec, {spec.subject: member.subject}, SCALE).flops == pytest.approx(expected, rel=1e-12)
    untrained = RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=0)
    assert cost(spec, {spec.subject: untrained}, SCALE).flops == pytest.approx(expected, rel=1e-12)


def test_a_fine_tuning_costs_what_torch_counts() -> None:
    """Forward and backward of each image an epoch and one pass of each held-out one; the choice tests 500 once."""
    member = expand("2a", "laptop", seeds=1, cell="byol_10pct").members[0]
    network = Classifier(ResNet("resnet_tiny", 1, "batch"), 10)
    with FlopCounterMode(display=False) as forward:
        network(torch.zeros(1, 3, 16, 16))
    with FlopCounterMode(display=False) as both:
        network(torch.zeros(1, 3, 16, 16)).sum().backward()
    first = network.encoder.conv1.weight.numel() * 8 * 8
    once, trained = forward.get_total_flops(), both.get_total_flops() + 2 * first
    candidate, subjects = member.candidates[0], {member.subject_key: member.subject}
    found = cost(candidate, subjects, SCALE)
    assert found.flops == pytest.approx(candidate.epochs * 110 * trained + 200 * once, rel=1e-12)
    weights = sum(parameter.numel() for parameter in network.parameters())
    assert found.disk_bytes == pytest.approx(5 * 4 * weights, rel=1e-3), "all but the classifier's bias"
    assert cost(member.evaluation, subjects, SCALE).flops == pytest.approx(500 * once, rel=1e-12)


def test_a_regression_costs_a_pass_and_its_fits() -> None:
    """Each image is seen once; the rest is products of features with weights and with gradients, counted apart."""
    member = expand("3", "laptop", cell="linear_byol_pets").members[0]
    found = cost(member.evaluation, {member.subject_key: member.subject}, SCALE)
    passes = 200 * 2 * encoder_costs()["resnet_tiny_x1"].multiply_adds[64]
    fits = PASSES * (45 * 120 + 150) * (2 * 64 * 5) * 2
    assert found.flops == pytest.approx(passes + fits, rel=1e-12)
    assert found.form == Form("logistic", "resnet_tiny_x1", 64)
    assert found.disk_bytes == 200 * 64 * 4, "the features"


def test_a_choice_that_trains_again_costs_one_more_training() -> None:
    """As many updates as a candidate of steps makes, on whatever images; and the test images once."""
    member = expand("3", "laptop", cell="finetune_random_voc2007").members[0]
    others = member.specs
    (one, *_), chosen = member.candidates, cost(member.evaluation, others, SCALE)
    candidate = cost(one, others, SCALE)
    seen = one.steps * one.batch
    forward = candidate.flops / (3 * seen + 30)
    assert chosen.flops == pytest.approx(forward * (3 * seen + 50), rel=1e-12)
    assert chosen.disk_bytes == candidate.disk_bytes > 0, "neither keeps its network"
    longer = replace(one, epochs=10, steps=None)
    evaluation = replace(member.evaluation, candidates=("longer", *member.evaluation.candidates))
    again = cost(evaluation, {**others, "longer": longer}, SCALE)
    assert again.flops == pytest.approx(forward * (3 * 10 * 150 + 50), rel=1e-12)


def test_lists_of_labels_are_as_long_as_they_say() -> None:
    """SimCLR's two lists have 12,811 and 128,116 images; ours are shares of what is not held out."""
    facts = DATASETS["imagenet"]
    assert (facts.images("simclr-1"), facts.images("simclr-10")) == (12_811, 128_116)
    assert facts.images("balanced-10") == 127_116


def test_device_time_follows_the_machine() -> None:
    """A quarter of 8 TFLOP/s for an hour is 7.2e15 operations."""
    found = cost(pretraining("byol"), {}, SCALE)
    assert found.device_hours == pytest.approx(found.flops / 7.2e15, rel=1e-12)


def test_what_was_measured_goes_before_what_is_assumed() -> None:
    """Of runs of the same kind, encoder and size alone."""
    spec = pretraining("byol")
    form = Form("pretrain", "resnet_tiny_x1", 16)
    assumed = cost(spec, {}, SCALE)
    assert assumed.form == form
    measured = cost(spec, {}, Scale(MACHINE, {form: Speed(4.0, 3)}))
    assert measured == replace(assumed, device_hours=pytest.approx(assumed.device_hours / 2, rel=1e-12))
    for other in (form._replace(kind="linear"), form._replace(encoder="resnet_tiny_x2"), form._replace(image_size=32)):
        assert cost(spec, {}, Scale(MACHINE, {other: Speed(4.0, 3)})) == assumed


def test_disk_holds_two_checkpoints_and_the_encoder() -> None:
    """Within a tenth of what a run of this spec really writes: parameters, momentum and target, twice."""
    spec = pretraining("byol")
    state = build_state(spec, torch.device("cpu"), Ranks.join(128, 128))
    online = sum(parameter.numel() for parameter in state.parameters())
    target = sum(parameter.numel() for parameter in state.target.parameters())
    encoder = sum(parameter.numel() for parameter in state.online.encoder.parameters())
    assert cost(spec, {}, SCALE).disk_bytes == pytest.approx(4 * (2 * (2 * online + target) + encoder), rel=0.1)


def test_an_encoder_nobody_counted_is_named() -> None:
    """The message says what to add, and where."""
    spec = pretraining("byol")
    unknown = replace(spec, model=replace(spec.model, width=5))
    with pytest.raises(ConfigError, match=r"costs\.yaml: has no cost of resnet_tiny_x5 at 16 px"):
        cost(unknown, {}, SCALE)
    evaluation: Linear = expand("5b", "laptop", seeds=1, cell="byol").members[0].evaluation
    odd = replace(evaluation, data=replace(evaluation.data, image_size=17))
    with pytest.raises(ConfigError, match="at 17 px"):
        cost(odd, {odd.subject: spec}, SCALE)


class _Maps(nn.Module):
    """What a detector does with an image before it looks at regions."""

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        encoder = self.network.encoder
        self.network.proposals.head([encoder.maps(x, encoder.stages[:-1])])
        return x


class _Region(_Maps):
    """What it does with one, of 14 x 14 positions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.network.regions.box_predictor(self.network.regions.box_head(x))
        return x


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, known in costs().scenes.items() for name in known])
def test_figures_of_scenes_are_what_counting_gives(kind: str, name: str) -> None:
    """Likewise, of the networks of segmentation, detection and depth, with the paper's 20 classes and anchors."""
    figure, (encoder, _, width) = costs().scenes[kind][name], name.rpartition("_x")
    with torch.device("meta"):
        body = ResNet(encoder, int(width))
        if kind == "segmentation":
            model: nn.Module = FCN(body, 21)
        elif kind == "depth":
            model = DepthNetwork(body, filters(body))
        else:
            model = FasterRCNN(body, 20)
    assert figure.parameters == sum(parameter.numel() for parameter in model.parameters())
    seen = _Maps(model) if isinstance(model, FasterRCNN) else model
    for size, count in figure.multiply_adds.items():
        height, width_px = (int(side) for side in size.split("x"))
        padded = [-(-side // body.stride) * body.stride for side in (height, width_px)]
        shape = padded if kind == "detection" else [height, width_px]
        assert count == multiply_adds(seen, (1, 3, *shape)), f"at {size} px"
    if isinstance(model, FasterRCNN):
        channels = body.get_parameter(f"{body.stages[-1]}.0.conv1.weight").shape[1]
        assert figure.region == multiply_adds(_Region(model), (1, channels, POOLED, POOLED))
        assert model.eval().proposals.post_nms_top_n() == REGIONS


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("table", ["4a", "4b", "detection"])
def test_every_profile_has_a_price(table: str, profile: str) -> None:
    """Protects `plan`: the sizes at which each profile trains on scenes have been counted."""
    for member in expand(table, profile, 1).members:
        for key, spec in member.specs.items():
            assert cost(spec, member.specs, SCALE).flops > 0, key


def test_segmentations_cost_what_they_train_and_score() -> None:
    """Three passes for each image of an update, one for each that is scored: held out for candidates, then the test."""
    member = expand("4a", "laptop", 1, "byol_segmentation").members[0]
    one = member.candidates[0]
    assert isinstance(one, Segmentation)
    figure = costs().scenes["segmentation"]["resnet_tiny_x1"]
    pass_flops = 2 * figure.multiply_adds[f"{one.crop}x{one.crop}"]
    found = cost(one, member.specs, SCALE)
    assert found.flops == pytest.approx(pass_flops * (3 * one.steps * one.batch + 30), rel=1e-12)
    assert found.form == Form("segmentation", "resnet_tiny_x1", one.crop)
    chosen = cost(member.evaluation, member.specs, SCALE)
    assert chosen.flops == pytest.approx(pass_flops * (3 * one.steps * one.batch + 50), rel=1e-12)
    assert chosen.form == Form("choice", "resnet_tiny_x1", one.crop)
    assert chosen.disk_bytes == found.disk_bytes == 4 * 4 * figure.parameters


def test_depths_cost_what_they_train_and_score() -> None:
    """Likewise, of what is trained once and tested."""
    member = expand("4b", "laptop", 1, "byol").members[0]
    spec = member.evaluation
    assert isinstance(spec, Depth)
    height, width = spec.crop
    forward = 2 * costs().scenes["depth"]["resnet_tiny_x1"].multiply_adds[f"{height}x{width}"]
    expected = forward * (3 * spec.steps * spec.batch + 10)
    assert cost(spec, member.specs, SCALE).flops == pytest.approx(expected, rel=1e-12)


def test_detections_cost_their_regions() -> None:
    """Images as large as the mean over a range, by brute force, and the regions that the box head sees of each."""
    member = expand("4a", "laptop", 1, "byol_detection").members[0]
    spec = member.evaluation
    assert isinstance(spec, Detection)
    figure = costs().scenes["detection"]["resnet_tiny_x1"]
    maps = figure.multiply_adds[f"{3 * spec.test_edge // 4}x{spec.test_edge}"]
    edges = [spec.edges[0] + (spec.edges[1] - spec.edges[0]) * (i + 0.5) / 10_000 for i in range(10_000)]
    area = sum((edge / spec.test_edge) ** 2 for edge in edges) / len(edges)
    trained, tested = 3 * (maps * area + spec.samples * figure.region), maps + 1000 * figure.region
    expected = 2 * (spec.steps * spec.batch * trained + 50 * tested)
    assert cost(spec, member.specs, SCALE).flops == pytest.approx(expected, rel=1e-6)
    frozen = cost(replace(spec, frozen=True), member.specs, SCALE).flops
    assert expected - frozen == pytest.approx(2 * spec.steps * spec.batch * 2 * maps * area, rel=1e-6)


def test_a_size_that_nobody_counted() -> None:
    """Protects from a plan that leaves out what it cannot price."""
    member = expand("4b", "laptop", 1, "byol").members[0]
    spec = replace(member.evaluation, crop=(60, 60))
    with pytest.raises(ConfigError, match=r"costs\.yaml: has no cost of depth by resnet_tiny_x1 at 60x60 px"):
        cost(spec, member.specs, SCALE)
