"""AP50, the average precision of detected boxes, as VOC's development kit of 2007 has it."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from harness.data.errors import DataError
from harness.data.records import ABSENT, DIFFICULT, PRESENT
from harness.evaluation.metrics import average_precision
from harness.training.ranks import Ranks

OVERLAP = 0.5


class BoxTally:
    """Takes the images of a split one by one, at most `most` detections of each.

    Every detection is judged when it comes: PRESENT if it finds an object, DIFFICULT if that is a difficult one, which
    counts for nothing, ABSENT if it is a mistake.
    """

    def __init__(self, images: int, most: int, classes: int, device: torch.device) -> None:
        self._scores = torch.zeros(images, most, dtype=torch.float64, device=device)
        self._classes = torch.zeros(images, most, dtype=torch.int64, device=device)  # from 1: 0 is no detection
        self._verdicts = torch.zeros(images, most, dtype=torch.int8, device=device)
        self._objects = torch.zeros(classes, dtype=torch.int64, device=device)

    def add(self, row: int, boxes: Tensor, scores: Tensor, classes: Tensor, objects: Tensor) -> None:
        """The image at `row` of the split: detections (n, 4), (n), (n) and objects (m, BOX), as records has them.

        Boxes count pixels from 0, and right and bottom are the first outside. The kit counts from 1, and right and
        bottom are the last inside: a side of right - left + 1 there is one of right - left here, with no rounding.
        """
        found = len(scores)
        self._scores[row, :found] = scores.double()
        self._classes[row, :found] = 1 + classes
        # one by one, for which an accelerator is slow
        boxes, scores, classes, objects = (tensor.cpu() for tensor in (boxes, scores, classes, objects))
        self._verdicts[row, :found] = judge(boxes, scores, classes, objects).to(self._verdicts.device)
        easy = objects[objects[:, 5] == 0, 4].long()
        self._objects += torch.bincount(easy, minlength=len(self._objects)).to(self._objects.device)

    def gather(self, ranks: Ranks) -> None:
        """Take what the other ranks have taken: their rows are zeros here."""
        self._scores, self._classes = ranks.total(self._scores), ranks.total(self._classes)
        self._verdicts, self._objects = ranks.total(self._verdicts), ranks.total(self._objects)

    def results(self) -> dict[str, float]:
        """ap50: the mean over classes of their 11-point average precision, in percent.

        A class without an object that is not difficult has none, and is left out.
        """
        objects = self._objects.tolist()
        counted = [label for label, number in enumerate(objects) if number]
        if not counted:
            raise DataError("no image has an object that is not difficult, so that there is no precision to average")
        return {"ap50": sum(self._precision(label, objects[label]) for label in counted) / len(counted)}

    def _precision(self, label: int, objects: int) -> float:
        """Equal scores rank in the order of the images. Objects that were not found stand behind all detections."""
        there = self._classes == 1 + label
        scores, verdicts = self._scores[there].cpu(), self._verdicts[there].cpu()
        missed = objects - int((verdicts == PRESENT).sum())
        flags = torch.cat([verdicts, verdicts.new_full((missed,), PRESENT)])
        found = torch.cat([torch.isfinite(scores), torch.zeros(missed, dtype=torch.bool)])
        return average_precision(torch.cat([scores, scores.new_zeros(missed)]), flags, found)


def judge(boxes: Tensor, scores: Tensor, classes: Tensor, objects: Tensor) -> Tensor:
    """PRESENT, DIFFICULT or ABSENT of each detection of an image: (n, 4), (n), (n), (m, BOX) -> (n).

    By falling score each points at the object of its class that it overlaps most, where intersection over union is at
    least 0.5. An object is found once: who comes second is wrong, whatever else is near. What is no number is wrong.
    """
    verdicts = torch.full_like(scores, ABSENT, dtype=torch.int8)
    if not len(objects):
        return verdicts
    shares = box_iou(boxes.double(), objects[:, :4].double())
    shares = shares.where(classes[:, None] == objects[None, :, 4], 0).nan_to_num(0, 0, 0)
    best, nearest = shares.max(1)
    taken: set[int] = set()
    for i in scores.argsort(descending=True, stable=True).tolist():
        which = int(nearest[i])
        if best[i] < OVERLAP or not torch.isfinite(scores[i]):
            continue
        if objects[which, 5]:
            verdicts[i] = DIFFICULT
        elif which not in taken:
            verdicts[i] = PRESENT
            taken.add(which)
    return verdicts
