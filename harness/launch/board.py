"""The live view of a sweep: a line for each run with progress, speed and ETA, and a total; plain without a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.launch.observer import Seen, read_progress
from harness.launch.plan import Plan, Planned, status
from harness.tracking.record import FINISHED, Runs

POLL_SECONDS = 1.0
PLAIN_SECONDS = 20.0


@dataclass(frozen=True)
class Line:
    """One run as the board shows it."""

    run: Planned
    status: str
    seen: Seen | None

    @property
    def share(self) -> float:
        if self.status in FINISHED:
            return 1.0
        return self.seen.done / self.seen.total if self.seen and self.seen.total else 0.0

    @property
    def eta_s(self) -> float | None:
        if self.seen is None or self.seen.updates_per_s <= 0:
            return None
        return (self.seen.total - self.seen.done) / self.seen.updates_per_s


def lines(plan: Plan, runs: Runs) -> list[Line]:
    """The plan's runs as they stand on disk, whoever runs them."""
    return [Line(run, status(runs, run.key, run.spec), read_progress(runs.folder(run.key))) for run in plan.runs]


def title(run: Planned) -> str:
    """`pretrain table5b:byol seed 0`, with how many more cells share it."""
    more = f" (+{len(run.cells) - 1})" if len(run.cells) > 1 else ""
    return f"{run.kind} {run.cells[0]}{more} seed {run.seed}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def render(board: list[Line], elapsed_s: float, left_s: float | None) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for name in ("run", "progress", "updates/s", "ETA"):
        table.add_column(name, justify="left" if name == "run" else "right")
    for line in board:
        if line.status == "running":
            speed = f"{line.seen.updates_per_s:.1f}" if line.seen else "-"
            table.add_row(title(line.run), f"{line.share:.0%}", speed, duration(line.eta_s))
    return Group(table, Text(summary(board, elapsed_s, left_s)))


def summary(board: list[Line], elapsed_s: float, left_s: float | None) -> str:
    done = sum(line.status in FINISHED for line in board)
    failed = sum(line.status == "failed" for line in board)
    bad = f", {failed} failed" if failed else ""
    return f"{done} of {len(board)} runs finished{bad}; {duration(elapsed_s)} gone, about {duration(left_s)} to go"


class Board:
    """Watches the runs of a plan from a thread of its own."""

    def __init__(self, plan: Plan, runs: Runs, say: Callable[[str], None], console: Console | None = None) -> None:
        self._plan, self._runs, self._say = plan, runs, say
        self._console = console or Console()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="board", daemon=True)
        self._started = time.monotonic()
        self._work_before = self._work(lines(plan, runs))

    def __enter__(self) -> Board:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self, board: list[Line]) -> float:
        """Work done so far, in planned device-hours: runs differ much in length."""
        return sum(line.share * line.run.cost.device_hours for line in board)

    def _left_s(self, board: list[Line], elapsed_s: float) -> float | None:
        done = self._work(board) - self._work_before
        rest = sum(line.run.cost.device_hours for line in board) - self._work(board)
        return rest / done * elapsed_s if done > 0 else None

    def _watch(self) -> None:
        if self._console.is_terminal:
            self._live()
        else:
            self._plain()

    def _live(self) -> None:
        with Live(console=self._console, refresh_per_second=2, transient=True) as live:
            while not self._stop.wait(POLL_SECONDS):
                board, elapsed = lines(self._plan, self._runs), time.monotonic() - self._started
                live.update(render(board, elapsed, self._left_s(board, elapsed)))

    def _plain(self) -> None:
        """A line when a run ends and a summary now and then; one last look when the sweep is over."""
        said = {run.key for run in self._plan.runs if run.finished}
        spoken, over = time.monotonic(), False
        while not over:
            over = self._stop.wait(POLL_SECONDS)
            board, elapsed = lines(self._plan, self._runs), time.monotonic() - self._started
            for line in board:
                if line.status in FINISHED and line.run.key not in said:
                    said.add(line.run.key)
                    spent = f" in {duration(line.seen.spent_s)}" if line.seen else ""
                    self._say(f"{line.status}: {title(line.run)}{spent}")
            if not over and time.monotonic() - spoken >= PLAIN_SECONDS:
                spoken = time.monotonic()
                self._say(summary(board, elapsed, self._left_s(board, elapsed)))
