"""The fully convolutional network for semantic segmentation, FCN-16s as in MoCo (BYOL's Appendix D.4)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from harness.models.initial import initialise
from harness.models.norm import normalisation
from harness.models.resnet import ResNet, convolution

CHANNELS = 256  # of the head's two convolutions
STAGE_DILATION, HEAD_DILATION = 2, 6


class FCN(nn.Module):
    """The encoder's convolutions, two dilated 3x3 convolutions with batch norm and ReLU, a 1x1 classifier of pixels.

    The last stage keeps its input's resolution, with 3x3 convolutions dilated by 2, all of them as the paper says: the
    total stride is 16 in place of 32. `encoder` itself is changed so, and trained; its parameters keep their names.
    """

    def __init__(self, encoder: ResNet, classes: int) -> None:
        super().__init__()
        dilate(encoder.get_submodule(encoder.stages[-1]), STAGE_DILATION)
        self.encoder = encoder
        layers: list[nn.Module] = []
        for inputs in (encoder.features, CHANNELS):
            layers += [convolution(inputs, CHANNELS, 3, norm="batch"), normalisation(CHANNELS, "batch")]
            layers.append(nn.ReLU(inplace=True))
        self.head = nn.Sequential(*layers)
        dilate(self.head, HEAD_DILATION)
        self.classifier = nn.Conv2d(CHANNELS, classes, 1)
        initialise(self.classifier)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of images (B, 3, H, W).

        The bilinear enlargement takes corners to corners: the maps' position i is pixel 16 i, as it should be, where
        the side is 1 plus a multiple of 16, as 513 is.
        """
        coarse = self.classifier(self.head(self.encoder.maps(x, self.encoder.stages)))
        return F.interpolate(coarse, x.shape[-2:], mode="bilinear", align_corners=True)


def dilate(module: nn.Module, dilation: int) -> None:
    """Give every convolution below a stride of 1, and wider ones than 1x1 this dilation; no weight changes."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)
            if layer.kernel_size != (1, 1):
                layer.dilation = (dilation, dilation)
                # where SAME pads (harness/models/padding.py) it is 0, and stays so
                layer.padding = (dilation * int(layer.padding[0]), dilation * int(layer.padding[1]))
