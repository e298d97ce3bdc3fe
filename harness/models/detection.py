"""Faster R-CNN (Ren et al. 2015) of the kind R50-C4 (BYOL's Appendix D.5), of torchvision's parts on our encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import roi_align

from harness.models.norm import norms
from harness.models.resnet import ResNet

ANCHORS = (32, 64, 128, 256, 512)  # pixels: the sides of the square ones
RATIOS = (0.5, 1.0, 2.0)  # of an anchor's height to its width
POOLED = 14  # a region's rows and columns of positions, before the last stage halves them
SAMPLED = 512  # regions of an image that the box head trains on
DETECTIONS = 100  # an image at most


class Detections(NamedTuple):
    """Boxes (n, 4): left, top, right, bottom in pixels of the image, the first outside as in the records; scores (n)
    and classes (n), best first.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


class FasterRCNN(nn.Module):
    """Regions are proposed on the maps of the last stage but one (conv4, stride 16); the last one (conv5), on 14 x 14
    positions of each region, averaged, classifies it and moves its box.

    The batch norms of `encoder` keep the statistics of its pretraining in train mode too, since an update has few
    images; their scales and offsets train. `frozen` fixes every parameter of the stages before the last.
    `anchors` are to be scaled with the images; `sampled` is how many regions of an image train the box head.
    """

    def __init__(
        self,
        encoder: ResNet,
        classes: int,
        *,
        frozen: bool = False,
        anchors: Sequence[int] = ANCHORS,
        sampled: int = SAMPLED,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        *self._trunk, self._last = encoder.stages
        channels = encoder.get_parameter(f"{self._last}.0.conv1.weight").shape[1]
        if frozen:
            encoder.requires_grad_(False)
            encoder.get_submodule(self._last).requires_grad_(True)
        grid = AnchorGenerator((tuple(anchors),), (RATIOS,))
        self.proposals = RegionProposalNetwork(
            grid,
            RPNHead(channels, len(anchors) * len(RATIOS)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            # as Detectron2 has them where there is one map
            pre_nms_top_n={"training": 12_000, "testing": 6_000},
            post_nms_top_n={"training": 2_000, "testing": 1_000},
            nms_thresh=0.7,
        )
        self.regions = RoIHeads(
            self._pool,
            self._box_head,
            FastRCNNPredictor(encoder.features, 1 + classes),  # class 0 is the background
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=sampled,
            positive_fraction=0.25,
            bbox_reg_weights=None,  # torchvision's 10, 10, 5, 5
            score_thresh=0.05,
            nms_thresh=0.5,
            detections_per_img=DETECTIONS,
        )

    def train(self, mode: bool = True) -> FasterRCNN:
        """As nn.Module's, but for the batch norms."""
        super().train(mode)
        for norm in norms(self.encoder):
            norm.eval()
        return self

    def losses(
        self, images: Sequence[Tensor], longest: Sequence[int], boxes: Sequence[Tensor], classes: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The four losses, whose sum is to be trained: of the proposals' and the regions' classes and boxes.

        Of images (3, H, W), looked at with a longest edge of so many pixels; their boxes (n, 4), in their own, and
        classes (n) from 0. Which anchors and regions are trained on is drawn from torch's own generator.
        """
        assert self.training, "the losses are those of train mode"
        batch, maps = self._maps(images, longest)
        targets = [
            {"boxes": resize_boxes(box.float(), image.shape[-2:], size), "labels": 1 + label.long()}
            for box, label, image, size in zip(boxes, classes, images, batch.image_sizes, strict=True)
        ]
        proposals, losses = self.proposals(batch, maps, targets)
        _, more = self.regions(maps, proposals, batch.image_sizes, targets)
        return losses | more

    @torch.no_grad()
    def detections(self, images: Sequence[Tensor], longest: Sequence[int]) -> list[Detections]:
        """What is found in images (3, H, W), looked at with a longest edge of so many pixels; boxes in their own."""
        assert not self.training, "detections are those of evaluation mode"
        batch, maps = self._maps(images, longest)
        proposals, _ = self.proposals(batch, maps)
        found, _ = self.regions(maps, proposals, batch.image_sizes)
        return [
            Detections(resize_boxes(one["boxes"], size, image.shape[-2:]), one["scores"], one["labels"] - 1)
            for one, size, image in zip(found, batch.image_sizes, images, strict=True)
        ]

    def _maps(self, images: Sequence[Tensor], longest: Sequence[int]) -> tuple[ImageList, dict[str, Tensor]]:
        """The resized images in one tensor, whose sides are multiples of the encoder's stride, and their maps."""
        scaled = [_scaled(image, edge) for image, edge in zip(images, longest, strict=True)]
        sizes = [tuple(image.shape[-2:]) for image in scaled]
        stride = self.encoder.stride
        height, width = (-(-max(sides) // stride) * stride for sides in zip(*sizes, strict=True))
        padded = [F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2])) for image in scaled]
        batch = ImageList(torch.stack(padded), sizes)
        return batch, {"0": self.encoder.maps(batch.tensors, self._trunk)}

    def _pool(self, maps: dict[str, Tensor], proposals: list[Tensor], _sizes: list[tuple[int, int]]) -> Tensor:
        """Each region's positions. torchvision's own module guesses the stride, and is wrong on small images."""
        return roi_align(maps["0"], proposals, POOLED, spatial_scale=2 / self.encoder.stride)

    def _box_head(self, regions: Tensor) -> Tensor:
        """(regions, features): that stage and the average pooling, as at the end of the encoder."""
        y: Tensor = self.encoder.get_submodule(self._last)(regions)
        return y.mean((2, 3))


def _scaled(image: Tensor, longest: int) -> Tensor:
    """Bilinearly, the shorter edge in proportion."""
    height, width = image.shape[-2:]
    edge = max(height, width)
    size = (max(1, round(height * longest / edge)), max(1, round(width * longest / edge)))
    return F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
