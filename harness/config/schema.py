"""The complete description of a run, as frozen dataclasses.

Everything here bears identity: two runs are the same run exactly if these values are equal. Where and how a run
executes (devices, workers, cadence, directories) is decided elsewhere and never appears. Names are the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


def _neutral(value: Any) -> Any:
    """A field added later: left out of a run's key while it has this value."""
    return field(default=value, metadata={"neutral": value})


@dataclass(frozen=True, kw_only=True)
class View:
    """One column of the paper's Table 6: a distribution of random views. Probabilities and ranges, no draws.

    operations: of RandAugment, on the crop before all else. magnitude: theirs, of 30.
    """

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
    operations: int = _neutral(0)
    magnitude: int = _neutral(0)


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
    """Encoder and heads. A head is its layer widths, hidden layers first; batch norm and ReLU between them.

    Supervised training has neither head: no layer of a projector, no predictor, a linear classifier on the encoder.

    norm: `group` is group norm everywhere and weight-standardised convolutions: no batch statistics remain.
    output_norm: batch norm after the projector's last layer, a scale without an offset, as the original SimCLR has it.
    predictor_start: `identity` is for a predictor of one square layer.
    initial_scale: factor on every initial weight of convolutions and linear layers.
    """

    encoder: str
    width: int
    norm: Literal["batch", "group"]
    projector: tuple[int, ...]
    predictor: tuple[int, ...] | None
    output_norm: bool = _neutral(False)
    predictor_start: Literal["random", "identity"] = _neutral("random")
    initial_scale: float = _neutral(1.0)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """`bootstrap` is the InfoNCE family of the paper's Section 5: BYOL is beta = 0, SimCLR is beta = 1 without
    predictor or target. `align` is the RAFT paper's: the views' predictions meet, plus cross_model times how far they
    are from the target (RAFT -1, BYOL' +1). `supervised` is the cross-entropy of the labels, on one view.

    target: `ema` moves by tau, `constant` stays the initial network, `stop_gradient` is the online network behind a
    stop-gradient (a hard copy every step is the same thing), `online` lets the gradient flow; labels need none.
    normalization: of predictions and targets before they are compared (Table 20).
    scaled: the InfoNCE terms times 2 * temperature; without it, beta = 1 is SimCLR's own NT-Xent.
    predictor_fit: `least_squares` solves for the best linear predictor on every batch instead of learning one.
    tangential: only the gradient along the sphere is kept (RAFT).
    label_smoothing: the part of a label's weight that is spread over all classes (`supervised`).
    """

    name: Literal["bootstrap", "align", "supervised"]
    predictor: bool
    target: Literal["ema", "constant", "stop_gradient", "online"] | None
    tau_base: float | None
    beta: float
    temperature: float | None
    normalization: Literal["l2", "layer", "batch", "none"] = _neutral("l2")
    scaled: bool = _neutral(True)
    predictor_fit: Literal["learned", "least_squares"] = _neutral("learned")
    tau_schedule: Literal["cosine", "constant"] = _neutral("cosine")
    cross_model: float | None = _neutral(None)
    tangential: bool = _neutral(False)
    label_smoothing: float = _neutral(0.0)


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """LARS, whose learning rate is base_lr * update_batch / 256 times the schedule; SGD with Nesterov's momentum, of
    the same rate and without `trust`; or Adam, whose rate is base_lr times the schedule, with `momentum` its first beta
    and 0.999 the second, and no `trust`.

    The multipliers are on the learning rate of the predictor's and the projector's parameters (lambda and mu).
    """

    name: Literal["lars", "sgd", "adam"]
    base_lr: float
    weight_decay: float
    momentum: float
    trust: float | None
    predictor_multiplier: float = _neutral(1.0)
    projector_multiplier: float = _neutral(1.0)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """update_batch: images of an optimizer update. statistics_batch: images sharing batch statistics and negatives.

    decay: `cosine` to 0 after the warm-up, or `none`.
    """

    epochs: int
    warmup_epochs: int
    update_batch: int
    statistics_batch: int
    decay: Literal["cosine", "none"] = _neutral("cosine")


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
    precision: Literal["float32", "float64"] = _neutral("float32")


@dataclass(frozen=True, kw_only=True)
class RandomEncoder:
    """An encoder as initialised from a seed: the subject of the `untrained` rows. Nothing is trained."""

    kind: Literal["random"]
    encoder: str
    width: int
    norm: Literal["batch", "group"]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Imported:
    """An encoder from elsewhere, with batch norm. `encoder` is a name of ours, or the text of a shape that has none.

    padding, inputs: how it was trained, as harness.models.conventions has it.
    tensors_sha256: of names, shapes and single-precision values.
    """

    kind: Literal["imported"]
    encoder: str
    width: int
    padding: Literal["torch", "same", "same_pool"]
    tensors_sha256: str
    inputs: Literal["normalised", "unit"] = _neutral("normalised")


@dataclass(frozen=True, kw_only=True)
class LinearData:
    """Where a linear evaluation trains, selects and is tested. `crop_area` and `flip` augment training alone.

    view: a distribution of pretraining whose other operations augment training too; its own crop and flip are these.
    """

    dataset: str
    train: Literal["train", "train+valid"]
    select: Literal["valid"]
    test: Literal["test"]
    image_size: int
    crop_area: tuple[float, float]
    flip: float
    version: int
    split_id: str
    store: str
    stand_in: bool
    view: View | None = _neutral(None)  # noqa: RUF009  # a field as the others; ruff does not know that a View is frozen


