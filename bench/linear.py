"""What five learning rates cost: `python bench/linear.py` trains their linear layers in one pass and in five.

Each pass reads, crops and encodes the digits for itself, by the laptop's protocol and its small encoder, beside which
layers weigh more than beside a ResNet-50. In double precision every layer must end where it ends alone, within 1e-5; in
single precision the pass of five must take less than 1.3 times that of one (medians of turns about).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from harness.config.expand import expand
from harness.config.schema import Linear
from harness.data.prepare import Dataset, open_dataset, prepare
from harness.evaluation.linear import LinearEvaluation
from harness.models.resnet import ResNet
from harness.training.ranks import Ranks

FURTHEST, DEAREST = 1e-5, 1.3


def spec_of(epochs: int) -> Linear:
    """Table 1a's evaluation at laptop scale."""
    evaluation = expand("1a", "laptop", 1, "byol").members[0].evaluation
    assert isinstance(evaluation, Linear)
    return replace(evaluation, epochs=epochs)


def trained(spec: Linear, digits: Dataset, dtype: torch.dtype) -> tuple[list[Tensor], float]:
    """The weights of every layer, and the seconds of its updates: views, features and steps."""
    torch.manual_seed(0)
    task = LinearEvaluation(spec, ResNet("resnet_tiny"), digits, torch.device("cpu"), Ranks.split(spec.batch), 1)
    for head in task.heads:
        head.to(dtype)
    start = time.perf_counter()
    for step, (features, labels) in enumerate(task.feed(0)):
        task.update(step, (features.to(dtype), labels))
    seconds = time.perf_counter() - start
    task.close()
    return [head.weight.detach() for head in task.heads], seconds


def main() -> int:
    """Compare, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a bar is missed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-linear-") as folder:
        prepare("digits", Path(folder), lambda _: None)
        digits = open_dataset("digits", Path(folder))
        five = spec_of(arguments.epochs)
        single = [replace(five, learning_rates=(rate,)) for rate in five.learning_rates]
        together, _ = trained(five, digits, torch.float64)
        apart = [trained(one, digits, torch.float64)[0][0] for one in single]
        furthest = max(float((a - b).abs().max()) for a, b in zip(together, apart, strict=True))
        turns = [
            [trained(spec, digits, torch.float32)[1] for spec in (single[0], five)] for _ in range(arguments.turns)
        ]
    one, all_five = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
    dear = all_five / one
    print(f"furthest weight from its own run: {furthest:.1e} ({_verdict(furthest < FURTHEST)}, bar {FURTHEST:g})")
    print(f"one rate {one:.2f} s, five {all_five:.2f} s: {dear:.3f} times ({_verdict(dear < DEAREST)}, bar {DEAREST})")
    return int(arguments.strict and not (furthest < FURTHEST and dear < DEAREST))


def _verdict(holds: bool) -> str:
    return "pass" if holds else "MISS"


if __name__ == "__main__":
    sys.exit(main())
