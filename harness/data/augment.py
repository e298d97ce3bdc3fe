"""Views: drawn parameters applied to a batch of images, by the definitions of DeepMind's released code.

Pixels come as uint8 NHWC, all of one size; views leave as normalised float NCHW. The single operations are
pure functions on float NCHW tensors in [0, 1], one parameter an image, at any float type and on any device.
Each operation touches only the images it was drawn for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.draws import Draws

LUMA = (0.2989, 0.587, 0.114)
KEYS_A = -0.5


def views(
    pixels: Tensor, draws: Draws, size: int, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """The drawn view of every image, `size` pixels square: crop, flip, colour, blur, solarize, and normalised last."""
    taps = blur_taps(size)
    with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False):
        x = crop(pixels, draws, size).float().div_(255)
        x = jitter(x, draws)
        x = _where(draws.grayscale, x, grayscale)
        if taps > 1:
            x = _where(draws.blur, x, lambda part, sigma: blur(part, sigma, taps), draws.sigma)
        x = _where(draws.solarize, x, solarize)
        return normalize(x.clamp_(0, 1), mean, std)


def crop(pixels: Tensor, draws: Draws, size: int) -> Tensor:
    """The drawn crops of uint8 NHWC pixels, resized to `size` and rounded to uint8: NCHW."""
    return crop_float(pixels, draws, size).mul_(255).round_().to(torch.uint8)


def crop_float(pixels: Tensor, draws: Draws, size: int) -> Tensor:
    """The drawn crops in [0, 1] before rounding: bicubic, no antialiasing, clipped.

    Bicubic resizing is linear and separable, so a crop is rows @ image @ columns^T, and a flip is its columns
    reversed.
    """
    batch, height, width, channels = pixels.shape
    rows = _resize(draws.top, draws.height, height, size, pixels.device)
    columns = _resize(draws.left, draws.width, width, size, pixels.device)
    flip = torch.from_numpy(draws.flip).to(pixels.device)
    columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    x = torch.bmm(rows, pixels.reshape(batch, height, width * channels).float())
    x = x.view(batch, size, width, channels).permute(0, 3, 1, 2).reshape(batch, channels * size, width)
    x = torch.bmm(x, columns.transpose(1, 2))
    return x.view(batch, channels, size, size).div_(255).clamp_(0, 1)


def jitter(x: Tensor, draws: Draws) -> Tensor:
    """Brightness, contrast, saturation and hue of the images with `jitter`, each image in its own drawn order."""
    operations: tuple[tuple[Callable[..., Tensor], np.ndarray, float], ...] = (
        (brightness, draws.brightness, 0.0),
        (contrast, draws.contrast, 1.0),
        (saturation, draws.saturation, 1.0),
        (hue, draws.hue, 0.0),
    )
    x = x.clone()
    effective = [draws.jitter & (strength != neutral) for _, strength, neutral in operations]
    for place in draws.order.T:
        for number, (operation, strength, _) in enumerate(operations):
            x = _where(effective[number] & (place == number), x, operation, strength)
    return x


def brightness(x: Tensor, delta: Tensor) -> Tensor:
    """Delta added to every channel, clipped."""
    return (x + _each(delta)).clamp_(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Each channel scaled about its own mean over the image, clipped."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    return torch.lerp(mean, x, _each(factor).expand_as(x)).clamp_(0, 1)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """S of HSV scaled and clipped to [0, 1].

    At fixed H and V every channel is V - S * (a function of H), so V - channel scales as S does. S is (V - min) / V.
    """
    value, least = _extremes(x)
    limit = value / (value - least).clamp_(min=torch.finfo(x.dtype).tiny)  # where S reaches 1
    scale = torch.minimum(_each(factor).clamp(min=0), limit.unsqueeze(1))
    value = value.unsqueeze(1)
    return torch.addcmul(value, value - x, scale, value=-1).clamp_(0, 1)


def hue(x: Tensor, delta: Tensor) -> Tensor:
    """H of HSV turned by delta, a part of the circle.

    A channel of the turned colour is V - (V - min) * clip(2 - 6 d, 0, 1), where d is how far the hue is,
    round the circle, from that channel's opposite: cyan (1/2) for red, magenta (5/6) for green, yellow (1/6)
    for blue.
    """
    red, green, blue = x.unbind(1)
    value, least = _extremes(x)
    span = value - least
    sixths = torch.where(
        red == value,
        green - blue,
        torch.where(green == value, (blue - red).add_(span, alpha=2), (red - green).add_(span, alpha=4)),
    )
    turn = sixths.div_(6 * span.clamp(min=torch.finfo(x.dtype).tiny))
    opposite = torch.tensor((1 / 2, 5 / 6, 1 / 6), dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    distance = turn.unsqueeze(1) + (_each(delta) - opposite)
    distance -= distance.round()
    weight = distance.abs_().mul_(-6).add_(2).clamp_(0, 1)
    return torch.addcmul(value.unsqueeze(1), span.unsqueeze(1), weight, value=-1).clamp_(0, 1)


def grayscale(x: Tensor) -> Tensor:
    """Luma in all three channels."""
    luma = torch.tensor(LUMA, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return (x * luma).sum(1, keepdim=True).repeat(1, 3, 1, 1)


def blur_taps(size: int) -> int:
    """Width of the blur's kernel: 23 at 224 pixels, a tenth of the image in general."""
    return 2 * int(size / 20) + 1


