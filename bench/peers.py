"""One system under measurement, in a process of its own: `python bench/peers.py SYSTEM SAMPLE FOLDER`.

It runs on the CPUs it was started on, with as many threads or worker processes. When warm it says `ready`; then every
line on stdin asks for a round, answered by a line of JSON: images, wall seconds, and CPU seconds of the process and its
workers. bench/loader.py asks. All systems see the same images in the same order, in batches of 64.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import io
import json
import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as v1
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import InterpolationMode, v2

from harness.config.datasets import IMAGENET_MEAN, IMAGENET_STD
from harness.config.schema import View
from harness.data.augment import views
from harness.data.draws import ASPECT, Draws, draw
from harness.data.loader import Loader
from harness.data.writer import Sample as StoredSample
from harness.data.writer import write

ROOT = Path(__file__).resolve().parents[1]
BATCH = 64
SIZE = 224
BLUR_TAPS = 23
BATCHES_A_PASS = 4  # for each core: 256 images go once through the 250 of the usual sample
SECONDS = 2.0  # a round is at least this long
TJPF_RGB, TJFLAG_ACCURATEDCT = 0, 4096  # from turbojpeg.h; Pillow's and torchvision's decoders use the same, exact DCT

Views = Sequence[Any]  # one entry a view, with an entry an image
TABLE_6 = tuple(
    View(**{name: tuple(value) if isinstance(value, list) else value for name, value in column.items()})
    for column in yaml.safe_load((ROOT / "experiments" / "views" / "byol.yaml").read_text()).values()
)


class System(Protocol):
    """What is measured: batches of two views of the images at these positions of the sample."""

    def batches(self, order: NDArray[np.int64]) -> Iterator[Views]:
        """Every image of `order` once, 64 at a time."""


class Ours:
    """This project's own path: a .beton of the original files, its loader, and its views on the CPU."""

    def __init__(self, files: list[bytes], folder: Path, cores: int, complete: bool) -> None:
        self._images, self._cores, self._complete = len(files), cores, complete
        sizes = [Image.open(io.BytesIO(file)).size for file in files]
        samples = (
            StoredSample(image=file, target=b"", label=0, index=number, height=height, width=width)
            for number, (file, (width, height)) in enumerate(zip(files, sizes, strict=True))
        )
        beton = folder / "ours.beton"
        write(beton, "jpeg", samples, len(files))
        self._loader = Loader(beton, BATCH, SIZE, threads=cores)

    def batches(self, order: NDArray[np.int64]) -> Iterator[Views]:
        """The crops, or with the colour operations on them."""
        for batch in self._loader.batches(order, self._draws):
            if self._complete:
                pairs = zip(batch.crops, batch.draws, strict=True)
                yield tuple(views(crops, drawn, IMAGENET_MEAN, IMAGENET_STD, self._cores) for crops, drawn in pairs)
            else:
                yield batch.crops

    def _draws(self, offset: range, index: np.ndarray, height: np.ndarray, width: np.ndarray) -> tuple[Draws, ...]:
        epoch = np.asarray(offset) // self._images
        return tuple(
            draw(view, seed=0, epoch=epoch, index=index, view_number=number, height=height, width=width)
            for number, view in enumerate(TABLE_6)
        )


