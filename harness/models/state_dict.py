"""State dicts in torchvision's names: torch's own files and safetensors, read and written without pickled code."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harness.config.errors import ConfigError
from harness.config.structure import StructureError, structure
from harness.models.conventions import Conventions


def read_torch(path: Path) -> dict[str, Tensor]:
    """A file of torch.save, by an unpickler of torch's that admits tensors alone."""
    if _compressed(path):  # torch itself never compresses, and a few bytes could unpack to any number
        raise ConfigError(f"{path} is a compressed archive, which torch.save does not write; refused")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken file makes of torch's reader
        asked = re.search(r"GLOBAL (\S+)", str(error))
        problem = f"is cut off or no file of torch.save ({type(error).__name__}); fetch it again"
        if asked is not None:
            problem = f"asks for {asked[1]}, which is no tensor; refused, nothing of it was run"
        raise ConfigError(f"{path} {problem}") from None
    named = isinstance(state, Mapping) and all(isinstance(name, str) for name in state)
    if not (named and all(isinstance(one, Tensor) and one.layout == torch.strided for one in state.values())):
        raise ConfigError(f"{path} is no plain state dict (names to tensors); save the model's state_dict() alone")
    if sum(tensor.nbytes for tensor in state.values()) > path.stat().st_size:  # views can repeat a number without end
        raise ConfigError(f"{path} claims more numbers than it holds; save the model's state_dict() alone")
    return dict(state)


def _compressed(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile):  # of an older form, or cut off, which torch says better
        return False


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], Conventions]:
    """The tensors, and the conventions that `harness export` notes."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            noted = file.metadata() or {}
            return tensors, structure(Conventions, {k: v for k, v in noted.items() if k in ("padding", "inputs")})
    except StructureError as error:
        raise ConfigError(f"{path}: its metadata: {error}") from None
    except SafetensorError as error:
        raise ConfigError(f"{path} is cut off or no safetensors file ({error}); fetch it again") from None