def blur(x: Tensor, sigma: Tensor, taps: int) -> Tensor:
    """Gaussian blur with a kernel of `taps`, separable, zeros outside the image, not clipped."""
    batch, channels, height, width = x.shape
    distance = torch.arange(taps, dtype=x.dtype, device=x.device) - taps // 2
    kernel = torch.exp(-(distance**2) / (2 * sigma.to(x)[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    planes = x.reshape(1, batch * channels, height, width)
    planes = F.conv2d(planes, kernel[:, None, :, None], padding=(taps // 2, 0), groups=batch * channels)
    planes = F.conv2d(planes, kernel[:, None, None, :], padding=(0, taps // 2), groups=batch * channels)
    return planes.view(batch, channels, height, width)


def solarize(x: Tensor) -> Tensor:
    """Values of at least one half inverted."""
    return torch.where(x < 0.5, x, 1 - x)


def normalize(x: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """(x - mean) / std, by channel."""
    centre = torch.tensor(mean, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    scale = torch.tensor(std, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return (x - centre) / scale


def _extremes(x: Tensor) -> tuple[Tensor, Tensor]:
    """The largest and the smallest channel of every pixel (several times faster than amax and amin over three)."""
    red, green, blue = x.unbind(1)
    return torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)


def _each(parameter: Tensor) -> Tensor:
    """One number an image, shaped to broadcast over its pixels."""
    return parameter.view(-1, 1, 1, 1)


def _where(mask: np.ndarray, x: Tensor, operation: Callable[..., Tensor], strength: np.ndarray | None = None) -> Tensor:
    """`operation` on the images of `mask` alone; may write into `x`."""
    rows = np.flatnonzero(mask)
    if rows.size == 0:
        return x
    parameters = () if strength is None else (torch.from_numpy(strength[rows]).to(x),)
    if rows.size == len(x):
        return operation(x, *parameters)
    where = torch.from_numpy(rows).to(x.device)
    return x.index_copy_(0, where, operation(x.index_select(0, where), *parameters))


def _resize(start: np.ndarray, length: np.ndarray, source: int, size: int, device: torch.device) -> Tensor:
    """Weights (batch, size, source) that resize pixels start .. start + length of one axis to `size`.

    Keys' cubic kernel with a = -1/2 at half-pixel centres: output i samples (i + 1/2) * length / size - 1/2
    from the four pixels around it. Those outside the crop are dropped and the weights renormalised.
    """
    begin, extent = (torch.from_numpy(each).to(device)[:, None] for each in (start, length))
    centres = (torch.arange(size, device=device)[None] + 0.5) * (extent / size) - 0.5
    first = centres.floor()
    taps = first.long()[..., None] + torch.arange(-1, 3, device=device)
    inside = (taps >= 0) & (taps < extent[..., None])
    weights = _keys((centres - first)[..., None] - torch.arange(-1, 3, device=device)) * inside
    weights = weights / weights.sum(-1, keepdim=True)
    where = (taps + begin[..., None]).clamp_(0, source - 1)
    return torch.zeros(len(start), size, source, device=device).scatter_add_(2, where, weights.float())


def _keys(offset: Tensor) -> Tensor:
    """Keys' cubic convolution kernel (1981) at a distance of at most 2."""
    d = offset.abs()
    near = ((KEYS_A + 2) * d - (KEYS_A + 3)) * d * d + 1
    far = KEYS_A * (((d - 5) * d + 8) * d - 4)
    return torch.where(d <= 1, near, far)
