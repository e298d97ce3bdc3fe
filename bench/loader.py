"""The loader against its peers: `make bench-loader SAMPLE=FILE [JSON=FILE]`, FILE being a parquet of JPEGs.

Every system works in a process of its own, once on one core and once on all (bench/peers.py). They are asked for a
round in turn, so that whatever else the machine does hits all alike; a figure is the median of the rounds. On one core
it is images per CPU second, which other processes hardly change; on all cores images per second of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
BEYOND = ROOT / ".venv" / "bench"  # lightly, which is not among the project's packages
PACKAGES = ("torch", "torchvision", "pillow", "numpy", "numba", "ffcv")
PATIENCE = 600.0  # seconds for a system to become ready or to end a round
FAREWELL = 30.0  # seconds for a process to end
QUIET = 0.05  # of the machine: a round in which other processes took less counts for figures by the clock

Round = dict[str, float]  # images, wall, cpu, others
Rounds = dict[str, dict[str, list[Round]]]  # by system and mode: `one` core or `all`
Medians = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Row:
    """A system in the table: what it is, and where its work is not that of the others."""

    title: str
    work: str


CROPS = {
    "ours-crops": Row("this project", "bicubic without antialiasing; original JPEGs; NHWC"),
    "torchvision-v1-crops": Row("torchvision v1, Pillow", "bicubic, antialiased; original JPEGs; NHWC"),
    "torchvision-v2-crops": Row("torchvision v2, tensors", "bicubic, antialiased; original JPEGs; NCHW"),
    "ffcv-crops": Row("FFCV", "INTER_AREA; JPEGs encoded anew at quality 90, fast DCT, decoded once a view; NHWC"),
    "decode": Row("libjpeg-turbo alone", "decodes once, no crop: the floor of any loader"),
}
COMPLETE = {
    "ours": Row("this project", "bicubic without antialiasing, exact blur of 23 taps, the paper's jitter"),
    "torchvision-v1": Row("torchvision v1, Pillow", "bicubic, antialiased; exact blur of 23 taps"),
    "torchvision-v2": Row("torchvision v2, tensors", "bicubic, antialiased; exact blur of 23 taps"),
    "lightly": Row("lightly", "its BYOLTransform as it is: bilinear, antialiased; Pillow's box blur"),
}


@dataclass(frozen=True)
class Bar:
    """What the project asks of itself: a ratio of at least `least`, better `aim`."""

    claim: str
    ratio: float | None
    least: float
    aim: float

    def verdict(self) -> str:
        """One line."""
        if self.ratio is None:
            return f"not judged  {self.claim}"
        result = "pass" if self.ratio >= self.least else "MISS"
        return f"{result:10}  {self.claim}: {self.ratio:.2f} (bar {self.least:.2f}, aim {self.aim:.2f})"

    def met(self) -> bool:
        """Whether the bar was judged and reached."""
        return self.ratio is not None and self.ratio >= self.least


class PeerError(Exception):
    """A system could not be measured; the message says why."""


class Child:
    """A system's process, held to some CPUs; it ends when its stdin does."""

    def __init__(self, name: str, cpus: set[int], sample: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._log = folder / "log"
        threads = str(len(cpus))
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "NUMBA_NUM_THREADS": threads,
            "PYTHONPATH": str(BEYOND),
        }
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)  # the child inherits it
        try:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "bench" / "peers.py"), name, str(sample), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log.open("w"),
                text=True,
                env=environment,
            )
        finally:
            os.sched_setaffinity(0, allowed)
        self._answer()

    def round(self) -> Round:
        """Ask for a round. `others` is how many cores other processes kept busy meanwhile."""
        start, busy = time.perf_counter(), busy_seconds()
        assert self._process.stdin
        try:
            os.write(self._process.stdin.fileno(), b"\n")
        except BrokenPipeError as error:
            self.end()
            raise PeerError(self._reason()) from error
        result = json.loads(self._answer())
        others = max(0.0, busy_seconds() - busy - result["cpu"]) / (time.perf_counter() - start)
        return {**result, "others": others}

    def end(self) -> None:
        """Close its stdin and wait a little."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        answer = self._process.stdout.readline() if ready else ""
        if not answer:
            self.end()
            raise PeerError(self._reason() if ready else f"no answer within {PATIENCE:.0f} seconds")
        return answer

    def _reason(self) -> str:
        """The line of a traceback that names the exception, as far as there is one."""
        said = self._log.read_text(errors="replace").splitlines()
        named = [line for line in said if line.partition(":")[0].endswith("Error")]
        return (named or said or [f"exit code {self._process.returncode}"])[-1]


def busy_seconds() -> float:
    """CPU seconds that all processes, and the hypervisor's other guests, have taken from our CPUs so far."""
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name in ours:
            user, nice, system, _idle, _wait, irq, softirq, steal, *_ = map(int, numbers)
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(sample: Path, rounds: int, folder: Path) -> tuple[Rounds, dict[str, str]]:
    """All rounds, and why a system has none."""
    allowed = os.sched_getaffinity(0)
    modes = {"one": {max(allowed)}, "all": allowed}
    results: Rounds = {name: {mode: [] for mode in modes} for name in {**CROPS, **COMPLETE}}
    failures: dict[str, str] = {}
    children: dict[tuple[str, str], Child] = {}
    try:
        for name in results:
            for mode, cpus in modes.items():
                say(f"starting {name} on {len(cpus)} of {len(allowed)} cores")
                try:
                    children[name, mode] = Child(name, cpus, sample, folder / f"{name}-{mode}")
                except PeerError as error:
                    failures[name] = str(error)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for (name, mode), child in list(children.items()):
                try:
                    results[name][mode].append(child.round())
                except PeerError as error:
                    failures[name] = str(error)
                    del children[name, mode]
    finally:
        for child in children.values():
            child.end()
    return results, failures


