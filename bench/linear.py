"""What more than one linear layer costs: `python bench/linear.py`.

Five learning rates: their layers trained in one pass and in five. Each pass reads, crops and encodes the digits for
itself, by the laptop's protocol and its small encoder, beside which layers weigh more than beside a ResNet-50. In
double precision every layer must end where it ends alone, within 1e-5; in single precision the pass of five must take
less than 1.3 times that of one.

Two protocols of Table 7 on the same views: as runs that go together and as two that do not, from spec to record, choice
and test included. Scores and choices must be equal, and the two together must take less than 0.8 of the time (medians
of turns about).
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
from harness.config.schema import Linear, RandomEncoder
from harness.data.prepare import Dataset, open_dataset, prepare
from harness.evaluation.linear import LinearEvaluation
from harness.launch.place import Place
from harness.launch.specs import write_spec
from harness.launch.task import execute
from harness.models.resnet import ResNet
from harness.tracking.record import Runs
from harness.training.ranks import Ranks

FURTHEST, DEAREST, SHARED = 1e-5, 1.3, 0.8


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


def evaluated(specs: list[Linear], data: Path, together: bool) -> tuple[list[object], float]:
    """What runs in a folder of their own find, held-out scores included, and the seconds of all."""
    with tempfile.TemporaryDirectory(prefix="runs-", dir=data) as folder:
        runs, place = Runs(Path(folder)), Place(runs=folder, data=str(data), commit="bench")
        encoder = RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=0)
        keys = [write_spec(runs, replace(spec, subject=write_spec(runs, encoder))) for spec in specs]
        start = time.perf_counter()
        for number, key in enumerate(keys):  # of those together, the first one ends all
            execute(key, place, keys[number + 1 :] if together else ())
        seconds = time.perf_counter() - start
        records = [runs.read(key) for key in keys]
    return [(record.results, record.selection["digest"]) for record in records if record is not None], seconds


def main() -> int:
    """Compare, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a bar is missed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    five = spec_of(arguments.epochs)
    with tempfile.TemporaryDirectory(prefix="bench-linear-") as folder:
        prepare("digits", Path(folder), lambda _: None)
        rates = five_rates(five, Path(folder), arguments.turns)
        protocols = two_protocols(five, Path(folder), arguments.turns)
    return int(arguments.strict and not (rates and protocols))


def five_rates(five: Linear, data: Path, turns: int) -> bool:
    """Whether one pass over all learning rates is as good as five, and about as dear as one."""
    digits = open_dataset("digits", data)
    single = [replace(five, learning_rates=(rate,)) for rate in five.learning_rates]
    together, _ = trained(five, digits, torch.float64)
    apart = [trained(one, digits, torch.float64)[0][0] for one in single]
    furthest = max(float((a - b).abs().max()) for a, b in zip(together, apart, strict=True))
    seconds = [[trained(spec, digits, torch.float32)[1] for spec in (single[0], five)] for _ in range(turns)]
    one, all_five = (statistics.median(spent) for spent in zip(*seconds, strict=True))
    dear = all_five / one
    print(f"furthest weight from its own run: {furthest:.1e} ({_verdict(furthest < FURTHEST)}, bar {FURTHEST:g})")
    print(f"one rate {one:.2f} s, five {all_five:.2f} s: {dear:.3f} times ({_verdict(dear < DEAREST)}, bar {DEAREST})")
    return furthest < FURTHEST and dear < DEAREST


def two_protocols(plain: Linear, data: Path, turns: int) -> bool:
    """Whether Table 7's two losses cost less together than apart, and say the same."""
    specs = [plain, replace(plain, logit_clip=20.0, logit_penalty=1e-2)]
    found = [[evaluated(specs, data, together) for together in (False, True)] for _ in range(turns)]
    same = all(apart[0] == together[0] for apart, together in found)
    apart_s, together_s = (statistics.median(turn[way][1] for turn in found) for way in (0, 1))
    share = together_s / apart_s
    print(f"two protocols, together and apart: {'equal scores (pass)' if same else 'other scores (MISS)'}")
    verdict = f"{_verdict(share < SHARED)}, bar {SHARED}"
    print(f"apart {apart_s:.2f} s, together {together_s:.2f} s: {share:.3f} times ({verdict})")
    return same and share < SHARED


def _verdict(holds: bool) -> str:
    return "pass" if holds else "MISS"


if __name__ == "__main__":
    sys.exit(main())
