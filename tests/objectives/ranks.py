"""Ranks of one process: each holds a slice of the whole batch, and what it gathers is the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

Gather = Callable[[Tensor], Tensor]


def split(whole: list[Tensor], ranks: int) -> Iterator[tuple[list[Tensor], Gather, int]]:
    """Each rank's slices of the tensors, a gather that finds the tensor a slice is of, and where the slices begin."""
    size = len(whole[0]) // ranks
    for start in range(0, size * ranks, size):
        found = {tensor[start:].data_ptr(): tensor for tensor in whole}
        yield [x[start : start + size] for x in whole], lambda part, found=found: found[part.data_ptr()], start
