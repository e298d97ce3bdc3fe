"""What a segmentation tries: every learning rate, each a run of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.config.check import check_labelled, check_statistics, within
from harness.config.check_scenes import check_drops, check_range, check_updates
from harness.config.grid import check_tried
from harness.config.schema import SceneData, Segmentation
from harness.config.structure import StructureError


@dataclass(frozen=True, kw_only=True)
class SegmentationGrid:
    """A file of experiments/evaluations whose kind is segmentation, complete. Among equals the first is chosen.

    The others are those of Segmentation and Choice.
    """

    kind: Literal["segmentation"]
    evaluation: str
    evaluation_version: int
    data: SceneData
    crop: int
    scales: tuple[float, float]
    flip: float
    learning_rates: tuple[float, ...]
    drops: tuple[float, ...]
    steps: int
    batch: int
    momentum: float
    weight_decay: float
    retrain: Literal["train+valid"]
    seed: int

    def candidates(self, subject: str, seed: int) -> tuple[Segmentation, ...]:
        """In the order in which the file names them."""
        return tuple(
            Segmentation(
                kind="segmentation",
                evaluation_version=self.evaluation_version,
                subject=subject,
                data=self.data,
                crop=self.crop,
                scales=self.scales,
                flip=self.flip,
                learning_rate=learning_rate,
                drops=self.drops,
                steps=self.steps,
                batch=self.batch,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                seed=seed,
            )
            for learning_rate in self.learning_rates
        )


def check_segmentation(grid: SegmentationGrid) -> None:
    """Raise StructureError with the key that is at odds with the rest."""
    check_labelled(grid.data.dataset, "mask")
    if grid.data.train != "train":
        problem = f"{grid.data.train} holds images of {grid.data.select}, which chooses; take train"
        raise StructureError("data.train", problem)
    check_updates(grid)
    check_statistics(grid.batch)
    check_tried("learning_rates", grid.learning_rates)
    check_drops(grid.drops)
    check_range("scales", grid.scales)
    within(grid.flip, 1.0, "flip")
    if grid.crop < 1:
        raise StructureError("crop", f"must be at least 1, not {grid.crop}")
