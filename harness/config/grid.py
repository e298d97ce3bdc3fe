"""What a fine-tuning tries: every learning rate with every number of epochs, each a run of its own."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Literal

from harness.config.identity import run_key
from harness.config.schema import Choice, Finetune, FinetuneData
from harness.config.structure import StructureError

_LIST = re.compile(r"[a-z0-9][a-z0-9.-]*-(\d+(\.\d+)?)")  # its percentage is the last part


@dataclass(frozen=True, kw_only=True)
class Grid:
    """experiments/evaluations/finetune_*.yaml, complete. Learning rates go first: among equals the first is chosen."""

    kind: Literal["finetune"]
    evaluation: str
    evaluation_version: int
    data: FinetuneData
    learning_rates: tuple[float, ...]
    epochs: tuple[int, ...]
    batch: int
    momentum: float
    weight_decay: float
    seed: int

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
                weight_decay=self.weight_decay,
                seed=seed,
            )
            for learning_rate, epochs in itertools.product(self.learning_rates, self.epochs)
        )

    def choice(self, subject: str, candidates: tuple[Finetune, ...]) -> Choice:
        """Among these, with the keys that they have."""
        return Choice(
            kind="choice",
            evaluation=self.evaluation,
            evaluation_version=self.evaluation_version,
            subject=subject,
            data=self.data,
            candidates=tuple(run_key(candidate) for candidate in candidates),
        )


def check_grid(grid: Grid) -> None:
    """Raise StructureError with the key that is at odds with the rest."""
    for name, values in (("learning_rates", grid.learning_rates), ("epochs", grid.epochs)):
        if not values or len(set(values)) < len(values) or min(values) <= 0:
            raise StructureError(name, f"must name at least one, each once and above 0, not {list(values)}")
    if grid.batch < 2:
        raise StructureError("batch", f"must be at least 2, not {grid.batch}: one image has no batch statistics")
    if not 0 < grid.momentum < 1:
        raise StructureError("momentum", f"must lie between 0 and 1, not {grid.momentum}: it is Nesterov's")
    if grid.weight_decay < 0:
        raise StructureError("weight_decay", f"must be at least 0, not {grid.weight_decay}")
    check_labels(grid.data)


def check_labels(data: FinetuneData) -> None:
    """Nothing may be trained on that chooses or tests, and a list must say how long it is."""
    if any(part in ("valid", "test") for part in data.train.split("+")):
        problem = f"{data.train} holds images of {data.select} or {data.test}, which choose and test"
        raise StructureError("data.train", f"{problem}; take train, or a list such as balanced-10")
    share = _LIST.fullmatch(data.train)
    if data.train != "train" and (share is None or not 0 < float(share[1]) <= 100):
        problem = f"must be train, or a list that ends in its percentage (balanced-10, simclr-1), not '{data.train}'"
        raise StructureError("data.train", problem)
