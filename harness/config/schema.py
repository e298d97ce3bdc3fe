"""The complete description of a run, as frozen dataclasses.

Everything here bears identity: two runs are the same run exactly if these values are equal. Where and how a run
executes (devices, workers, cadence, directories) is decided elsewhere and never appears. Names are the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class View:
    """One column of the paper's Table 6: a distribution of random views. Probabilities and ranges, no draws."""

    crop_area: tuple[float, float]
    flip: float
    jitter: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grayscale: float
    blur: float
    blur_sigma: tuple[float, float]
    solarize: float


@dataclass(frozen=True, kw_only=True)
class Views:
    """The pair of view distributions: `first` is the paper's T, `second` its T'."""

    first: View
    second: View


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is trained on. Version, split_id, store and stand_in are facts of the dataset, filled in at expansion."""

    dataset: str
    split: Literal["train", "train+valid"]
    image_size: int
    views: Views
    version: int
    split_id: str
    store: str
    stand_in: bool


@dataclass(frozen=True, kw_only=True)
class Model:
    """Encoder and heads. A head is its layer widths, hidden layers first; batch norm and ReLU between them."""

    encoder: str
    width: int
    norm: Literal["batch"]
    projector: tuple[int, ...]
    predictor: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The InfoNCE family of the paper's Section 5: BYOL is beta = 0, SimCLR is beta = 1 without predictor or target.

    target: `ema` moves by tau, `constant` stays the initial network, `stop_gradient` is the online network behind a
    stop-gradient (a hard copy every step is the same thing), `online` lets the gradient flow.
    """

    name: Literal["bootstrap"]
    predictor: bool
    target: Literal["ema", "constant", "stop_gradient", "online"]
    tau_base: float | None
    beta: float
    temperature: float | None


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """LARS. The learning rate of an update is base_lr * update_batch / 256 times the schedule."""

    name: Literal["lars"]
    base_lr: float
    weight_decay: float
    momentum: float
    trust: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """update_batch: images of an optimizer update. statistics_batch: images sharing batch statistics and negatives."""

    epochs: int
    warmup_epochs: int
    update_batch: int
    statistics_batch: int


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """A pretraining run. `precision` is that of parameters, statistics and views."""

    kind: Literal["pretrain"]
    recipe_version: int
    data: Data
    model: Model
    objective: Objective
    optimizer: Optimizer
    schedule: Schedule
    seed: int
    precision: Literal["float32", "float64"] = field(default="float32", metadata={"neutral": "float32"})


@dataclass(frozen=True, kw_only=True)
class RandomEncoder:
    """An encoder as initialised from a seed: the subject of the `untrained` rows. Nothing is trained."""

    kind: Literal["random"]
    encoder: str
    width: int
    norm: Literal["batch"]
    seed: int


@dataclass(frozen=True, kw_only=True)
class LinearData:
    """Where a linear evaluation trains, selects and is tested. `crop_area` and `flip` augment training alone."""

    dataset: str
    train: Literal["train"]
    select: Literal["valid"]
    test: Literal["test"]
    image_size: int
    crop_area: tuple[float, float]
    flip: float
    version: int
    split_id: str
    store: str
    stand_in: bool


@dataclass(frozen=True, kw_only=True)
class Linear:
    """The paper's linear evaluation: a linear layer on frozen features for each learning rate, one chosen on `select`.

    learning_rates are multiplied by batch / 256 and decay to 0 with a cosine, without warm-up.
    """

    kind: Literal["linear"]
    evaluation: str
    evaluation_version: int
    subject: str
    data: LinearData
    learning_rates: tuple[float, ...]
    momentum: float
    epochs: int
    batch: int
    seed: int


Subject = Pretrain | RandomEncoder
Spec = Pretrain | RandomEncoder | Linear
