"""The online network, its predictor, and the target network that it bootstraps from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from harness.models.heads import MLP
from harness.models.initial import initialise, rescale
from harness.models.norm import norms
from harness.models.resnet import ResNet

if TYPE_CHECKING:
    from harness.config.schema import Model


class Network(nn.Module):
    """Encoder f and projector g: representation y = f(x), projection z = g(y)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.encoder = ResNet(model.encoder, model.width, model.norm)
        self.projector = MLP(self.encoder.features, model.projector, norm=model.norm, output_norm=model.output_norm)
        rescale(self, model.initial_scale)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(representation, projection) of one view."""
        representation = self.encoder(x)
        return representation, self.projector(representation)


class Classifier(nn.Module):
    """Encoder f and a linear layer on its representation: what is trained on labels."""

    def __init__(self, encoder: ResNet, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.features, classes)
        initialise(self.classifier)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of one view."""
        logits: Tensor = self.classifier(self.encoder(x))
        return logits


def classifier(model: Model, classes: int) -> Classifier:
    """With an encoder of its own, initialised."""
    network = Classifier(ResNet(model.encoder, model.width, model.norm), classes)
    rescale(network, model.initial_scale)
    return network


def predictor(model: Model) -> MLP | None:
    """The predictor q, which maps the online projection onto the target's; None where the model has none."""
    if model.predictor is None:
        return None
    head = MLP(model.projector[-1], model.predictor, norm=model.norm)
    if model.predictor_start == "identity":
        (layer,) = head.layers  # one square layer: the schema's check
        nn.init.eye_(layer.get_parameter("weight"))
    rescale(head, model.initial_scale)
    return head


class Target(nn.Module):
    """Where the regression targets come from; `mode` is the schema's Objective.target.

    ema            own copy of the online network, moved by `update`: xi <- tau xi + (1 - tau) theta
    constant       own copy, never moved
    stop_gradient  the online projections behind a stop-gradient: no second network, no second forward
    online         the online projections themselves: the gradient flows through both sides

    An own copy starts equal to the online network. It normalises by its own batches' statistics and keeps its
    own running ones (`update` moves parameters alone). No gradient reaches it. The state_dict is the copy's,
    or empty where there is none.
    """

    network: Network | None

    def __init__(self, online: Network, mode: Literal["ema", "constant", "stop_gradient", "online"]) -> None:
        super().__init__()
        self.mode = mode
        self.network = None
        if mode in ("ema", "constant"):
            # a process group cannot be copied: the copy shares it
            groups = {id(norm.group): norm.group for norm in norms(online)}
            self.network = copy.deepcopy(online, groups).requires_grad_(False).train()

    def project(self, views: Sequence[Tensor], online: Sequence[Tensor]) -> list[Tensor]:
        """Target projections of the views, each in its own forward; `online` are the online projections."""
        if self.network is not None:
            with torch.no_grad():
                return [self.network(view)[1] for view in views]
        return [z.detach() for z in online] if self.mode == "stop_gradient" else list(online)

    @torch.no_grad()
    def update(self, online: Network, tau: float) -> None:
        """After the online update: xi <- tau xi + (1 - tau) theta. Any target but `ema` stays what it is."""
        if self.mode == "ema" and self.network is not None:
            torch._foreach_lerp_(list(self.network.parameters()), list(online.parameters()), 1 - tau)
