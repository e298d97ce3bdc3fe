"""What evaluations start from: the encoder alone."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from harness.config.durable import write_durably
from harness.models.resnet import ResNet


def save_encoder(path: Path, encoder: ResNet) -> None:
    """Parameters and running statistics, under torchvision's names."""
    tensors = {name: value.contiguous() for name, value in encoder.state_dict().items()}
    write_durably(path, lambda file: file.write(save(tensors)))
