"""How this room compiles: by numba, once for every process of a machine, and without holding Python's lock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

# Whatever a kernel may compile in: other kernels, and constants.
SOURCES = ("augment.py", "bicubic.py", "colour.py", "kernel.py", "lanes.py", "turbojpeg.py")


def _digest() -> str:
    content = b"".join((Path(__file__).parent / name).read_bytes() for name in SOURCES)
    return hashlib.sha256(content).hexdigest()


VERSION = _digest()


class Cache(FunctionCache):
    """Code on disk, under the version of all sources: numba's own looks at the function's file alone."""

    def _index_key(self, signature: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(signature, codegen), VERSION)


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function for numbers and arrays. The code is kept on disk, or made anew where nothing can be kept."""
    if function is None:
        return lambda decorated: kernel(decorated, **options)
    compiled = njit(nogil=True, **options)(function)
    try:
        compiled._cache = Cache(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return compiled
    return compiled
