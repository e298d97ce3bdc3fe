"""The path of a transfer evaluation against scikit-learn: `python bench/probe.py` fits 45 strengths three ways.

Ours, scikit-learn's LogisticRegression from the start for each strength ("cold"), and the same from the last strength's
weights ("warm"), on the same float64 features with the same threads, tolerance on the gradient, and iteration limit.
The features are 5,000 x 2048 of 100 overlapping classes, and those of a random ResNet-18: on CIFAR-10 where `--cifar`
names its parquet file, on scikit-learn's digits without. `--features` takes an .npz with `features` and `labels`.

At each strength our objective must not be above scikit-learn's by more than 1e-4 of it, and the top-1 on held-out
images must be the same within 0.3 points. Where scikit-learn's objective is above ours by more than 1e-4, it has
stopped short of the minimum, and its top-1 is another classifier's: at five of these strengths it is asked once more,
from the start, with a tolerance of 1e-11 and 5,000 iterations, and ours is compared with that if it then gets there.
Of 5,000 images or more, ours must be 4 times as fast as cold and 2 times as fast as warm.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from harness.evaluation.logistic import fit_path
from harness.models.resnet import ResNet

CLASSES, WIDTH, LATENT, IMAGES, HELD_OUT = 100, 2048, 512, 5000, 5000
COLD, WARM, HIGHER, POINTS = 4.0, 2.0, 1e-4, 0.3
FINEST, LONGEST, ASKED = 1e-11, 5_000, 5  # of scikit-learn once more: tolerance, iterations, and how many strengths

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """Two splits of (N, D) features with their labels."""

    name: str
    train: Numbers
    labels: NDArray[np.int64]
    held_out: Numbers
    held_out_labels: NDArray[np.int64]

    def score(self, weight: Numbers, bias: Numbers) -> float:
        """Top-1 on the held-out split, in percent."""
        return 100 * float(((self.held_out @ weight.T + bias).argmax(1) == self.held_out_labels).mean())

    def objective(self, weight: Numbers, bias: Numbers, strength: float) -> float:
        """The sum of the losses, and the penalty."""
        logits = torch.from_numpy(self.train @ weight.T + bias)
        loss = F.cross_entropy(logits, torch.from_numpy(self.labels), reduction="sum")
        return float(loss) + strength / 2 * float(np.square(weight).sum())


@dataclass(frozen=True)
class Solved:
    """One solver's answer at one strength."""

    objective: float
    top1: float
    iterations: int


@dataclass(frozen=True)
class Row:
    """All answers at one strength. finished: scikit-learn's once more, where it had stopped short and was asked."""

    strength: float
    ours: Solved
    cold: Solved
    warm: Solved
    finished: Solved | None

    @property
    def higher(self) -> float:
        """How far our objective is above the lower of scikit-learn's, relative to it."""
        lowest = min(solved.objective for solved in (self.cold, self.warm, self.finished) if solved)
        return (self.ours.objective - lowest) / max(lowest, 1e-300)

    @property
    def short(self) -> bool:
        """Whether scikit-learn stopped above the minimum."""
        return self.cold.objective > self.ours.objective * (1 + HIGHER)

    @property
    def points(self) -> float | None:
        """How far our score is from scikit-learn's at the minimum; None where it has not been there."""
        theirs = self.finished or self.cold
        reached = theirs.objective <= self.ours.objective * (1 + HIGHER)
        return abs(self.ours.top1 - theirs.top1) if reached else None


def overlapping() -> Features:
    """Classes in 512 directions of decaying variance, seen through ReLUs and averaged over 4 positions: not negative,
    correlated, and no classifier tells all classes apart.
    """
    generator = np.random.default_rng(0)
    scales = (1 + np.arange(LATENT)) ** -0.5
    centres = 0.2 * scales * generator.standard_normal((CLASSES, LATENT))
    mixing = generator.standard_normal((LATENT, WIDTH)) / np.sqrt(np.square(scales).sum())
    labels = generator.integers(0, CLASSES, IMAGES + HELD_OUT)
    common = (centres[labels] + scales * generator.standard_normal((len(labels), LATENT))) @ mixing
    features = np.zeros_like(common)
    for _ in range(4):
        features += np.maximum(common + 0.7 * generator.standard_normal(common.shape) - 0.3, 0) / 4
    return _split(f"{CLASSES} overlapping classes", features, labels, IMAGES)


