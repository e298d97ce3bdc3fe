"""SimCLR's released encoders (v1: ResNet-50 of widths 1, 2 and 4), in torchvision's names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from harness.models.tensorflow import Checkpoint, CheckpointError

# Neither heads nor an optimizer's slots, which are one level deeper.
_ENCODER = re.compile(r"base_model/(conv2d|batch_normalization)(_\d+)?/\w+")
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_KERNELS = re.compile(r"7(1131(131)*)+")  # the sides of a bottleneck ResNet's kernels, as they were made


def read_simclr(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The encoder of a checkpoint; the heads are left out."""
    try:
        return torchvision_names({n: checkpoint.tensor(n) for n in checkpoint.entries if _ENCODER.fullmatch(n)})
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.index} holds no ResNet of SimCLR's: {error}") from None


def torchvision_names(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The tensors of an encoder: TensorFlow numbers convolutions, and batch norms with them, in order of creation."""
    layers = _layers(_sides(arrays))
    tensors: dict[str, Tensor] = {}
    rest = set(arrays)
    for i, (conv, norm) in enumerate(layers):
        number = f"_{i}" if i else ""
        theirs = {f"base_model/conv2d{number}/kernel": f"{conv}.weight"}
        theirs |= {f"base_model/batch_normalization{number}/{k}": f"{norm}.{name}" for k, name in _NORM.items()}
        for name, ours in theirs.items():
            if name not in arrays:
                raise ValueError(f"{name} is missing")
            tensors[ours] = torch.from_numpy(arrays[name].astype(np.float32))
            rest.discard(name)
        tensors[f"{conv}.weight"] = tensors[f"{conv}.weight"].permute(3, 2, 0, 1)  # HWIO to OIHW
    if rest:
        raise ValueError(f"{min(rest)} belongs to none of its {len(layers)} convolutions")
    return tensors


def _sides(arrays: Mapping[str, np.ndarray]) -> str:
    """One digit for each convolution: the side of its kernel."""
    sides = ""
    for i in range(max(1, sum(name.endswith("/kernel") for name in arrays))):
        name = f"base_model/conv2d_{i}/kernel" if i else "base_model/conv2d/kernel"
        if name not in arrays:
            raise ValueError(f"{name} is missing")
        shape = arrays[name].shape
        if len(shape) != 4 or shape[0] not in (1, 3, 7):
            raise ValueError(f"{name} has shape {shape}; a kernel is 1, 3 or 7 x the same x inputs x outputs")
        sides += str(shape[0])
    return sides


def _layers(sides: str) -> list[tuple[str, str]]:
    """Names of each convolution and its batch norm. A block makes its shortcut's first, where it has one."""
    if _KERNELS.fullmatch(sides) is None:
        wanted = "a 7 and then 1 1 3 1 or 1 3 1 for each block (no selective kernels)"
        raise ValueError(f"the sides of its kernels are {' '.join(sides)}, not {wanted}")
    layers = [("conv1", "bn1")]
    stage = block = 0
    for kernels in re.findall("1131|131", sides[1:]):
        stage, block = (stage + 1, 0) if kernels == "1131" else (stage, block + 1)
        prefix = f"layer{stage}.{block}"
        if block == 0:
            layers.append((f"{prefix}.downsample.0", f"{prefix}.downsample.1"))
        layers += [(f"{prefix}.conv{i}", f"{prefix}.bn{i}") for i in (1, 2, 3)]
    return layers
