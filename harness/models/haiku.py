"""DeepMind's released BYOL checkpoints: pickled haiku trees, read without running anything that they ask for."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.config.errors import ConfigError

# what the unpickler makes of a file that is cut off or no pickle
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)
_HEADS = ("projector/", "predictor/", "classifier")
_BLOCK = re.compile(r"block_group_(\d+)/~/block_(\d+)/~/(?:(conv|batchnorm)_(\d+)|shortcut_(conv|batchnorm))")
_STEM = {"initial_conv": "conv1", "initial_batchnorm": "bn1"}


class HaikuError(ConfigError):
    """A pickle that is none of these checkpoints, or asks for what none of them needs."""


def read_haiku(path: Path) -> dict[str, Tensor]:
    """The online encoder of a checkpoint, in torchvision's names."""
    with path.open("rb") as file:
        try:
            checkpoint = _Unpickler(file).load()
        except HaikuError as error:
            raise HaikuError(f"{path} {error}") from None
        except _BROKEN as error:
            raise HaikuError(f"{path} is cut off or no pickle ({error}); fetch it again") from None
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
    array = leaf.numpy() if isinstance(leaf, _Array) else np.asarray(leaf)
    if array.ndim != 4:
        raise ValueError(f"{module}: {name} has {array.ndim} dimensions, not 4")
    return torch.from_numpy(array.astype(np.float32))


class _Array:
    """Stands for numpy.ndarray: keeps what an array's pickle says until it is asked for its numbers."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def numpy(self) -> np.ndarray:
        """Floating-point numbers alone; anything else is no weight."""
        _, shape, kind, columns_first, data = self.state
        if not (isinstance(kind, _Kind) and re.fullmatch(r"f[248]", kind.code) and isinstance(data, bytes)):
            raise ValueError("an array of it holds no floating-point numbers")
        return np.frombuffer(data, kind.order + kind.code).reshape(shape, order="F" if columns_first else "C")


class _Kind:
    """Stands for numpy.dtype."""

    order = "<"

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _encode(text: str, encoding: str) -> bytes:
    """Stands for _codecs.encode: how pickles of protocol 2 hold bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return text.encode("latin1")


def _array(_make: Any, _arguments: Any, state: Any, _attributes: Any = None) -> _Array:
    """Stands for dill's _create_array."""
    array = _Array()
    array.__setstate__(state)
    return array


def _scalar(_kind: Any, _data: bytes) -> None:
    """Stands for a numpy scalar; none is a weight."""


def _mapping(items: Mapping[str, Any]) -> dict[str, Any]:
    """Stands for haiku's immutable mappings."""
    return dict(items)


def _named_tuple(_name: str, fields: tuple[str, ...], _module: str, _defaults: Any = None) -> type:
    """Stands for dill's _create_namedtuple: a type whose instances are plain dicts."""
    return type("_NamedTuple", (), {"__new__": lambda _, *values: dict(zip(fields, values, strict=True))})


_STATE = _named_tuple(
    "_ByolExperimentState",
    ("online_params", "target_params", "online_state", "target_state", "opt_state"),
    "byol.byol_experiment",
)
_ADMITTED: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _encode,
    "numpy.ndarray": _Array,
    "numpy.dtype": _Kind,
    "numpy.core.multiarray._reconstruct": lambda *_: _Array(),
    "numpy._core.multiarray._reconstruct": lambda *_: _Array(),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "dill._dill._create_array": _array,
    "dill._dill._create_namedtuple": _named_tuple,
    "haiku._src.data_structures.FlatMapping": _mapping,
    "haiku._src.data_structures.frozendict": _mapping,
    "byol.byol_experiment._ByolExperimentState": _STATE,
    "__main__._ByolExperimentState": _STATE,
}


class _Unpickler(pickle.Unpickler):
    """Numbers, text and plain containers; what else the checkpoints name is inert, and all other names are refused."""

    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if asked not in _ADMITTED:
            raise HaikuError(f"asks for {asked}, which no BYOL checkpoint needs; refused, nothing of it was run")
        return _ADMITTED[asked]
