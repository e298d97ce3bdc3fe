"""What tells one set of tensors from another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from torch import Tensor


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Of names, shapes and single-precision values, whatever file or device they are in."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name}{list(tensors[name].shape)}".encode())
        digest.update(np.ascontiguousarray(tensors[name].cpu().numpy(), dtype="<f4").data)
    return digest.hexdigest()