def figures(results: Rounds, cores: int) -> Medians:
    """Medians of the rounds: images per CPU second (`one_cpu`, `all_cpu`) and per second of the clock.

    By the clock, quiet rounds alone count where there are any: what other processes did decides, not the result.
    """
    medians: Medians = {}
    for name, modes in results.items():
        figures = medians[name] = {}
        for mode, rounds in modes.items():
            quiet = [each for each in rounds if each["others"] < QUIET * cores]
            for clock, chosen in (("cpu", rounds), ("wall", quiet or rounds)):
                if chosen:
                    figures[f"{mode}_{clock}"] = median(each["images"] / each[clock] for each in chosen)
            figures[f"{mode}_quiet"] = len(quiet)
    return medians


def bars(medians: Medians, cores: int) -> list[Bar]:
    """The project's bars, as far as what they compare could be measured."""

    def ratio(name: str, other: str, figure: str = "one_cpu", beneath: str = "one_cpu") -> float | None:
        above, below = medians[name].get(figure), medians[other].get(beneath)
        return above / below if above and below else None

    def scaling(name: str) -> float | None:
        quiet = medians[name]["one_quiet"] and medians[name]["all_quiet"]
        return ratio(name, name, "all_wall", "one_wall") if quiet and cores > 1 else None

    least, aim = 0.9 * cores, float(cores)
    return [
        Bar("crops, one core, over torchvision v2", ratio("ours-crops", "torchvision-v2-crops"), 1.2, 1.5),
        Bar("crops, one core, over libjpeg-turbo's decoding alone", ratio("ours-crops", "decode"), 0.6, 0.75),
        Bar("complete, one core, over lightly", ratio("ours", "lightly"), 2.0, 2.5),
        Bar(f"crops, {cores} cores over one, by the clock", scaling("ours-crops"), least, aim),
        Bar(f"complete, {cores} cores over one, by the clock", scaling("ours"), least, aim),
    ]


def table(title: str, rows: dict[str, Row], medians: Medians, cores: int) -> list[str]:
    """The rows of one kind; `ours` is this project's figure over the row's."""
    own = medians[next(iter(rows))]
    lines = ["", title, f"{'':25}{'one core':>10}{'ours':>8}{f'{cores} cores':>10}{'ours':>8}   work"]
    for name, row in rows.items():
        its = medians[name]
        one = cells(its.get("one_cpu"), own.get("one_cpu"), disturbed=False)
        several = cells(its.get("all_wall"), own.get("all_wall") if own["all_quiet"] else None, not its["all_quiet"])
        lines.append(f"{row.title:25}{one}{several}   {row.work}")
    return lines


def cells(its: float | None, own: float | None, disturbed: bool) -> str:
    """A figure and the ratio to it, which a disturbed figure has not."""
    ratio = f"{own / its:.2f} x" if own and its and not disturbed else "-"
    return f"{f'{its:.0f}' if its else '-':>9}{'~' if its and disturbed else ' '}{ratio:>8}"


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    models = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    versions = {package: installed(package) for package in PACKAGES}
    lightly = next(BEYOND.glob("lightly-*.dist-info"), None)
    versions["lightly"] = lightly.name.split("-")[1].removesuffix(".dist") if lightly else None
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def installed(package: str) -> str | None:
    """Its version, if it is there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print the tables and the bars, and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample", type=Path, help="parquet with a column `image` of {bytes, path}: JPEGs at full size")
    parser.add_argument("--json", type=Path, help="write every number there")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--strict", action="store_true", help="exit with 1 unless every bar is met")
    arguments = parser.parse_args()
    try:
        columns = pq.read_schema(arguments.sample).names
    except (OSError, pyarrow.ArrowInvalid) as error:
        parser.error(f"{arguments.sample} cannot be read as parquet: {error}")
    if "image" not in columns:
        parser.error(f"{arguments.sample} has no column `image` of {{bytes, path}}")
    with tempfile.TemporaryDirectory(prefix="bench-loader-") as folder:
        results, failures = measure(arguments.sample.resolve(), arguments.rounds, Path(folder))
    facts = machine()
    medians = figures(results, facts["cores"])
    judged = bars(medians, facts["cores"])
    print("\n".join(report(medians, failures, judged, facts, arguments.rounds)))
    if arguments.json:
        content = {
            "command": shlex.join(sys.argv),
            "machine": facts,
            "medians": medians,
            "bars": [{**asdict(bar), "met": bar.met()} for bar in judged],
            "failures": failures,
            "rounds": results,
        }
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    return int(arguments.strict and not all(bar.met() for bar in judged))


def report(
    medians: Medians, failures: dict[str, str], judged: list[Bar], facts: dict[str, Any], rounds: int
) -> list[str]:
    """What is printed."""
    cores = facts["cores"]
    measured = [figures for figures in medians.values() if "all_wall" in figures]
    quiet = sum(figures["all_quiet"] for figures in measured)
    return [
        f"{facts['cpu']}, {cores} cores; medians of {rounds} rounds, taken in turn; batches of 64",
        "one core: images per CPU second; all cores: images per second of the clock",
        f"on all cores {quiet:.0f} of {rounds * len(measured)} rounds were undisturbed and count; ~ had none such",
        *table("Decode, two crops of 224 pixels, flip: uint8", CROPS, medians, cores),
        *table("Decode, both views of Table 6, normalised: float32 NCHW", COMPLETE, medians, cores),
        *(f"not measured: {name}: {why}" for name, why in failures.items()),
        "",
        *(bar.verdict() for bar in judged),
    ]


if __name__ == "__main__":
    sys.exit(main())
