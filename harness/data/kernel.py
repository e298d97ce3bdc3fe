"""How this room compiles: by numba, once for every process of a machine, and without holding Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function for numbers and arrays. The code is kept on disk, or made anew where nothing can be kept.

    Numba notices a change in the function's own file only: after editing a file whose functions or constants others
    compile in, remove the `.nbi` files from the cache.
    """
    if function is None:
        return lambda decorated: kernel(decorated, **options)
    try:
        return njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return njit(nogil=True, **options)(function)
