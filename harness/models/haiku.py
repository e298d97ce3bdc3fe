"""DeepMind's released BYOL checkpoints: pickled haiku trees, read without running anything that they ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.config.errors import ConfigError
from harness.config.pickled import ARRAYS, Array, Budget, Named, PickleError, RefusedError, named_tuple, read_pickle

_HEADS = ("projector/", "predictor/", "classifier")
_BLOCK = re.compile(r"block_group_(\d+)/~/block_(\d+)/~/(?:(conv|batchnorm)_(\d+)|shortcut_(conv|batchnorm))")
_STEM = {"initial_conv": "conv1", "initial_batchnorm": "bn1"}


class HaikuError(ConfigError):
    """A pickle that is none of these checkpoints, or asks for what none of them needs."""


def read_haiku(path: Path) -> dict[str, Tensor]:
    """The online encoder of a checkpoint, in torchvision's names."""
    try:
        checkpoint = read_pickle(path, _ADMITTED)
    except RefusedError as error:
        raise HaikuError(f"{path} {error}, which no BYOL checkpoint needs; refused, nothing of it was run") from None
    except PickleError as error:
        raise HaikuError(f"{path} {error}; fetch it again") from None
    try:
        experiment = checkpoint["experiment_state"]
        parameters, state = experiment["online_params"], experiment["online_state"]
    except (KeyError, TypeError, IndexError):
        raise HaikuError(f"{path} holds no experiment_state with online_params and online_state") from None
    try:
        return torchvision_names(parameters, state)
    except (AttributeError, TypeError, ValueError) as error:  # no mapping, or no array, where one is expected
        raise HaikuError(f"{path} holds no ResNet: {error}") from None


def torchvision_names(parameters: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The encoder's tensors of a tree {module: {name: array}}; heads and classifier are left out."""
    tensors: dict[str, Tensor] = {}
    for module in sorted(parameters):
        if module.startswith(_HEADS):
            continue
        name, is_norm = _name(module)
        if not is_norm:
            tensors[f"{name}.weight"] = _tensor(parameters, module, "w").permute(3, 2, 0, 1)  # HWIO to OIHW
            continue
        tensors[f"{name}.weight"] = _tensor(parameters, module, "scale").flatten()
        tensors[f"{name}.bias"] = _tensor(parameters, module, "offset").flatten()
        # `hidden` is the average before haiku takes out its bias towards zero
        tensors[f"{name}.running_mean"] = _tensor(state, f"{module}/~/mean_ema", "average").flatten()
        tensors[f"{name}.running_var"] = _tensor(state, f"{module}/~/var_ema", "average").flatten()
    return tensors


def _name(module: str) -> tuple[str, bool]:
    """The name in torchvision of an encoder's module, and whether it is a batch norm."""
    inner = module.partition("/~/")[2]
    if inner in _STEM:
        return _STEM[inner], inner.endswith("batchnorm")
    if (found := _BLOCK.fullmatch(inner)) is None:
        raise ValueError(f"its module {module} is none of a ResNet of version 1")
    group, block, kind, number, shortcut = found.groups()
    prefix = f"layer{int(group) + 1}.{block}"
    if shortcut is not None:
        return f"{prefix}.downsample.{int(shortcut == 'batchnorm')}", shortcut == "batchnorm"
    return f"{prefix}.{'bn' if kind == 'batchnorm' else 'conv'}{int(number) + 1}", kind == "batchnorm"


def _tensor(tree: Mapping[str, Any], module: str, name: str) -> Tensor:
    """A leaf of the tree; those of an encoder have four dimensions all, batch norm's (1, 1, 1, channels)."""
    leaf = tree.get(module, {}).get(name)
    if leaf is None:
        raise ValueError(f"{module} has no {name}")
    array = leaf.numpy("f[248]") if isinstance(leaf, Array) else np.asarray(leaf)
    if array.ndim != 4:
        raise ValueError(f"{module}: {name} has {array.ndim} dimensions, not 4")
    return torch.from_numpy(array.astype(np.float32))


def _array(budget: Budget, _make: Any, _arguments: Any, state: Any, _attributes: Any = None) -> Array:
    """Stands for dill's _create_array."""
    array = Array(budget)
    array.state = state
    return array


def _mapping(_budget: Budget, items: Any) -> Any:
    """Stands for haiku's immutable mappings, by the very dictionary that it wraps."""
    return items


_STATE = named_tuple(("online_params", "target_params", "online_state", "target_state", "opt_state"))
_SCALAR = Named(lambda _budget, _kind, _data: None)  # stands for a numpy scalar; none is a weight
_ADMITTED = ARRAYS | {
    "numpy.core.multiarray.scalar": _SCALAR,
    "numpy._core.multiarray.scalar": _SCALAR,
    "dill._dill._create_array": Named(_array),
    "dill._dill._create_namedtuple": Named(lambda _budget, _name, fields, *_: named_tuple(fields)),
    "haiku._src.data_structures.FlatMapping": Named(_mapping),
    "haiku._src.data_structures.frozendict": Named(_mapping),
    "byol.byol_experiment._ByolExperimentState": _STATE,
    "__main__._ByolExperimentState": _STATE,
}
