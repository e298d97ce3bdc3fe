"""SimCLR's encoders in torchvision's names, against a network in TensorFlow and the names of the released size."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from harness.config.datasets import IMAGENET_MEAN, IMAGENET_STD
from harness.models.conventions import DEEPMIND, SIMCLR, TORCH, Conventions
from harness.models.resnet import ResNet
from harness.models.shape import MismatchError, build, fit
from harness.models.simclr import read_simclr, torchvision_names
from harness.models.tensorflow import Checkpoint, CheckpointError

CHECKPOINTS = Path(__file__).parents[1] / "golden" / "checkpoints"
TINY = "bottleneck-2-2x2-1x4-2x8-1x16"


def tiny(conventions: Conventions) -> ResNet:
    """The golden checkpoint's network."""
    encoder, width, state = fit(read_simclr(Checkpoint(CHECKPOINTS / "simclr_tiny.ckpt-3")))
    assert (encoder, width) == (TINY, 1)
    net = build(encoder, width, conventions).eval()
    net.load_state_dict(state)
    return net


def normalised(images: Tensor) -> Tensor:
    made: Tensor = F.normalize(images, IMAGENET_MEAN, IMAGENET_STD)
    return made


def test_a_checkpoint_embeds_as_in_tensorflow() -> None:
    """Protects order, layout, padding and inputs: TensorFlow's output of the same network and images, to 1e-4.

    The checkpoint and simclr_tiny_io.npz were made by TensorFlow 2.15 (tf.compat.v1.layers, in the order, with the
    padding and on the unit range of SimCLR's resnet.py and data_util.py), with random batch norms, on 48x48 images.
    """
    truth = np.load(CHECKPOINTS / "simclr_tiny_io.npz")
    images = normalised(torch.from_numpy(truth["inputs_nhwc_uint8"]).permute(0, 3, 1, 2) / 255)
    want = torch.from_numpy(truth["embedding"])
    with torch.no_grad():
        torch.testing.assert_close(tiny(SIMCLR)(images), want, rtol=1e-4, atol=1e-4)
        for other in (TORCH, DEEPMIND, Conventions("torch", "unit"), Conventions("same", "unit")):
            assert (tiny(other)(images) - want).abs().max() > 0.1, f"{other} matters, so the truth sees it"


def test_heads_and_slots_are_left_out() -> None:
    """Protects the encoder alone: the file has two heads and the momentum of some variables beside it."""
    checkpoint = Checkpoint(CHECKPOINTS / "simclr_tiny.ckpt-3")
    others = [name for name in checkpoint.entries if "head_" in name or name.endswith("Momentum")]
    assert len(others) > 10
    assert set(read_simclr(checkpoint)) == set(build(TINY, 1).state_dict())


def names_and_shapes(depths: tuple[int, ...], width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of a checkpoint's encoder, as resnet.py makes them: the stem; in each block the shortcut, then 1x1, 3x3, 1x1."""
    made = [(7, 3, 64 * width)]
    inputs = 64 * width
    for i, depth in enumerate(depths):
        channels = 64 * 2**i * width
        for j in range(depth):
            made += [(1, inputs, 4 * channels)] if j == 0 else []
            made += [(1, inputs, channels), (3, channels, channels), (1, channels, 4 * channels)]
            inputs = 4 * channels
    for i, (side, ins, outs) in enumerate(made):
        number = f"_{i}" if i else ""
        yield f"base_model/conv2d{number}/kernel", (side, side, ins, outs)
        for name in ("beta", "gamma", "moving_mean", "moving_variance"):
            yield f"base_model/batch_normalization{number}/{name}", (outs,)


def zeros(depths: tuple[int, ...] = (3, 4, 6, 3), width: int = 1) -> dict[str, np.ndarray]:
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in names_and_shapes(depths, width)}


