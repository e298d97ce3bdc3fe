"""What a sweep that was disturbed leaves: the same numbers as one that was not, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from checkout import Checkout
from held import difference

from harness.tracking.record import Runs
from harness.tracking.spool import Spool

LINGER_SECONDS = 60.0  # of the processes of a Ray whose driver was killed


def check(disturbed: Checkout, undisturbed: Checkout, uri: str, say: Callable[[str], None]) -> None:
    """Nothing tells the disturbed sweep, which MLflow at `uri` was told of, from the other."""
    wanted, got = _outcome(undisturbed), _outcome(disturbed)
    for what, told in wanted.items():
        assert got.get(what) == told, f"{what}: {got.get(what)}, undisturbed {told}"
    say(f"{len(wanted) - 1} runs: table, results and curves are those of the undisturbed sweep, to the bit")
    found = difference(Runs(disturbed.home / "runs"), uri)
    say(f"{found.points} points in MLflow: {found.lost.total()} lost, {found.doubled.total()} doubled")
    assert (found.lost, found.doubled) == ({}, {})
    assert _left_over(disturbed) == []
    ends = time.monotonic() + LINGER_SECONDS
    while left := list(processes(disturbed.home)):
        assert time.monotonic() < ends, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]
        time.sleep(0.5)
    cleared = disturbed.harness("gc")  # a driver that is killed leaves what Ray kept for it
    assert cleared.returncode == 0, cleared.stdout + cleared.stderr
    assert list((disturbed.home / "ray").iterdir()) == []
    say("no lease, no half-written file, no process is left, and after `harness gc` nothing of Ray's")


def processes(home: Path) -> Iterator[int]:
    """All that were started with this home in their environment and have not ended."""
    for path in Path("/proc").iterdir():
        try:
            told = (path / "environ").read_bytes().split(b"\0")
        except OSError:  # none of a process, ended, or not ours
            continue
        if f"HARNESS_HOME={home}".encode() in told:
            yield int(path.name)


def last_step(home: Path, key: str) -> int:
    """How many updates of a run were reported."""
    points = Spool(home / "runs" / key / "spool.jsonl").read()
    return points[-1].step if points else 0


def _outcome(checkout: Checkout) -> dict[str, Any]:
    """Every number that came out: of the table, and by key of each record and curve."""
    runs = Runs(checkout.home / "runs")
    told: dict[str, Any] = {"table": (checkout.root / "tables" / "built" / "laptop" / "table5b.csv").read_text()}
    for key in runs.keys():  # noqa: SIM118  # Runs is no mapping
        record = runs.read(key)
        assert record is not None
        chosen = {name: value for name, value in record.selection.items() if name != "recorded_unix_s"}
        curve = [(point.step, point.metrics) for point in Spool(runs.folder(key) / "spool.jsonl").read()]
        told[key] = (record.kind, record.state, record.results, record.flags, chosen, curve)
    return told


def _left_over(checkout: Checkout) -> list[str]:
    """Leases and half-written files."""
    hidden = (path for folder in (checkout.home / "runs", checkout.root) for path in folder.rglob(".*"))
    return sorted(map(str, (*hidden, *checkout.home.glob("runs/*/lease.json"))))
