"""Faster R-CNN on our encoders: its weights, what trains, in which pixels its boxes are, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.ops import box_iou

from harness.models.detection import FasterRCNN
from harness.models.norm import norms
from harness.models.resnet import ResNet

SIZES = (8, 16, 32)  # anchors for images of 64 pixels


def tiny(**options: bool) -> FasterRCNN:
    """Three classes, regions enough for images of 64 pixels."""
    return FasterRCNN(ResNet("resnet_tiny"), 3, anchors=SIZES, sampled=32, **options)


def sample() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Two images of different shapes: one with two objects, the other with none.

    Their colours run from edge to edge, so that a part of one does not look like the whole.
    """
    boxes = torch.tensor([[6, 10, 30, 42], [34, 4, 58, 20]])
    image = torch.zeros(3, 48, 64)
    for sign, (left, top, right, bottom) in zip((-2, 2), boxes.tolist(), strict=True):
        across, down = torch.linspace(-2, 2, right - left), torch.linspace(-2, 2, bottom - top)
        image[0, top:bottom, left:right] = across
        image[1, top:bottom, left:right] = down[:, None]
        image[2, top:bottom, left:right] = sign
    return [image, torch.zeros(3, 40, 32)], [boxes, boxes[:0]], [torch.tensor([2, 0]), torch.zeros(0).long()]


def test_r50_c4() -> None:
    """Stride 16 through conv4, 15 anchors at a position, 14 x 14 positions of a region into conv5, 2048 features."""
    with torch.device("meta"):
        net = FasterRCNN(ResNet("resnet50"), 20)
        assert net.encoder.maps(torch.empty(1, 3, 480, 640), net.encoder.stages[:-1]).shape == (1, 1024, 30, 40)
        assert net._box_head(torch.empty(7, 1024, 14, 14)).shape == (7, 2048)
    assert net.proposals.anchor_generator.num_anchors_per_location() == [15]
    assert net.regions.box_predictor.cls_score.weight.shape == (21, 2048)
    proposals = 9 * 1024 * 1024 + 1024 + 5 * 15 * (1024 + 1)
    predictor = 5 * 21 * (2048 + 1)
    total = sum(p.numel() for p in net.parameters())
    assert total == 23_508_032 + proposals + predictor == 33_238_260


def test_every_other_choice_is_torchvisions() -> None:
    """The reference Faster R-CNN's thresholds, samples and box weights; numbers of proposals are Detectron2's."""
    with torch.device("meta"):
        ours, theirs = FasterRCNN(ResNet("resnet50"), 90), fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    for mine, reference in ((ours.proposals, theirs.rpn), (ours.regions, theirs.roi_heads)):
        for part in ("proposal_matcher", "fg_bg_sampler", "box_coder"):
            assert vars(getattr(mine, part)) == vars(getattr(reference, part))
        assert mine.nms_thresh == reference.nms_thresh
    for name in ("score_thresh", "detections_per_img"):
        assert getattr(ours.regions, name) == getattr(theirs.roi_heads, name)
    assert ours.proposals._post_nms_top_n == {"training": 2_000, "testing": 1_000}


def test_the_box_head_is_the_encoders_last_stage() -> None:
    """On a region's positions it computes what the encoder does, with its weights; they stand once in the state."""
    net = tiny().eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(net._box_head(net.encoder.maps(x, ["layer1", "layer2"])), net.encoder(x))
    assert {name.split(".")[0] for name in net.state_dict()} == {"encoder", "proposals", "regions"}
    own = [f"encoder.{name}" for name in net.encoder.state_dict()]
    assert [name for name in net.state_dict() if "layer3" in name] == [name for name in own if "layer3" in name]