class Floor:
    """libjpeg-turbo decoding file after file into one buffer a thread, and nothing else."""

    def __init__(self, files: list[bytes], cores: int) -> None:
        self._files = files
        self._sizes = [Image.open(io.BytesIO(file)).size for file in files]
        self._library = ctypes.CDLL(ctypes.util.find_library("turbojpeg"))
        self._library.tjInitDecompress.restype = ctypes.c_void_p
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(cores, initializer=self._prepare)

    def batches(self, order: NDArray[np.int64]) -> Iterator[Views]:
        """What was decoded, as positions: there are no views."""
        for part in self._pool.map(self._decode, np.split(order, len(order) // BATCH)):
            yield (part,)

    def _prepare(self) -> None:
        self._own.handle = ctypes.c_void_p(self._library.tjInitDecompress())
        self._own.pixels = ctypes.create_string_buffer(3 * max(width * height for width, height in self._sizes))

    def _decode(self, part: NDArray[np.int64]) -> NDArray[np.int64]:
        handle, pixels = self._own.handle, self._own.pixels
        for position in part:
            file, (width, height) = self._files[position], self._sizes[position]
            size = ctypes.c_ulong(len(file))
            if self._library.tjDecompress2(handle, file, size, pixels, width, 0, height, TJPF_RGB, TJFLAG_ACCURATEDCT):
                raise RuntimeError(f"image {position} of the sample does not decode")
        return part


class Peer:
    """A transform of single images, run as its users run it: by torch's DataLoader with a worker process a core.

    With one core it works in the process itself.
    """

    def __init__(self, samples: Sequence[Any], transform: Callable[[Any], Any], cores: int) -> None:
        self._order: list[int] = []
        workers = cores if cores > 1 else 0
        self._loader = DataLoader(
            Sample(samples, transform),
            BATCH,
            sampler=self._order,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def batches(self, order: NDArray[np.int64]) -> Iterator[Views]:
        """The collated views."""
        self._order[:] = order.tolist()
        yield from self._loader


class Sample(Dataset):
    """The sample's files in memory, each given to a transform."""

    def __init__(self, samples: Sequence[Any], transform: Callable[[Any], Any]) -> None:
        self.samples = samples
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> Any:
        return self.transform(self.samples[position])


class TwoViews:
    """One decoding, two views."""

    def __init__(self, decode: Callable[[Any], Any], first: Callable[[Any], Any], second: Callable[[Any], Any]) -> None:
        self.decode = decode
        self.views = first, second

    def __call__(self, file: Any) -> list[Any]:
        """The views of a file."""
        image = self.decode(file)
        return [view(image) for view in self.views]


def pil(file: bytes) -> Image.Image:
    """A file decoded by Pillow."""
    return Image.open(io.BytesIO(file)).convert("RGB")


def tensor(file: Tensor) -> Tensor:
    """A file decoded by torchvision."""
    return decode_jpeg(file, mode=ImageReadMode.RGB)


def crop_and_flip(library: Any, view: View, **options: Any) -> list[Any]:
    """The crop of either generation of torchvision's transforms, and the flip."""
    crop = library.RandomResizedCrop(
        SIZE, scale=view.crop_area, ratio=ASPECT, interpolation=InterpolationMode.BICUBIC, **options
    )
    return [crop, library.RandomHorizontalFlip(view.flip)]


def table_6(library: Any, view: View, **options: Any) -> list[Any]:
    """A column of Table 6 in torchvision's operations: its jitter is another than the paper's, the blur has 23 taps."""
    jitter = library.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue)
    return [
        *crop_and_flip(library, view, **options),
        library.RandomApply([jitter], p=view.jitter),
        library.RandomGrayscale(view.grayscale),
        library.RandomApply([library.GaussianBlur(BLUR_TAPS, view.blur_sigma)], p=view.blur),
        library.RandomSolarize(128, view.solarize),
    ]


def torchvision_v1(files: list[bytes], cores: int, complete: bool) -> Peer:
    """Pillow images and torchvision's first transforms."""
    if complete:
        end = [v1.ToTensor(), v1.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        views = [v1.Compose([*table_6(v1, view), *end]) for view in TABLE_6]
    else:
        views = [v1.Compose([*crop_and_flip(v1, view), np.asarray]) for view in TABLE_6]
    return Peer(files, TwoViews(pil, *views), cores)


def torchvision_v2(files: list[bytes], cores: int, complete: bool) -> Peer:
    """Torchvision's second transforms on uint8 tensors, which is their fast way; crops stay NCHW."""
    if complete:
        end = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        views = [v2.Compose([*table_6(v2, view, antialias=True), *end]) for view in TABLE_6]
    else:
        views = [v2.Compose(crop_and_flip(v2, view, antialias=True)) for view in TABLE_6]
    samples = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    return Peer(samples, TwoViews(tensor, *views), cores)


def lightly(files: list[bytes], cores: int) -> Peer:
    """Lightly's transform with its own defaults, which are Table 6's numbers."""
    from lightly.transforms import BYOLTransform  # noqa: PLC0415 - not among the project's packages

    transform = BYOLTransform()
    return Peer(files, lambda file: transform(pil(file)), cores)


class Ffcv:
    """FFCV as it comes: it stores its own JPEGs, of quality 90, and decodes once for each view."""

    def __init__(self, files: list[bytes], folder: Path, cores: int) -> None:
        from ffcv.fields import RGBImageField  # noqa: PLC0415 - imports for seconds, and is absent on some machines
        from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder  # noqa: PLC0415
        from ffcv.loader import Loader as Reader  # noqa: PLC0415
        from ffcv.loader import OrderOption  # noqa: PLC0415
        from ffcv.pipeline import PipelineSpec  # noqa: PLC0415
        from ffcv.transforms import RandomHorizontalFlip, ToTensor  # noqa: PLC0415
        from ffcv.writer import DatasetWriter  # noqa: PLC0415

        beton = str(folder / "ffcv.beton")
        images = Sample(files, lambda file: (np.asarray(pil(file)),))
        DatasetWriter(beton, {"image": RGBImageField("jpg")}, num_workers=1).from_indexed_dataset(images)
        pipelines = {
            f"view{number}": PipelineSpec(
                "image",
                RandomResizedCropRGBImageDecoder((SIZE, SIZE), view.crop_area, ASPECT),
                [RandomHorizontalFlip(view.flip), ToTensor()],
            )
            for number, view in enumerate(TABLE_6)
        }
        self._loader = Reader(beton, BATCH, cores, order=OrderOption.SEQUENTIAL, pipelines={**pipelines, "image": None})

    def batches(self, order: NDArray[np.int64]) -> Iterator[Views]:
        """The crops, NHWC."""
        self._loader.traversal_order.indices = self._loader.first_traversal_order = order.astype(np.uint64)
        yield from self._loader


SYSTEMS: dict[str, Callable[[list[bytes], Path, int], System]] = {
    "decode": lambda files, _, cores: Floor(files, cores),
    "ours-crops": lambda files, folder, cores: Ours(files, folder, cores, complete=False),
    "torchvision-v1-crops": lambda files, _, cores: torchvision_v1(files, cores, complete=False),
    "torchvision-v2-crops": lambda files, _, cores: torchvision_v2(files, cores, complete=False),
    "ffcv-crops": Ffcv,
    "ours": lambda files, folder, cores: Ours(files, folder, cores, complete=True),
    "torchvision-v1": lambda files, _, cores: torchvision_v1(files, cores, complete=True),
    "torchvision-v2": lambda files, _, cores: torchvision_v2(files, cores, complete=True),
    "lightly": lambda files, _, cores: lightly(files, cores),
}


def measure(system: System, order: NDArray[np.int64]) -> dict[str, float]:
    """One round: from nothing under way to the last batch in hand."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    images = sum(len(pair[0]) for pair in system.batches(order))
    if images != len(order):
        raise RuntimeError(f"{images} images came of {len(order)}")
    return {"images": images, "wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}


def cpu_seconds() -> float:
    """CPU time of this process, all its threads, and its worker processes."""
    ticks = 0
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def check(pair: Views, crops_only: bool) -> None:
    """Refuse to measure a system that delivers something else than two views in the agreed form."""
    forms = [(tuple(view.shape), view.dtype) for view in pair]
    shapes = [(BATCH, SIZE, SIZE, 3), (BATCH, 3, SIZE, SIZE)] if crops_only else [(BATCH, 3, SIZE, SIZE)]
    dtype = torch.uint8 if crops_only else torch.float32
    if len(forms) != 2 or any(shape not in shapes or kind != dtype for shape, kind in forms):
        raise RuntimeError(f"batches are {forms}")


def main() -> None:
    """Warm up, then a round for every line on stdin."""
    name, sample, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes elsewhere
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    files = [image["bytes"] for image in pq.read_table(sample, columns=["image"])["image"].to_pylist()]
    once = np.random.default_rng(0).permutation(BATCHES_A_PASS * BATCH * cores) % len(files)
    system = SYSTEMS[name](files, folder, cores)
    for pair in system.batches(once):  # whatever compiles or fills caches does so now
        if name != "decode":
            check(pair, name.endswith("-crops"))
    passes = math.ceil(SECONDS / measure(system, once)["wall"])
    print("ready", file=replies)
    for _ in sys.stdin:
        print(json.dumps(measure(system, np.tile(once, passes))), file=replies)


if __name__ == "__main__":
    main()
