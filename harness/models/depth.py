"""The network for depth estimation: Laina et al. 2016 (arXiv 1606.00373), which BYOL's Appendix D.6 follows."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from harness.models.initial import initialise
from harness.models.norm import normalisation
from harness.models.resnet import ResNet, convolution

FILTERS = (512, 256, 128, 64)


class DepthNetwork(nn.Module):
    """The encoder's last maps, a 1x1 convolution that halves their channels, an up-projection of each of `filters`, and
    a 3x3 convolution to the depth in metres.

    The 1x1 convolution with its batch norm is Laina et al.'s; BYOL names the core components alone. On a ResNet-50
    they are 63.6 million parameters. `encoder` itself is trained.
    """

    def __init__(self, encoder: ResNet, filters: tuple[int, ...] = FILTERS) -> None:
        super().__init__()
        self.encoder = encoder
        inputs = encoder.features // 2
        layers: list[nn.Module] = [
            convolution(encoder.features, inputs, 1, norm="batch"),
            normalisation(inputs, "batch"),
        ]
        for outputs in filters:
            layers.append(UpProjection(inputs, outputs))
            inputs = outputs
        self.head = nn.Sequential(*layers)
        self.prediction = nn.Conv2d(inputs, 1, 3, padding=1)
        initialise(self.prediction)
        self._finer = 2 ** len(filters)

    def forward(self, x: Tensor) -> Tensor:
        """Metres (B, H, W) of images (B, 3, H, W): a truth with gaps cannot be resized, so the prediction is.

        A ResNet-50 has 160 x 128 positions for an image of 304 x 228 pixels, one at every second pixel: the 152 x 114
        within the image are kept, and enlarged bilinearly.
        """
        size = x.shape[-2:]
        y = self.prediction(self.head(self.encoder.maps(x, self.encoder.stages)))
        rows, columns = (-(-side * self._finer // self.encoder.stride) for side in size)
        return F.interpolate(y[..., :rows, :columns], size, mode="bilinear", align_corners=False)[:, 0]


class UpProjection(nn.Module):
    """relu(norm(conv3x3(relu(norm(up(x))))) + norm(up'(x))), with up and up' to twice the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = up_convolution(inputs, outputs)
        self.norm1 = normalisation(outputs, "batch")
        self.conv = convolution(outputs, outputs, 3, norm="batch")
        self.norm2 = normalisation(outputs, "batch")
        self.projection = up_convolution(inputs, outputs)
        self.norm3 = normalisation(outputs, "batch")

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, 2 H, 2 W)."""
        y = F.relu(self.norm1(self.up(x)), inplace=True)
        y = self.norm2(self.conv(y))
        return F.relu(y + self.norm3(self.projection(x)), inplace=True)


def up_convolution(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """Unpooling (each value in the corner of a 2x2 square of zeros) and a 5x5 convolution without bias, in one.

    No zero is multiplied: what Laina et al. make of four interleaved convolutions of 3x3, 2x3, 3x2 and 2x2 taps is the
    transposed convolution of stride 2. Its weights, (inputs, outputs, 5, 5), are the 5x5 ones turned by 180 degrees.
    """
    layer = nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1, bias=False)
    drawn = convolution(inputs, outputs, 5, norm="batch").weight.detach()
    layer.weight = nn.Parameter(drawn.transpose(0, 1).flip(2, 3).contiguous())
    return layer
