"""The projector and the predictor: multi-layer perceptrons of one form."""

from __future__ import annotations

from torch import Tensor, nn

from harness.models.initial import initialise
from harness.models.norm import BatchNorm


class MLP(nn.Module):
    """Linear layers of output sizes `widths`, all but the last followed by batch norm and ReLU.

    The last layer has no bias and no batch norm after it (the release; SimCLR normalises its output). Hidden
    layers have a bias. Of a single layer the release says nothing: it is a last one, so it has no bias.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        *hidden, outputs = widths
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [_linear(inputs, width, bias=True), BatchNorm(width), nn.ReLU(inplace=True)]
            inputs = width
        self.layers = nn.Sequential(*layers, _linear(inputs, outputs, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, widths[-1])."""
        y: Tensor = self.layers(x)
        return y


def _linear(inputs: int, outputs: int, *, bias: bool) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    initialise(layer)
    return layer