def encoded(cifar: Path | None) -> Features:
    """CIFAR-10 or digits through a random ResNet-18, at 64 pixels."""
    if cifar is None:
        digits = load_digits()
        images, labels = torch.from_numpy(digits.images / 16).float()[:, None].repeat(1, 3, 1, 1), digits.target
    else:
        images, labels = _cifar(cifar)
    torch.manual_seed(0)
    encoder = ResNet("resnet18").eval()
    images = (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)
    with torch.no_grad():
        parts = [encoder(F.interpolate(part, size=64, mode="bilinear")) for part in images.split(250)]
    name = f"{'digits' if cifar is None else 'CIFAR-10'} through a random ResNet-18"
    order = np.random.default_rng(0).permutation(len(labels))
    # a random network's features are 10,000 times apart in scale, and some are dead
    features = StandardScaler().fit_transform(torch.cat(parts).double().numpy())
    return _split(name, features[order], labels[order], min(IMAGES, len(labels) * 2 // 3))


def stored(file: Path) -> Features:
    """Features from an .npz; two thirds, drawn at random, are trained on."""
    with np.load(file) as arrays:
        features, labels = arrays["features"].astype(np.float64), arrays["labels"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    return _split(file.name, features[order], labels[order], len(labels) * 2 // 3)


def _cifar(file: Path) -> tuple[Tensor, NDArray[np.int64]]:
    import pyarrow.parquet as pq  # noqa: PLC0415 - of the data extra alone
    from PIL import Image  # noqa: PLC0415

    rows = pq.read_table(file).slice(0, IMAGES + HELD_OUT).to_pydict()
    arrays = [np.asarray(Image.open(io.BytesIO(image["bytes"])).convert("RGB")) for image in rows["img"]]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255, np.array(rows["label"])


def _split(name: str, features: Numbers, labels: NDArray[np.int64], images: int) -> Features:
    return Features(name, features[:images], labels[:images], features[images:], labels[images:])


class Comparison:
    """One set of features, the strengths, and what every solver took."""

    def __init__(self, features: Features, strengths: list[float], tolerance: float, iterations: int) -> None:
        self.features, self.strengths = features, strengths
        self._tolerance, self._iterations = tolerance, iterations
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}  # of all threads: with one, other processes hardly move it

    def rows(self, tell: Callable[[str], None]) -> list[Row]:
        """Fit everything. Ours is timed before and after scikit-learn, and the slower of the two counts."""
        ours = self._ours("first")
        tell(f"ours {self._took('first')}")
        warm = self._scikit_learn("warm", warm_start=True)
        tell(f"scikit-learn warm {self._took('warm')}")
        cold = self._scikit_learn("cold", warm_start=False)
        tell(f"scikit-learn cold {self._took('cold')}")
        self._ours("again")
        tell(f"ours again {self._took('again')}")
        for seconds in (self.seconds, self.cpu_seconds):
            seconds["ours"] = max(seconds.pop("first"), seconds.pop("again"))
        rows = [
            Row(strength, mine, *theirs, None)
            for strength, mine, *theirs in zip(self.strengths, ours, cold, warm, strict=True)
        ]
        short = [number for number, row in enumerate(rows) if row.short]
        for number in short[:: max(1, -(-len(short) // ASKED))]:
            rows[number] = replace(rows[number], finished=self._finished(rows[number].strength))
        return rows

    def _ours(self, name: str) -> list[Solved]:
        data = self.features
        train, labels = torch.from_numpy(data.train), torch.from_numpy(data.labels)
        limits = {"tolerance": self._tolerance, "iterations": self._iterations}
        with self._timed(name):
            fits = list(fit_path(train, labels, int(labels.max()) + 1, self.strengths, **limits))
        return [self._solved(fit.weight.numpy(), fit.bias.numpy(), fit.strength, fit.iterations) for fit in fits]

    def _scikit_learn(self, name: str, warm_start: bool) -> list[Solved]:
        """From the strongest regularisation to the weakest."""
        model = LogisticRegression(tol=self._tolerance, max_iter=self._iterations, warm_start=warm_start)
        answers = {}
        for strength in sorted(self.strengths, reverse=True):
            with self._timed(name):
                _fit(model.set_params(C=1 / strength), self.features)
            answers[strength] = self._solved(model.coef_, model.intercept_, strength, int(model.n_iter_.max()))
        return [answers[strength] for strength in self.strengths]

    def _finished(self, strength: float) -> Solved:
        """Scikit-learn from the start, to the minimum."""
        model = LogisticRegression(C=1 / strength, tol=FINEST, max_iter=LONGEST)
        _fit(model, self.features)
        return self._solved(model.coef_, model.intercept_, strength, int(model.n_iter_.max()))

    def _took(self, name: str) -> str:
        return f"{self.seconds[name]:.1f} s, CPU time {self.cpu_seconds[name]:.1f} s"

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start, cpu_start = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start
        self.cpu_seconds[name] = self.cpu_seconds.get(name, 0) + time.process_time() - cpu_start

    def _solved(self, weight: Numbers, bias: Numbers, strength: float, iterations: int) -> Solved:
        objective = self.features.objective(weight, bias, strength)
        return Solved(objective, self.features.score(weight, bias), iterations)


def _fit(model: LogisticRegression, features: Features) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the iterations are in the table
        model.fit(features.train, features.labels)


def main() -> int:
    """Fit, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, help="an .npz in place of the generated features and the images")
    parser.add_argument("--cifar", type=Path, help="a parquet file of CIFAR-10")
    parser.add_argument("--strengths", type=int, default=45, help="how many, from 1e-6 to 1e5")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--table", action="store_true", help="a line for each strength")
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a bar is missed")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    strengths = np.geomspace(1e-6, 1e5, arguments.strengths).tolist()
    sets = [stored(arguments.features)] if arguments.features else [overlapping(), encoded(arguments.cifar)]
    report, holds = [], True
    for features in sets:
        print(f"{features.name}: {' x '.join(map(str, features.train.shape))}, {len(strengths)} strengths", flush=True)
        comparison = Comparison(features, strengths, arguments.tolerance, arguments.iterations)
        with _limited(arguments.threads):
            rows = comparison.rows(lambda line: print(f"  {line}", flush=True))
        if arguments.table:
            _print_table(rows)
        holds &= _judge(rows, comparison)
        seconds = {"seconds": comparison.seconds, "cpu_seconds": comparison.cpu_seconds}
        report.append({"features": features.name, **seconds, "rows": [asdict(row) for row in rows]})
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))
    return int(arguments.strict and not holds)


def _limited(threads: int) -> Any:
    """All of scikit-learn's thread pools."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - comes with scikit-learn

    return threadpool_limits(threads)


def _print_table(rows: list[Row]) -> None:
    names = ("ours", "cold", "warm", "finished")
    print("  lambda   " + "".join(f"{name:>12} objective  top-1   its" for name in names))
    for row in rows:
        cells = [
            f"{solved.objective:>22.8g} {solved.top1:6.2f} {solved.iterations:5}" if solved else " " * 35
            for solved in (row.ours, row.cold, row.warm, row.finished)
        ]
        print(f"  {row.strength:.3e}" + "".join(cells))


def _judge(rows: list[Row], comparison: Comparison) -> bool:
    """Print the figures beside their bars; whether all hold."""
    higher, compared = max(row.higher for row in rows), [row.points for row in rows if row.points is not None]
    points = max(compared)
    cold, warm, cold_cpu, warm_cpu = (
        seconds[name] / seconds["ours"]
        for seconds in (comparison.seconds, comparison.cpu_seconds)
        for name in ("cold", "warm")
    )
    short = sum(row.short for row in rows)
    tops = [row.ours.top1 for row in rows]
    print(f"  top-1 on held-out images from {min(tops):.1f} to {max(tops):.1f} %")
    print(f"  scikit-learn stopped more than {HIGHER:g} above our objective at {short} of {len(rows)} strengths")
    print(f"  {cold:.1f} times as fast as cold, {warm:.1f} as warm; by CPU time {cold_cpu:.1f} and {warm_cpu:.1f}")
    judged = [
        (f"objective at most {higher:.1e} above scikit-learn's", higher <= HIGHER, f"{HIGHER:g}"),
        (
            f"top-1 within {points:.2f} points at {len(compared)} of {len(rows)} strengths",
            points <= POINTS,
            f"{POINTS:g}",
        ),
    ]
    if len(comparison.features.train) >= IMAGES:  # 1,198 digits take both a second or two
        judged += [("speed beside cold", cold >= COLD, f"{COLD:g}"), ("speed beside warm", warm >= WARM, f"{WARM:g}")]
    for line, held, bar in judged:
        print(f"  {line} ({'pass' if held else 'MISS'}, bar {bar})")
    return all(held for _, held, _ in judged)


if __name__ == "__main__":
    sys.exit(main())
