"""What a fine-tuning tries: every learning rate with every weight decay and number of epochs, each a run of its own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.config.check import check_labelled, check_statistics
from harness.config.schema import Finetune, FinetuneData
from harness.config.structure import StructureError

_LIST = re.compile(r"[a-z0-9][a-z0-9.-]*-(\d+(\.\d+)?)")  # its percentage is the last part


def _left_out(value: Any) -> Any:
    """A key that a file may leave out; cells and profiles can set it all the same."""
    return field(default=value, metadata={"neutral": value})


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A file of experiments/evaluations whose kind is finetune, complete. Learning rates go first, then weight decays,
    then epochs: among equals the first is chosen.

    steps: updates, where epochs is left out. over_learning_rate: each weight decay is divided by the learning rate it
    goes with. statistics_steps, hopeless_points and retrain are those of Finetune and Choice.
    """

    kind: Literal["finetune"]
    evaluation: str
    evaluation_version: int
    data: FinetuneData
    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    batch: int
    momentum: float
    seed: int
    epochs: tuple[int, ...] | None = _left_out(None)
    steps: int | None = _left_out(None)
    over_learning_rate: bool = _left_out(False)
    statistics_steps: float | None = _left_out(None)
    hopeless_points: float | None = _left_out(None)
    retrain: Literal["train+valid"] | None = _left_out(None)

    def candidates(self, subject: str, seed: int) -> tuple[Finetune, ...]:
        """In the order in which the file names them."""
        return tuple(
            Finetune(
                kind="finetune",
                evaluation_version=self.evaluation_version,
                subject=subject,
                data=self.data,
                learning_rate=learning_rate,
                epochs=epochs,
                batch=self.batch,
                momentum=self.momentum,
                weight_decay=weight_decay,
                seed=seed,
                steps=self.steps,
                statistics_steps=self.statistics_steps,
                hopeless_points=self.hopeless_points,
            )
            for learning_rate, weight_decay, epochs in self._tried()
        )

    def _tried(self) -> Iterator[tuple[float, float, int | None]]:
        lengths = self.epochs or (None,)
        for learning_rate, decay, epochs in itertools.product(self.learning_rates, self.weight_decays, lengths):
            yield learning_rate, decay / learning_rate if self.over_learning_rate else decay, epochs


def check_grid(grid: Grid) -> None:
    """Raise StructureError with the key that is at odds with the rest."""
    check_labelled(grid.data.dataset)
    _check_length(grid)
    check_tried("learning_rates", grid.learning_rates)
    decays = grid.weight_decays
    if not decays or len(set(decays)) < len(decays) or min(decays) < 0:
        raise StructureError("weight_decays", f"must name at least one, each once and at least 0, not {list(decays)}")
    if grid.over_learning_rate and not any(decays):
        raise StructureError("over_learning_rate", "has no effect where every weight decay is 0; leave it out")
    check_statistics(grid.batch)
    if not 0 < grid.momentum < 1:
        raise StructureError("momentum", f"must lie between 0 and 1, not {grid.momentum}: it is Nesterov's")
    if grid.statistics_steps is not None and grid.statistics_steps <= 0:
        raise StructureError("statistics_steps", f"must be above 0, not {grid.statistics_steps:g}")
    if grid.hopeless_points is not None and not 0 <= grid.hopeless_points < 100:
        raise StructureError("hopeless_points", f"must be at least 0 and below 100, not {grid.hopeless_points:g}")
    check_labels(grid.data)
    if grid.retrain is not None and grid.data.train != "train":
        problem = f"{grid.retrain} is for candidates that train on train, not on {grid.data.train}; leave it out"
        raise StructureError("retrain", problem)


def _check_length(grid: Grid) -> None:
    """A candidate trains for epochs or for steps."""
    if grid.epochs is not None and grid.steps is not None:
        problem = f"{grid.steps} updates stand beside {list(grid.epochs)} epochs; set one of the two to null"
        raise StructureError("steps", problem)
    if grid.steps is not None:
        if grid.steps < 1:
            raise StructureError("steps", f"must be at least 1, not {grid.steps}")
        if grid.retrain is None:
            raise StructureError("retrain", "is missing: candidates of steps keep no network to test; set train+valid")
        return
    if grid.epochs is None:
        raise StructureError("epochs", "is missing; say how long with epochs or with steps")
    check_tried("epochs", grid.epochs)


def check_tried(name: str, values: Sequence[float]) -> None:
    if not values or len(set(values)) < len(values) or min(values) <= 0:
        raise StructureError(name, f"must name at least one, each once and above 0, not {list(values)}")


def check_labels(data: FinetuneData) -> None:
    """Nothing may be trained on that chooses or tests, and a list must say how long it is."""
    if any(part in ("valid", "test") for part in data.train.split("+")):
        problem = f"{data.train} holds images of {data.select} or {data.test}, which choose and test"
        raise StructureError("data.train", f"{problem}; take train, or a list such as balanced-10")
    share = _LIST.fullmatch(data.train)
    if data.train != "train" and (share is None or not 0 < float(share[1]) <= 100):
        problem = f"must be train, or a list that ends in its percentage (balanced-10, simclr-1), not '{data.train}'"
        raise StructureError("data.train", problem)
