"""Small sets of raw images of one size, decoded whole in the memory of the device that trains."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor

from harness.data import augment
from harness.data.batch import Batch, Drawer, Integers, Request, fill, requests
from harness.data.beton import Beton


class Resident:
    """All images of a .beton as one tensor."""

    def __init__(self, beton: Beton, device: torch.device) -> None:
        self.beton = beton
        self.pixels = torch.from_numpy(beton.pixels(np.arange(len(beton)))).to(device)

    def batches(self, order: Integers, batch: int, size: int, drawer: Drawer) -> Generator[Batch, None, None]:
        """The crops of the images at these positions, made when asked for."""
        for request in requests(self.beton, order, batch, drawer):
            yield fill(self.beton, request, self._crops(request, size))

    def close(self) -> None:
        """Nothing runs."""

    def _crops(self, request: Request, size: int) -> Tensor:
        positions = torch.from_numpy(request.positions).to(self.pixels.device)
        images = self.pixels.index_select(0, positions)
        return torch.stack([augment.crop(images, draws, size) for draws in request.draws], dim=1)