@pytest.mark.parametrize(
    ("encoder", "width", "depths"),
    [("resnet50", 1, (3, 4, 6, 3)), ("resnet50", 2, (3, 4, 6, 3)), ("resnet101", 1, (3, 4, 23, 3))],
)
def test_the_released_sizes_have_every_tensor(encoder: str, width: int, depths: tuple[int, ...]) -> None:
    """Protects the names of the real files: every tensor of ours has one, none is left over, and the size is told."""
    arrays = zeros(depths, width)
    tensors = torchvision_names(arrays)
    assert len(tensors) == len(arrays)
    assert fit(tensors)[:2] == (encoder, width)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv2d/kernel": None}, r"base_model/conv2d/kernel is missing"),
        ({"conv2d_17/kernel": None}, r"base_model/conv2d_17/kernel is missing"),
        ({"batch_normalization_52/moving_variance": None}, r"batch_normalization_52/moving_variance is missing"),
        ({"batch_normalization_53/gamma": (64,)}, r"batch_normalization_53/gamma belongs to none of its 53 convol"),
        ({"conv2d_3/bias": (64,)}, r"conv2d_3/bias belongs to none"),
        ({"conv2d_3/kernel": (64, 64)}, r"base_model/conv2d_3/kernel has shape \(64, 64\); a kernel is"),
        ({"conv2d_3/kernel": (5, 5, 64, 64)}, r"base_model/conv2d_3/kernel has shape \(5, 5, 64, 64\); a kernel is"),
        ({"conv2d_3/kernel": (1, 1, 64, 64)}, r"the sides of its kernels are 7 1 1 1 1 1 3.*no selective kernels"),
    ],
)
def test_another_network_is_refused(changes: dict[str, tuple[int, ...] | None], message: str) -> None:
    """Protects from a wrong order: what is missing, left over or of another kind is named as the file names it."""
    arrays = zeros()
    for name, shape in changes.items():
        arrays.pop(f"base_model/{name}", None)
        if shape is not None:
            arrays[f"base_model/{name}"] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=message):
        torchvision_names(arrays)


def test_another_width_is_named() -> None:
    """Protects from layers that do not fit together: the first one, found and wanted."""
    arrays = zeros() | {"base_model/conv2d_3/kernel": np.zeros((3, 3, 64, 32), np.float32)}
    with pytest.raises(MismatchError, match=r"layer1\.0\.conv2\.weight: found 32x64x3x3 .*width 1 wants 64x64x3x3"):
        fit(torchvision_names(arrays))


def test_another_checkpoint_is_one_sentence() -> None:
    """Protects a person with a checkpoint of something else: the file, and what it lacks."""
    checkpoint = Checkpoint(CHECKPOINTS / "sharded.ckpt")
    with pytest.raises(CheckpointError, match=r"sharded\.ckpt\.index holds no ResNet of SimCLR's: base_model/conv2d/k"):
        read_simclr(checkpoint)


@pytest.mark.parametrize("padding", ["torch", "same", "same_pool"])
def test_plain_inputs_with_any_padding(padding: str) -> None:
    """Protects the border: what the first convolution pads with is black, 0 before any mean is taken off."""
    plain, unit = (tiny(Conventions(padding, inputs)) for inputs in ("normalised", "unit"))  # type: ignore[arg-type]
    images = torch.rand(2, 3, 40, 40, dtype=torch.float64)
    with torch.no_grad():
        want = plain.double()(images)
        torch.testing.assert_close(unit.double()(normalised(images)), want, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(deepcopy(unit)(normalised(images)), want, rtol=1e-9, atol=1e-9)
    assert set(unit.state_dict()) == set(plain.state_dict())


def test_same_padding_of_the_pool_alone() -> None:
    """Protects SimCLR's mixture: its strided convolutions pad as torch's, its max-pool does not."""
    net = build(TINY, 1, SIMCLR)
    assert net.conv1.padding == (3, 3)
    x = torch.rand(1, 2, 8, 8)
    assert torch.equal(net.pool(x)[0, 0, -1, -1], x[0, 0, 6:, 6:].max())
    assert torch.equal(net.pool(x)[0, 0, 0, 0], x[0, 0, :3, :3].max())
