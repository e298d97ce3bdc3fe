"""Faults drawn by a seed fall on a real sweep, which must come out as if there had been none: `make chaos SEED=0`.

Six runs of Table 5b, cut down, are brought to their end once undisturbed, and once while what they depend on is
killed: a process that trains, the driver, the MLflow server, the PostgreSQL behind it.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aftermath import check, last_step
from checkout import Checkout, edited
from disturbed import COMMAND, Disturbed, Fault

from harness.tracking.record import Runs

KINDS = ("worker", "driver", "server", "postgres")
FAULTS = 6
LAST = 0.9  # of the updates are made when the last one falls at the latest
DOWN_SECONDS = (2.0, 8.0)
NEGATIVES = {"objective.beta": 1.0, "objective.temperature": 0.1}
CELLS: dict[str, dict[str, Any]] = {
    "byol": {},
    "pred_ema_beta1": NEGATIVES,
    "simclr": {"objective.predictor": False, "objective.target": "online", **NEGATIVES},
}
EPOCHS = 24  # of a pretraining, each of 10 updates
EVALUATION_EPOCHS = 12  # each of 8
UNDISTURBED_SECONDS = 600.0  # on a busy machine


def drawn(seed: int, kinds: Sequence[str] = KINDS, number: int = FAULTS) -> list[Fault]:
    """Each kind at least once, in any order, spread over the work."""
    draw = random.Random(seed)
    chosen = [*kinds, *draw.choices(kinds, k=number - len(kinds))]
    draw.shuffle(chosen)
    shares = [LAST * (place + draw.random()) / number for place in range(number)]
    downs = [draw.uniform(*DOWN_SECONDS) if kind in ("server", "postgres") else 0.0 for kind in chosen]
    return [Fault(*told) for told in zip(chosen, shares, downs, strict=True)]


class Chaos:
    """A sweep of some cells of Table 5b: first undisturbed, then under faults. All is kept in `folder`."""

    def __init__(
        self, folder: Path, say: Callable[[str], None], cells: dict[str, dict[str, Any]] = CELLS, epochs: int = EPOCHS
    ) -> None:
        self._folder, self._say = folder, say
        self._cells, self._epochs = cells, epochs
        self._data = str(folder / "data")
        self._quiet = self._checkout("undisturbed")
        began = time.monotonic()
        command = self._quiet.command(*COMMAND, HARNESS_DATA=self._data)
        ended = subprocess.run(**command, capture_output=True, timeout=UNDISTURBED_SECONDS, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        runs = Runs(self._quiet.home / "runs")
        self._updates = {key: last_step(self._quiet.home, key) for key in runs.keys()}  # noqa: SIM118
        told = f"{len(self._updates)} runs, {sum(self._updates.values())} updates"
        say(f"undisturbed: {told} in {time.monotonic() - began:.1f} s")

    def suffer(self, seed: int, faults: Sequence[Fault]) -> None:
        """The same again, under these; raises AssertionError where anything differs, or is left."""
        self._say(f"seed {seed}: {', '.join(map(str, faults))}")
        checkout, draw = self._checkout(f"seed-{seed}"), random.Random(seed)
        with Disturbed(checkout, self._updates, self._say, self._data) as disturbed:
            for fault in faults:
                disturbed.suffer(fault, draw)
            disturbed.end()
            check(checkout, self._quiet, disturbed.uri, self._say)
        self._say(f"seed {seed}: {len(faults)} faults survived")

    def _checkout(self, name: str) -> Checkout:
        checkout = Checkout(self._folder / name, self._epochs, self._cells)
        with edited(checkout.root / "experiments" / "profiles" / "laptop.yaml") as profile:
            profile["linear"]["epochs"] = {"value": EVALUATION_EPOCHS}
        return checkout


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Draw, run, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="one sweep for each (default: 0)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder for all files, which stays")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="harness-chaos-", ignore_cleanup_errors=True) as scratch:
        chaos = Chaos(chosen.keep or Path(scratch), _say)
        for seed in chosen.seed:
            chaos.suffer(seed, drawn(seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
