"""Small pretrainings made straight from the schema, on views of noise instead of a dataset."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.config.datasets import DATASETS
from harness.config.schema import Data, Model, Objective, Optimizer, Pretrain, Schedule, View, Views

SIZE = 16
IMAGES = 64
BYOL: dict[str, Any] = {"predictor": True, "target": "ema", "tau_base": 0.9, "beta": 0.0, "temperature": None}
SUPERVISED: dict[str, Any] = {
    "name": "supervised",
    "label_smoothing": 0.1,
    "predictor": False,
    "target": None,
    "tau_base": None,
    "beta": 0.0,
    "temperature": None,
}
SIMCLR: dict[str, Any] = {"predictor": False, "target": "online", "tau_base": None, "beta": 1.0, "temperature": 0.1}
VIEW = View(
    crop_area=(0.4, 1.0),
    flip=0.0,
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    grayscale=0.2,
    blur=0.0,
    blur_sigma=(0.1, 2.0),
    solarize=0.2,
)


# What beside the objective makes a mechanism: changes of the objective, the model and the optimizer.
STOPPED: dict[str, Any] = {**BYOL, "target": "stop_gradient", "tau_base": None}
ADAM: dict[str, Any] = {"name": "adam", "base_lr": 1e-3, "trust": None}
MECHANISMS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "layer": ({**BYOL, "normalization": "layer"}, {}, {}),
    "batch": ({**BYOL, "normalization": "batch"}, {}, {}),
    "none": ({**BYOL, "normalization": "none"}, {}, {}),
    "constant tau": ({**BYOL, "tau_schedule": "constant"}, {}, {}),
    "raft": ({**BYOL, "name": "align", "cross_model": -1.0}, {}, ADAM),
    "byol'": ({**BYOL, "name": "align", "cross_model": 1.0}, {"predictor": (16,), "predictor_start": "identity"}, ADAM),
    "tangential": ({**BYOL, "tangential": True}, {}, {}),
    "least squares": ({**STOPPED, "predictor_fit": "least_squares"}, {"projector": (32, 4), "predictor": None}, {}),
    "original simclr": ({**SIMCLR, "scaled": False}, {"output_norm": True}, {}),
    "group norm": (BYOL, {"norm": "group"}, {}),
    "multipliers": (STOPPED, {}, {"predictor_multiplier": 10.0, "projector_multiplier": 2.0}),
    "frozen predictor": (STOPPED, {}, {"predictor_multiplier": 0.0}),
    "small weights": (BYOL, {"initial_scale": 0.1}, {}),
}


def mechanism(name: str, **how: Any) -> Pretrain:
    """A pretraining by one of the mechanisms."""
    objective, model, optimizer = MECHANISMS[name]
    spec = pretrain(objective, **how)
    return replace(spec, model=replace(spec.model, **model), optimizer=replace(spec.optimizer, **optimizer))


def pretrain(
    objective: dict[str, Any], *, update: int = 8, statistics: int = 8, epochs: int = 2, precision: Any = None
) -> Pretrain:
    """A pretraining of the smallest encoder on the digits; without a warm-up, so that the first update moves it.

    `precision` is torch's default one, unless it is given.
    """
    return Pretrain(
        kind="pretrain",
        recipe_version=1,
        data=Data(
            dataset="digits",
            split="train+valid",
            image_size=SIZE,
            views=Views(first=VIEW, second=VIEW),
            **DATASETS["digits"].identity(),
        ),
        model=Model(
            encoder="resnet_tiny",
            width=1,
            norm="batch",
            projector=() if objective is SUPERVISED else (32, 16),
            predictor=(32, 16) if objective["predictor"] else None,
        ),
        objective=Objective(**{"name": "bootstrap", **objective}),
        optimizer=Optimizer(name="lars", base_lr=1.0, weight_decay=1e-6, momentum=0.9, trust=1e-3),
        schedule=Schedule(epochs=epochs, warmup_epochs=0, update_batch=update, statistics_batch=statistics),
        seed=0,
        precision=precision or str(torch.get_default_dtype()).removeprefix("torch."),
    )


def supervised(**how: Any) -> Pretrain:
    """A pretraining on labels, by SGD."""
    spec = pretrain(SUPERVISED, **how)
    return replace(spec, optimizer=replace(spec.optimizer, name="sgd", weight_decay=1e-2, trust=None))


def noise(positions: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two views of images of noise, by stream position."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, positions, 3, SIZE, SIZE, generator=generator, dtype=torch.get_default_dtype())
    return first, second
