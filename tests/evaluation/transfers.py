"""Transfer evaluations of an untrained encoder, and what they told on the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.config.schema import FrozenData, Logistic, Strengths
from harness.data.dataset import Dataset
from harness.evaluation.features import FeatureStore
from harness.evaluation.logistic import Fit
from harness.evaluation.logistic_sklearn import fit_path_sklearn
from harness.evaluation.transfer import Solver, TransferEvaluation
from harness.models.resnet import ResNet
from harness.training import loop
from harness.training.ranks import Ranks, world_and_rank

CPU = torch.device("cpu")
STRENGTHS = Strengths(count=4, low=1e-2, high=1e4)


def spec_of(dataset: Dataset, strengths: Strengths = STRENGTHS) -> Logistic:
    """The paper's protocol at 16 pixels, with few lambdas."""
    data = FrozenData(
        dataset=dataset.manifest.dataset,
        train="train",
        select="valid",
        test="test",
        image_size=16,
        **dataset.facts.identity(),
    )
    return Logistic(
        kind="logistic",
        evaluation="transfer",
        evaluation_version=1,
        subject="subject",
        data=data,
        strengths=strengths,
    )


def encoder() -> ResNet:
    """Untrained."""
    torch.manual_seed(0)
    return ResNet("resnet_tiny", 1, "batch")


class Told:
    """Listens as the launch room's observer does, and asks for an end at a look of the evaluation's."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.looks, self.stop_at = 0, stop_at
        self.notes: list[str] = []
        self.reports: dict[int, dict[str, float]] = {}
        self.seen: list[loop.Progress] = []

    def note(self, line: str) -> None:
        self.notes.append(line)

    def resumed(self, step: int) -> None:
        self.reports = {done: report for done, report in self.reports.items() if done <= step}

    def report(self, step: int, metrics: dict[str, float]) -> None:
        assert step not in self.reports
        self.reports[step] = metrics

    def progress(self, progress: loop.Progress) -> None:
        self.seen.append(progress)

    def stopping(self) -> bool:
        self.looks += 1
        return self.looks == self.stop_at


class Counted:
    """A solver, and which strengths it was asked for, on how many images."""

    def __init__(self, solver: Solver = fit_path_sklearn) -> None:
        self.solver = solver
        self.asked: list[tuple[int, int]] = []

    def __call__(self, values: Tensor, labels: Tensor, classes: int, strengths: Sequence[float]) -> Iterable[Fit]:
        self.asked.append((len(values), len(strengths)))
        return self.solver(values, labels, classes, strengths)


def evaluation(
    dataset: Dataset, folder: Path, solver: Solver = fit_path_sklearn, told: Told | None = None, **changes: Any
) -> TransferEvaluation:
    """Of an untrained encoder, with its features beside its seal."""
    told = told or Told()
    net = changes.pop("net", None) or encoder()
    ranks = Ranks.split(world_and_rank()[0])
    store = FeatureStore(folder / "features", net, dataset, 16, CPU, ranks, 1, told.note)
    return TransferEvaluation(replace(spec_of(dataset), **changes), store, solver, told)
