"""The encoders that evaluations measure."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from harness.config.schema import Evaluation, Imported, Pretrain, RandomEncoder, Spec
from harness.launch.specs import read_spec
from harness.models.conventions import Conventions
from harness.models.resnet import ResNet
from harness.models.shape import build
from harness.tracking.record import Runs


def encoder_of(runs: Runs, key: str) -> ResNet:
    """The encoder that an evaluation measures."""
    spec = read_spec(runs, key)
    if isinstance(spec, RandomEncoder):
        torch.manual_seed(spec.seed)
        return architecture(spec)
    encoder = architecture(spec)
    encoder.load_state_dict(load_file(runs.folder(key) / "encoder.safetensors"))
    return encoder


def architecture(spec: Spec) -> ResNet:
    """The encoder of a subject, as it is before anything is loaded into it."""
    assert not isinstance(spec, Evaluation), "an evaluation is no subject"
    if isinstance(spec, Imported):
        return build(spec.encoder, spec.width, Conventions(spec.padding, spec.inputs))
    model = spec.model if isinstance(spec, Pretrain) else spec
    return ResNet(model.encoder, model.width, model.norm)
