"""One batch: which images, what was drawn for them, and their crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.beton import Beton
from harness.data.draws import Draws

Integers = NDArray[np.int64]

# Draws the views of a part of the order: from where it lies in the order, and its images' positions in the file,
# heights and widths.
Drawer = Callable[[range, Integers, Integers, Integers], tuple[Draws, ...]]


@dataclass(frozen=True)
class Request:
    """What a batch is to hold: the images at `positions` of the file, which stand at `offset` in the order."""

    offset: range
    positions: Integers
    draws: tuple[Draws, ...]

    @property
    def boxes(self) -> Integers:
        """(B, V, 5): top, left, height, width and flip of each view of each image."""
        views = [(d.top, d.left, d.height, d.width, d.flip.astype(np.int64)) for d in self.draws]
        return np.ascontiguousarray(np.array(views, dtype=np.int64).transpose(2, 0, 1))


def requests(beton: Beton, order: Integers, batch: int, drawer: Drawer) -> Iterator[Request]:
    """The batches of an order, one after another; the last may be short."""
    for start in range(0, len(order), batch):
        positions = order[start : start + batch]
        offset = range(start, start + len(positions))
        draws = drawer(offset, positions, beton.heights[positions], beton.widths[positions])
        yield Request(offset, positions, draws)


@dataclass(frozen=True)
class Batch:
    """`pixels` has the crops of every image and view: uint8, (B, V, size, size, 3). `offset` is their place in the
    order, `index` their number in the source. `targets` is empty where images have nothing but a label.
    """

    offset: range
    index: Tensor
    label: Tensor
    pixels: Tensor
    draws: tuple[Draws, ...]
    targets: Sequence[bytes]

    @property
    def crops(self) -> tuple[Tensor, ...]:
        """The crops of each view: (B, size, size, 3)."""
        return self.pixels.unbind(1)

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on a device; the copy does not wait where memory is pinned."""
        if device.type == "cpu":
            return self
        index, label, pixels = (x.to(device, non_blocking=True) for x in (self.index, self.label, self.pixels))
        return replace(self, index=index, label=label, pixels=pixels)


def fill(beton: Beton, request: Request, pixels: Tensor) -> Batch:
    """The batch of a request whose crops have been made."""
    positions = request.positions
    targets = [beton.target(int(position)) for position in positions] if beton.targets else []
    index, label = (torch.from_numpy(x[positions]) for x in (beton.indices, beton.labels))
    return Batch(request.offset, index, label, pixels, request.draws, targets)


def room(request: Request, size: int) -> Tensor:
    """Memory for the crops of a request; pinned where a GPU will fetch it."""
    shape = (len(request.positions), len(request.draws), size, size, 3)
    return torch.empty(shape, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
