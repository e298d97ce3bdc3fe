"""Batches with neither FFCV nor numba: torchvision decodes, torch crops, threads share the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from harness.data import augment
from harness.data.batch import Batch, Drawer, Integers, Request, fill, requests, room
from harness.data.beton import Beton
from harness.data.draws import Draws
from harness.data.errors import DataError

AHEAD = 2  # batches under way


class Plain:
    """The same views as FFCV's back end makes; decoders may differ by a level."""

    def __init__(self, beton: Beton, threads: int) -> None:
        self.beton = beton
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="crops")

    def batches(self, order: Integers, batch: int, size: int, drawer: Drawer) -> Generator[Batch, None, None]:
        """The crops of the images at these positions; a batch or two are made in advance."""
        under_way: deque[tuple[Request, Tensor, list[Future[None]]]] = deque()
        try:
            for request in requests(self.beton, order, batch, drawer):
                under_way.append(self._start(request, size))
                if len(under_way) > AHEAD:
                    yield self._finish(*under_way.popleft())
            while under_way:
                yield self._finish(*under_way.popleft())
        finally:
            for *_, jobs in under_way:
                for job in jobs:
                    job.cancel()

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown(cancel_futures=True)

    def _start(self, request: Request, size: int) -> tuple[Request, Tensor, list[Future[None]]]:
        pixels = room(request, size)
        jobs = [self.pool.submit(self._crop, request, row, pixels[row]) for row in range(len(request.positions))]
        return request, pixels, jobs

    def _finish(self, request: Request, pixels: Tensor, jobs: list[Future[None]]) -> Batch:
        for job in jobs:
            job.result()
        return fill(self.beton, request, pixels)

    def _crop(self, request: Request, row: int, out: Tensor) -> None:
        """All views of one image into `out`, (V, size, size, 3)."""
        image = decoded(self.beton, int(request.positions[row]))[None]
        for view, draws in zip(out, request.draws, strict=True):
            one = Draws(**{field.name: getattr(draws, field.name)[row : row + 1] for field in fields(Draws)})
            view.copy_(augment.crop(image, one, out.shape[1])[0])


def decoded(beton: Beton, position: int) -> Tensor:
    """The pixels of an image, (H, W, 3) in uint8; a JPEG file by the slow, exact DCT."""
    data = torch.from_numpy(beton.image(position).copy())
    if beton.encoding == "rgb":
        return data.view(int(beton.heights[position]), int(beton.widths[position]), 3)
    try:
        return decode_jpeg(data, mode=ImageReadMode.RGB).permute(1, 2, 0)
    except RuntimeError as error:
        raise DataError(
            f"{beton.path}: image {beton.indices[position]} cannot be decoded ({error}); "
            f"run `harness prepare {beton.path.parent.name} --check`"
        ) from error
