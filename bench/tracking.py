"""Whether PostgreSQL behind MLflow holds every point once, and how long a run takes to send, under many writers.

Processes train nothing and report as fast as the store answers, two of them sending each run
(tests/tracking/writers.py): first straight to PostgreSQL, then through an MLflow server over HTTP. Both are of the
bench's own, on loopback.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from held import difference
from mlflow_server import Server
from postgres import Postgres
from writers import write_all

from harness.tracking.record import Runs
from harness.tracking.stores import store_at

LOOK_UPS = 200  # as many runs as three tables have


def written(name: str, uri: str, postgres: Postgres, folder: Path, chosen: argparse.Namespace) -> bool:
    """Let them write, and print what came of it; whether every point stands once."""
    runs = Runs(folder / "runs")
    told = write_all(uri, runs.path, chosen.writers, chosen.seconds)
    found = difference(runs, postgres.uri)
    puts = sorted(seconds for one in told for seconds in one.puts)
    keys = runs.keys()
    refused = sum(one.refused for one in told)
    print(f"{name}: {chosen.writers} writers for {chosen.seconds:g} s: {len(keys)} runs, {found.points} points")
    print(f"  {len(puts)} times a run was sent, p50 {_ms(puts, 0.5)}, p99 {_ms(puts, 0.99)}; {refused} times refused")
    print(f"  {found.lost.total()} points lost, {found.doubled.total()} doubled")
    wanted = keys[:LOOK_UPS]
    store = store_at(uri)
    store.find(wanted[:1])  # it connects with the first
    began = time.monotonic()
    assert len(store.find(wanted)) == len(wanted)
    took = time.monotonic() - began
    print(f"  {len(wanted)} runs looked up in {took:.2f} s, {1e3 * took / len(wanted):.1f} ms each", flush=True)
    return not (found.lost or found.doubled)


def _ms(ordered: list[float], share: float) -> str:
    return f"{1e3 * ordered[int(share * (len(ordered) - 1))]:.0f} ms"


def main() -> int:
    """Write both ways, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=16, help="processes, an even number (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120.0, help="of each way (default: %(default)s)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-tracking-") as scratch:
        direct, served = Path(scratch) / "direct", Path(scratch) / "served"
        served.mkdir()
        with Postgres() as postgres:
            whole = written("straight to PostgreSQL", postgres.uri, postgres, direct, chosen)
        with Postgres() as postgres, Server(served, postgres.uri) as server:
            whole &= written("through a server", server.uri, postgres, served, chosen)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