@pytest.mark.parametrize("frozen", [False, True])
def test_what_trains(frozen: bool) -> None:
    """Everything; or, on a frozen representation, the last stage and the new layers, and nothing before them."""
    torch.manual_seed(0)
    net = tiny(frozen=frozen).train()
    images, boxes, classes = sample()
    losses = net.losses(images, [64, 48], boxes, classes)
    assert sorted(losses) == ["loss_box_reg", "loss_classifier", "loss_objectness", "loss_rpn_box_reg"]
    sum(losses.values(), torch.zeros(())).backward()
    moved = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    before = {
        name
        for name, _ in net.named_parameters()
        if name.startswith("encoder.") and not name.startswith("encoder.layer3")
    }
    assert {name for name, _ in net.named_parameters()} - moved == (before if frozen else set())
    assert len(before) == 18


def test_batch_norms_keep_their_statistics() -> None:
    """Train mode leaves them in evaluation mode: no statistics of these few images, in the output or in the buffers."""
    net = tiny().train()
    assert net.training
    assert net.proposals.training
    assert not any(norm.training for norm in norms(net))
    images, boxes, classes = sample()
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net.losses(images, [64, 40], boxes, classes)
    assert all(norm.pending is None for norm in norms(net))
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in net.named_buffers())


def test_boxes_are_scaled_with_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Truths go to the resized image's pixels, detections back to the given image's; each axis by its own ratio."""
    net = tiny().train()
    images, boxes, classes = sample()
    seen = {}

    def heads(maps: dict[str, Tensor], _proposals: object, sizes: object, targets: object = None) -> object:
        seen.update(maps=maps["0"].shape, sizes=sizes, targets=targets)
        box = torch.tensor([[12.0, 21.0, 60.0, 87.5]])
        return [{"boxes": box, "scores": torch.ones(1), "labels": torch.ones(1).long()}] * 2, {}

    monkeypatch.setattr(net.regions, "forward", heads)
    net.losses(images, [128, 50], boxes, classes)
    assert seen["sizes"] == [(96, 128), (50, 40)]
    assert seen["maps"] == (2, 32, 96 // 4, 128 // 4)
    torch.testing.assert_close(seen["targets"][0]["boxes"], 2.0 * boxes[0])
    assert seen["targets"][0]["labels"].tolist() == [3, 1]
    assert seen["targets"][1]["boxes"].shape == (0, 4)
    found = net.eval().detections(images, [128, 50])
    torch.testing.assert_close(found[0].boxes, torch.tensor([[6.0, 10.5, 30.0, 43.75]]))
    torch.testing.assert_close(found[1].boxes, torch.tensor([[12.0, 21.0, 60.0, 87.5]]) * 0.8)
    assert found[0].classes.tolist() == [0]


def test_a_region_is_pooled_from_its_own_place() -> None:
    """A map that is each position's pixel: the mean over a region is its centre, whatever the image's size."""
    net = tiny()
    x, y = torch.meshgrid(4.0 * torch.arange(16), 4.0 * torch.arange(12), indexing="xy")
    maps = {"0": torch.stack([x, y])[None]}
    regions = torch.tensor([[8.0, 4.0, 40.0, 36.0], [17.0, 9.0, 21.0, 30.0]])
    pooled = net._pool(maps, [regions], [(40, 50)])
    assert pooled.shape == (2, 2, 14, 14)
    torch.testing.assert_close(pooled.mean((2, 3)), (regions[:, :2] + regions[:, 2:]) / 2)


def test_it_learns_two_objects() -> None:
    """Trained on one image it finds both objects, each of its class and near its place, and none in an empty image."""
    torch.manual_seed(0)
    net = FasterRCNN(ResNet("resnet_tiny"), 3, anchors=(24,), sampled=64).train()
    images, boxes, classes = sample()
    optimizer = torch.optim.SGD(net.parameters(), 0.02, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        sum(net.losses(images[:1], [64], boxes[:1], classes[:1]).values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5)
        optimizer.step()
    found, none = net.eval().detections(images, [64, 40])
    assert not (none.scores > 0.5).any()
    assert set(found.classes[found.scores > 0.5].tolist()) == {0, 2}
    for label, box in zip(classes[0], boxes[0], strict=True):
        best = found.boxes[found.classes == label][:1]
        assert box_iou(best, box[None].float()).item() > 0.3
