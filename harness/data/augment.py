"""Views: drawn parameters applied to a batch of crops, by the definitions of DeepMind's released code.

Crops come as uint8 NHWC and views leave as normalised float NCHW. The single operations are pure functions on float
NCHW tensors in [0, 1], one parameter an image, at any float type and on any device: they are the GPU's path, where
they are compiled into a few kernels, and the reference of the CPU's, which is colour.py.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.draws import Draws

LUMA = (0.2989, 0.587, 0.114)
KEYS_A = -0.5


def views(
    crops: Tensor, draws: Draws, mean: tuple[float, float, float], std: tuple[float, float, float], threads: int = 1
) -> Tensor:
    """The drawn view of every crop: RandAugment's operations, colour, grey, blur, solarize, and normalised last.

    `threads` are the CPU's.
    """
    fast = _fast("colour") if crops.device.type == "cpu" else None
    if fast is not None:
        return torch.from_numpy(fast.views(_operated(crops, draws).numpy(), draws, mean, std, threads))
    return by_torch(crops, draws, mean, std)


def by_torch(
    crops: Tensor,
    draws: Draws,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """`views` in torch: on a GPU, where numba is not installed, and at float64 the truth for both."""
    taps = blur_taps(crops.shape[1])
    with torch.no_grad(), torch.autocast(crops.device.type, enabled=False):
        x = _operated(crops, draws).permute(0, 3, 1, 2).to(dtype).div_(255)
        if draws.jitter.any() or draws.grayscale.any():  # else a GPU need not compile them
            on = {name: torch.from_numpy(getattr(draws, name)).to(x.device) for name in COLOURS}
            x = (_compiled() if x.is_cuda else colours)(x, on)
        if taps > 1:
            x = _where(draws.blur, x, lambda part, sigma: blur(part, sigma, taps), draws.sigma)
        x = _where(draws.solarize, x, solarize)
        return normalize(x.clamp_(0, 1), mean, std)


def crop(pixels: Tensor, draws: Draws, size: int) -> Tensor:
    """The drawn crops of uint8 NHWC pixels, resized to `size` and rounded to uint8: NHWC."""
    fast = _fast("bicubic") if pixels.device.type == "cpu" else None
    if fast is not None:
        boxes = np.stack([draws.top, draws.left, draws.height, draws.width, draws.flip.astype(np.int64)], axis=1)
        out = np.empty((len(pixels), size, size, 3), np.uint8)
        fast.crop_all(pixels.contiguous().numpy(), boxes, out)
        return torch.from_numpy(out)
    return crop_float(pixels, draws, size).mul_(255).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _operated(crops: Tensor, draws: Draws) -> Tensor:
    if not draws.operations.size:
        return crops
    from harness.data.randaugment import randaugment  # noqa: PLC0415 - imports torchvision, for few runs

    return randaugment(crops, draws)


@functools.cache
def _fast(module: str) -> ModuleType | None:
    """The compiled twin of this file's operations, where numba is installed."""
    try:
        return importlib.import_module(f"harness.data.{module}")
    except ImportError:
        return None


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


# What `colours` reads of the draws.
COLOURS = ("jitter", "brightness", "contrast", "saturation", "hue", "order", "grayscale")


def colours(x: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
    """Jitter and grey by tensors of COLOURS. Every operation is made for every image and kept where it was drawn:
    without branches, a compiler fuses them into one pass for each of the four places in the order.
    """
    operations = (brightness, contrast, saturation, hue)
    strengths = [draws[name].to(x.dtype) for name in ("brightness", "contrast", "saturation", "hue")]
    for place in range(len(operations)):
        here = draws["order"][:, place]
        result = x
        for number, (operation, strength) in enumerate(zip(operations, strengths, strict=True)):
            result = torch.where(_each(draws["jitter"] & (here == number)), operation(x, strength), result)
        x = result
    return torch.where(_each(draws["grayscale"]), grayscale(x), x)


@functools.cache
def _compiled() -> Callable[[Tensor, Mapping[str, Tensor]], Tensor]:
    """`colours` compiled for the GPU."""
    return torch.compile(colours, dynamic=False)


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
