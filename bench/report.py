"""How long reports take over 10,000 finished runs: `python bench/report.py` makes the store and reports from it.

The runs of the real tables at every profile come first, others that no table asks for fill it up. The harness's own
sync sends them to MLflow on sqlite; `--home FOLDER` keeps them for the next time. With `--server` reports ask an MLflow
server on that file. Cold is a report with nothing of the store in the machine's memory; warm the one after it. Each is
a process of its own, its start included.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.commands.chosen import all_plans
from harness.config.expand import Expansion, declared_cells, expand
from harness.config.files import profile_names, table_ids
from harness.config.identity import plain
from harness.launch.site import site
from harness.reporting.layout import read_layout
from harness.tracking.record import Record, Runs
from harness.tracking.stores import store_at
from harness.tracking.sync import sync

ROOT = Path(__file__).resolve().parents[1]
CURVE = ("pretrain.loss", "pretrain.spread", "pretrain.alignment", "learning_rate")


@dataclass(frozen=True)
class Bar:
    """A report and the most it may take."""

    name: str
    table: str
    seconds: float
    forget: bool = False  # begin with nothing of the store in memory


BARS = (
    Bar("everything, cold", "tables", 40.0, forget=True),
    Bar("everything, warm", "tables", 10.0),
    Bar("one table, cold", "table5b", 5.0, forget=True),
    Bar("one table, warm", "table5b", 5.0),
)
MEMORY_GB = 2.0


def records(number: int) -> Iterator[Record]:
    """Every run of every table at every profile, then runs that no table asks for."""
    made: set[str] = set()
    for profile in profile_names():
        for table in table_ids():
            metrics = read_layout(table, declared_cells(table)).metrics
            expansion = expand(table, profile)
            for key, (spec, kind) in _specs(expansion).items():
                if key not in made:
                    made.add(key)
                    yield _record(key, kind, spec, metrics)
    spare = next(iter(_specs(expand("5b", "imagenet")).values()))[0]
    while len(made) < number:
        key = hashlib.sha256(str(len(made)).encode()).hexdigest()[:16]
        made.add(key)
        yield _record(key, "pretrain", {**spare, "seed": len(made)}, CURVE[:1])


def _specs(expansion: Expansion) -> dict[str, tuple[dict[str, object], str]]:
    return {key: (plain(spec), spec.kind) for key, spec in expansion.runs().items()}


def _record(key: str, kind: str, spec: dict[str, object], metrics: tuple[str, ...]) -> Record:
    draw = random.Random(key)
    own = [name for name in metrics if name.startswith("pretrain.") == (kind == "pretrain")]
    return Record(
        key=key,
        kind=kind,
        state="done",
        spec=spec,
        commit="c0ffee" * 6,
        environment={"python": "3.11.9", "torch": "2.11.0", "device": "NVIDIA A100", "host": "node-1", "threads": 8},
        started_unix_s=1_700_000_000.0 + draw.random() * 1e6,
        ended_unix_s=1_702_000_000.0 + draw.random() * 1e6,
        results={name: draw.uniform(1.0, 90.0) for name in own},
        flags={"collapsed": draw.random() < 0.1} if kind == "pretrain" else {},
        selection={"learning_rate": 0.1} if kind != "pretrain" else {},
        cost={"wall_s": draw.uniform(1e3, 1e5), "worker_s": draw.uniform(1e3, 1e5), "updates": 93_000},
    )


def generate(home: Path, number: int, points: int) -> None:
    """Records and spools as runs leave them, and MLflow filled from them."""
    from sqlalchemy import Engine, event  # noqa: PLC0415  # seconds to import

    event.listen(Engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    runs = Runs(home / "runs")
    for record in records(number):
        folder = runs.folder(record.key)
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(asdict(record), indent=1, sort_keys=True))
        draw = random.Random(record.key)
        lines = [json.dumps(_point(step, draw.random())) for step in range(1, points + 1)]
        (folder / "spool.jsonl").write_text("\n".join(lines) + "\n")
    started = time.monotonic()
    labels = {key: own for plan in all_plans(site()) for key, own in plan.labels().items()}
    sent = sync(runs, store_at(f"sqlite:///{home / 'mlflow.db'}"), runs.keys(), labels)
    print(f"{len(sent)} runs sent to MLflow in {time.monotonic() - started:.0f} s", flush=True)


def _point(step: int, value: float) -> dict[str, object]:
    return {"time_unix_ms": 1_700_000_000_000 + step, "step": step, "metrics": dict.fromkeys(CURVE, value)}


def forget(home: Path) -> None:
    """Put what the machine's memory holds of these files back to the disk."""
    for path in home.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def report(table: str, profile: str, home: Path, root: Path, uri: str) -> tuple[float, float, float]:
    """Seconds, those of them on a core, and the peak of memory in GB of one `harness report`."""
    environment = {**os.environ, "HARNESS_HOME": str(home), "HARNESS_ROOT": str(root), "MLFLOW_TRACKING_URI": uri}
    started = time.monotonic()
    command = [sys.executable, "-m", "harness", "report", table, "--profile", profile]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, code, used = os.wait4(process.pid, 0)
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(code)}")
    return time.monotonic() - started, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9  # Linux counts in KiB


def digest(root: Path) -> str:
    """Of every file that was built."""
    built = hashlib.sha256()
    for path in sorted((root / "tables" / "built").rglob("*")):
        if path.is_file():
            built.update(path.name.encode() + path.read_bytes())
    return built.hexdigest()


def main() -> int:
    """Generate where nothing is, report four times, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=20, help="of each run's curves (default: %(default)s)")
    parser.add_argument("--profile", default="imagenet")
    parser.add_argument("--home", type=Path, help="keep the store here, or use the one that is here")
    parser.add_argument("--server", action="store_true", help="ask an MLflow server; needs PYTHONPATH=tests/tracking")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a bar is missed")
    chosen = parser.parse_args()
    missed = 0
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-report-"))
        home, root = chosen.home or Path(scratch) / "home", Path(scratch) / "root"
        for name in ("experiments", "tables"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("built"))
        if not (home / "mlflow.db").exists():
            generate(home, chosen.runs, chosen.points)
        print(f"{len(Runs(home / 'runs').keys())} runs, {(home / 'mlflow.db').stat().st_size / 1e6:.0f} MB of MLflow")
        built = set()
        uri = f"sqlite:///{home.resolve() / 'mlflow.db'}"
        if chosen.server:
            from mlflow_server import Server  # noqa: PLC0415  # of the tests

            uri = stack.enter_context(Server(Path(scratch), uri)).uri
        for bar in BARS:
            if bar.forget:
                forget(home)
            seconds, busy, memory = report(bar.table, chosen.profile, home.resolve(), root, uri)
            passed = seconds < bar.seconds and memory < MEMORY_GB
            missed += not passed
            built.add(digest(root))
            print(
                f"{bar.name}: {seconds:.1f} s ({busy:.1f} s on a core), {memory:.2f} GB "
                f"({'pass' if passed else 'MISS'}, bars {bar.seconds:g} s, {MEMORY_GB:g} GB)",
                flush=True,
            )
        missed += len(built) > 1
        print(f"the files built are {'the same each time' if len(built) == 1 else 'NOT the same each time'}")
    return int(chosen.strict and missed > 0)


if __name__ == "__main__":
    sys.exit(main())
