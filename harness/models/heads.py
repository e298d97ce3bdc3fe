"""The projector and the predictor: multi-layer perceptrons of one form."""

from __future__ import annotations

from torch import Tensor, nn

from harness.models.initial import initialise
from harness.models.norm import Norm, normalisation


class MLP(nn.Module):
    """Linear layers of output sizes `widths`, all but the last followed by a norm and ReLU.

    The last layer has no bias and, but for `output_norm`, no norm after it (the release). Hidden layers have a
    bias. Of a single layer the release says nothing: it is a last one, so it has no bias.

    norm: with `group` no batch statistics are left, in the heads as in the encoder; their weights are not standardised.
    output_norm: a norm after the last layer too, of a scale without an offset, as SimCLR's own code has it.
    """

    def __init__(
        self, inputs: int, widths: tuple[int, ...], *, norm: Norm = "batch", output_norm: bool = False
    ) -> None:
        super().__init__()
        *hidden, outputs = widths
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [_linear(inputs, width, bias=True), normalisation(width, norm), nn.ReLU(inplace=True)]
            inputs = width
        layers.append(_linear(inputs, outputs, bias=False))
        if output_norm:
            layers.append(normalisation(outputs, norm, offset=False))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, widths[-1])."""
        y: Tensor = self.layers(x)
        return y


def _linear(inputs: int, outputs: int, *, bias: bool) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    initialise(layer)
    return layer