@dataclass(frozen=True, kw_only=True)
class Linear:
    """The paper's linear evaluation: a linear layer on frozen features for each learning rate, one chosen on `select`.

    learning_rates are multiplied by batch / 256 and decay to 0 with a cosine, without warm-up; those of `adam` stay as
    they are (the RAFT paper's evaluation).

    logit_clip: a, where training sees the logits as a * tanh(logits / a) (Table 7).
    logit_penalty: times the mean of the squared logits, clipped where they are, and added to the loss.
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
    optimizer: Literal["sgd", "adam"] = _neutral("sgd")
    logit_clip: float | None = _neutral(None)
    logit_penalty: float = _neutral(0.0)


@dataclass(frozen=True, kw_only=True)
class FinetuneData:
    """As LinearData. `train` may be a list of images, whose name ends in its percentage: `balanced-10`, `simclr-1`."""

    dataset: str
    train: str
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
class Finetune:
    """One candidate of a fine-tuning: the whole network trained on labels, and its score on `select` alone.

    learning_rate is multiplied by batch / 256 and decays to 0 with a cosine, without warm-up. Batch statistics are over
    `batch` images. `precision` is that of parameters, statistics and views.

    steps: updates, where epochs is null.
    statistics_steps: n, where running statistics keep max(1 - n / updates an epoch, 0.9) of what they were each update;
        0.9 without it.
    hopeless_points: after half of its updates it ends, without a score, if on `select` it is not so many percentage
        points above chance. Not in the paper.
    """

    kind: Literal["finetune"]
    evaluation_version: int
    subject: str
    data: FinetuneData
    learning_rate: float
    epochs: int | None
    batch: int
    momentum: float
    weight_decay: float
    seed: int
    precision: Literal["float32", "float64"] = _neutral("float32")
    steps: int | None = _neutral(None)
    statistics_steps: float | None = _neutral(None)
    hopeless_points: float | None = _neutral(None)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The fine-tuning of a cell: of its candidates, by their keys, the best on `select`, whose network is tested.

    retrain: the images on which the best is trained once more, from the subject, before that (transfer, segmentation).
    """

    kind: Literal["choice"]
    evaluation: str
    evaluation_version: int
    subject: str
    data: FinetuneData | SceneData
    candidates: tuple[str, ...]
    retrain: Literal["train+valid"] | None = _neutral(None)


@dataclass(frozen=True, kw_only=True)
class FrozenData:
    """Images whose features are computed once: the centre of each, its shorter side resized to `image_size`."""

    dataset: str
    train: Literal["train"]
    select: Literal["valid"]
    test: Literal["test"]
    image_size: int
    version: int
    split_id: str
    store: str
    stand_in: bool


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Of regularisation: `count` values from `low` to `high`, logarithmically spaced."""

    count: int
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Logistic:
    """Transfer's linear evaluation: for each lambda of `strengths` the weights that minimise, on frozen features f,
        sum_i cross_entropy(W f_i + b, y_i) + lambda / 2 |W|^2;
    the best lambda on `select` is fitted again on train and select together, and tested. Where an image carries one
    flag a class, the cross-entropy is the sum over the classes of the binary ones.
    """

    kind: Literal["logistic"]
    evaluation: str
    evaluation_version: int
    subject: str
    data: FrozenData
    strengths: Strengths


@dataclass(frozen=True, kw_only=True)
class SceneData:
    """Images that carry a mask, boxes or depths."""

    dataset: str
    train: Literal["train", "train+valid"]
    select: Literal["valid"]
    test: Literal["test"]
    version: int
    split_id: str
    store: str
    stand_in: bool


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """One candidate of a segmentation: FCN on the encoder, all of it trained on masks, and its mean IoU on `select`.

    crop: side of the square that is cut from the image scaled by one of `scales`; what lies outside the image is void.
    The learning rate is that of `batch` images and falls to a tenth at each of `drops`, in parts of the steps.
    """

    kind: Literal["segmentation"]
    evaluation_version: int
    subject: str
    data: SceneData
    crop: int
    scales: tuple[float, float]
    flip: float
    learning_rate: float
    drops: tuple[float, ...]
    steps: int
    batch: int
    momentum: float
    weight_decay: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Faster R-CNN on the encoder to its fourth stage, the fifth its box head; trained once, nothing chosen, tested.

    edges: the longest side of an image in training lies between these, in pixels; test_edge: in the test.
    anchors: their sizes in pixels. frozen: the encoder's weights stay, and the parts of detection alone learn.
    samples: regions of an image that the box head trains on. warmup_steps: over these the learning rate rises from 0.
    """

    kind: Literal["detection"]
    evaluation: str
    evaluation_version: int
    subject: str
    data: SceneData
    edges: tuple[int, int]
    test_edge: int
    anchors: tuple[int, ...]
    frozen: bool
    learning_rate: float
    drops: tuple[float, ...]
    steps: int
    batch: int
    momentum: float
    weight_decay: float
    seed: int
    samples: int = _neutral(512)
    warmup_steps: int = _neutral(0)


@dataclass(frozen=True, kw_only=True)
class Depth:
    """Up-projections on the encoder, all of it trained on depths by the reverse Huber loss; nothing chosen, tested.

    frame: height and width to which frames are resized; crop: height and width of the centre that is used.
    brightness and hue are the largest offsets, saturation a range of factors; grayscale and flip are probabilities.
    """

    kind: Literal["depth"]
    evaluation: str
    evaluation_version: int
    subject: str
    data: SceneData
    frame: tuple[int, int]
    crop: tuple[int, int]
    flip: float
    grayscale: float
    brightness: float
    saturation: tuple[float, float]
    hue: float
    learning_rate: float
    steps: int
    batch: int
    momentum: float
    weight_decay: float
    seed: int


Subject = Pretrain | RandomEncoder | Imported
Tried = Finetune | Segmentation  # what a choice may be among
Evaluation = Linear | Finetune | Choice | Logistic | Segmentation | Detection | Depth
Spec = Subject | Evaluation
