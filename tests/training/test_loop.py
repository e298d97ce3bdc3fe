"""The loop: a run that was interrupted anywhere ends where an undisturbed one does, bit for bit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small import BYOL, SIMCLR, pretrain, supervised

from harness.config.schema import Pretrain
from harness.data.prepare import Dataset
from harness.training import loop
from harness.training.batch_plan import BatchPlan
from harness.training.begin import begin
from harness.training.checkpoint import Checkpoints
from harness.training.pretraining import Pretraining
from harness.training.ranks import Ranks
from harness.training.supervision import Supervised

CPU = torch.device("cpu")
UPDATES = 5  # of 256 images in one epoch of the digits


class Log:
    """An observer that remembers, and asks for an end after so many updates."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.reports: dict[int, dict[str, float]] = {}
        self.resumptions: list[int] = []
        self.seen: list[loop.Progress] = []

    def resumed(self, step: int) -> None:
        self.resumptions.append(step)
        self.reports = {done: metrics for done, metrics in self.reports.items() if done <= step}

    def report(self, step: int, metrics: dict[str, float]) -> None:
        assert step not in self.reports, "a step is reported once"
        self.reports[step] = metrics

    def progress(self, progress: loop.Progress) -> None:
        self.seen.append(progress)

    def stopping(self) -> bool:
        return self.stop_at is not None and len(self.seen) >= self.stop_at


class Interrupted(Exception):  # noqa: N818
    """Stands for whatever ends a process."""


class Counting:
    """A task whose state is the sum of its batches."""

    name = "count"

    def __init__(self, total: int, stop_before: int | None = None) -> None:
        self.total, self.stop_before, self.sum = total, stop_before, 0

    def feed(self, first: int) -> Iterator[int]:
        yield from range(first, self.total)

    def update(self, step: int, batch: int) -> None:
        if step == self.stop_before:
            raise Interrupted
        assert batch == step
        self.sum += batch

    def diagnose(self) -> dict[str, float]:
        return {"sum": float(self.sum)}

    def state_dict(self) -> dict[str, Any]:
        return {"sum": self.sum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sum = state["sum"]


def run(task: loop.Task, folder: Path, log: Log, *, reports: int = 50, every_seconds: float = 0.0) -> None:
    """The loop in this process; with 0 seconds a checkpoint follows every update."""
    loop.run(
        loop.Training(
            task,
            checkpoints=Checkpoints(folder),
            device=CPU,
            observer=log,
            cadence=loop.Cadence(reports=reports, checkpoint_seconds=every_seconds, checkpoint_share=math.inf),
            ranks=Ranks.join(1, 1),
        )
    )


def test_reports_come_evenly_and_at_the_end(tmp_path: Path) -> None:
    """About `reports` diagnostics over a run, the last update always among them, under the task's name."""
    log = Log()
    run(Counting(25), tmp_path, log, reports=6)
    assert list(log.reports) == [4, 8, 12, 16, 20, 24, 25]
    assert log.reports[25] == {"count.sum": float(sum(range(25)))}
    assert [one.done for one in log.seen] == list(range(1, 26))


@pytest.mark.parametrize("every_seconds", [0.0, 1e9], ids=["checkpoints", "none before the end"])
def test_each_step_stands_once_after_a_resume(tmp_path: Path, every_seconds: float) -> None:
    """The observer is told from where a run goes on before anything is reported anew."""
    log = Log()
    with pytest.raises(Interrupted):
        run(Counting(10, stop_before=7), tmp_path, log, every_seconds=every_seconds)
    again = Counting(10)
    run(again, tmp_path, log, every_seconds=every_seconds)
    assert again.sum == sum(range(10))
    assert list(log.reports) == list(range(1, 11))
    assert log.resumptions == [0, 7 if every_seconds == 0 else 0]


def test_a_finished_run_makes_no_further_update(tmp_path: Path) -> None:
    """A crash after the last checkpoint costs nothing but the reading of it."""
    run(Counting(3), tmp_path, Log())
    log, again = Log(), Counting(3, stop_before=0)
    run(again, tmp_path, log)
    assert (again.sum, log.resumptions, log.reports) == (3, [3], {})


@pytest.mark.parametrize("stop_at", [1, 4, 10], ids=["the first update", "in the middle", "the last update"])
def test_an_end_that_is_asked_for(tmp_path: Path, stop_at: int) -> None:
    """The update just made is saved though no checkpoint was due, and a second try goes on from it."""
    log = Log(stop_at)
    with pytest.raises(loop.Stopped, match=f"stopped at update {stop_at}") as end:
        run(Counting(10), tmp_path, log, every_seconds=1e9)
    assert end.value.step == stop_at
    assert [path.name for path in tmp_path.iterdir()] == [f"checkpoint-{stop_at:09d}.pt"]
    log.stop_at, again = None, Counting(10)
    run(again, tmp_path, log, every_seconds=1e9)
    assert again.sum == sum(range(10))
    assert log.resumptions == [0, stop_at]
    assert list(log.reports) == list(range(1, 11))


def test_an_end_asked_for_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    """It is heard when that is on the disk; no further update is made, and nothing is written twice."""
    saved, log = [], Log()

    class Interrupting(Checkpoints):
        def save(self, step: int, state: dict[str, Any]) -> Path:
            saved.append(step)
            if step == 6:
                log.stop_at = 0
            return super().save(step, state)

    with pytest.raises(loop.Stopped, match="update 6"):
        list(loop.together([training(Counting(10), Interrupting(tmp_path), log, seconds=0.0)]))
    assert saved == [1, 2, 3, 4, 5, 6]


def test_other_ranks_do_not_decide(tmp_path: Path) -> None:
    """What is asked of them they leave to rank 0: two that stopped at different updates would share no checkpoint."""
    task, second = Counting(3), Ranks(BatchPlan(update_batch=2, statistics_batch=1, world=2, rank=1))
    loop.run(
        loop.Training(
            task,
            checkpoints=Checkpoints(tmp_path),
            device=CPU,
            observer=Log(stop_at=0),
            cadence=loop.Cadence(),
            ranks=second,
        )
    )
    assert task.sum == sum(range(3))
    assert not list(tmp_path.iterdir())


class Slow(Checkpoints):
    """Writing takes its time."""

    def save(self, step: int, state: dict[str, Any]) -> Path:
        time.sleep(0.02)
        return super().save(step, state)


def training(task: loop.Task, checkpoints: Checkpoints, log: Log, seconds: float = 0.005) -> loop.Training:
    """With a checkpoint as soon as 5 ms have passed, or as long as writing the last one took."""
    cadence = loop.Cadence(checkpoint_seconds=seconds, checkpoint_share=math.inf if seconds == 0 else 1.0)
    return loop.Training(
        task, checkpoints=checkpoints, device=CPU, observer=log, cadence=cadence, ranks=Ranks.join(1, 1)
    )


def test_trainings_together_are_trainings_alone(tmp_path: Path) -> None:
    """Each counts, reports and saves its own; checkpoints are of the same updates, however long one's writing takes."""

    class Unhurried(Counting):
        def update(self, step: int, batch: int) -> None:
            time.sleep(0.002)
            super().update(step, batch)

    tasks, logs = [Unhurried(60), Counting(60, stop_before=40)], [Log(), Log()]
    folders = [Slow(tmp_path / "slow"), Checkpoints(tmp_path / "fast")]

    def both() -> list[loop.Training]:
        return [training(task, folder, log) for task, folder, log in zip(tasks, folders, logs, strict=True)]

    with pytest.raises(Interrupted):
        list(loop.together(both()))
    steps = [sorted(path.name for path in folder.folder.iterdir()) for folder in folders]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 2
    tasks = [Unhurried(60), Counting(60)]
    assert list(loop.together(both())) == []
    for task, log in zip(tasks, logs, strict=True):
        assert task.sum == sum(range(60))
        assert list(log.reports) == list(range(1, 61))


def test_trainings_at_different_updates_are_refused(tmp_path: Path) -> None:
    """One that stands elsewhere would be fed the batches of other updates."""
    run(Counting(3), tmp_path / "done", Log())
    pair = [training(Counting(3), Checkpoints(tmp_path / name), Log()) for name in ("new", "done")]
    with pytest.raises(ValueError, match=r"\[0, 3\]"):
        next(loop.together(pair))


def test_one_that_diverges_leaves_the_others(tmp_path: Path) -> None:
    """It is told once, makes no further update, and writes no further checkpoint."""

    class Diverging(Counting):
        def diagnose(self) -> dict[str, float]:
            if self.sum > 10:
                raise loop.Diverged(5, {})
            return super().diagnose()

    tasks, logs = [Diverging(20), Counting(20)], [Log(), Log()]
    pair = [training(task, Checkpoints(tmp_path / str(i)), logs[i]) for i, task in enumerate(tasks)]
    ((which, end),) = loop.together(pair)
    assert (which, end.step) == (pair[0], 5)
    assert [task.sum for task in tasks] == [15, sum(range(20))]
    assert [max(log.reports) for log in logs] == [5, 20]


def test_trainings_stop_together(tmp_path: Path) -> None:
    """At one update, each saved in its own folder, whoever of them is asked; one that has diverged is left as it is."""

    class Diverging(Counting):
        def diagnose(self) -> dict[str, float]:
            raise loop.Diverged(1, {})

    tasks, logs = [Counting(20), Diverging(20), Counting(20)], [Log(stop_at=7), Log(), Log()]
    going = [training(task, Checkpoints(tmp_path / str(i)), logs[i], 1e9) for i, task in enumerate(tasks)]
    told = loop.together(going)
    assert next(told)[0] == going[1]
    with pytest.raises(loop.Stopped, match="update 7"):
        next(told)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.pt")) == [
        "0/checkpoint-000000007.pt",
        "2/checkpoint-000000007.pt",
    ]


SHAPE = {"update": 256, "statistics": 64, "epochs": 1}
PLAIN = pretrain(BYOL, **SHAPE)


def train(
    spec: Pretrain, digits: Dataset, folder: Path, stop_before: int | None = None, log: Log | None = None
) -> Pretraining | Supervised:
    """A real pretraining to its end, or until it is interrupted, or `log` asks for an end."""
    task = begin(spec, digits, CPU, Ranks.join(256, 64), 1)
    assert task.total == UPDATES
    made = task.update

    def update(step: int, batch: Any) -> None:
        if step == stop_before:
            raise Interrupted
        made(step, batch)

    task.update = update  # type: ignore[method-assign]
    try:
        run(task, folder, log or Log())
    except Interrupted:
        assert stop_before is not None
    finally:
        task.close()
    return task


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, tensors inside included."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize(
    ("spec", "stops"),
    [(PLAIN, range(UPDATES)), (pretrain(SIMCLR, **SHAPE), [3]), (supervised(**SHAPE), [1, 4])],
    ids=["byol", "simclr", "supervised"],
)
def test_interrupted_anywhere_is_undisturbed(
    spec: Pretrain, stops: Sequence[int], digits: Dataset, tmp_path: Path
) -> None:
    """Parameters, buffers, target, momentum and diagnostics are the undisturbed run's."""
    whole = train(spec, digits, tmp_path / "whole")
    assert len(whole.state.history) == UPDATES
    for stop in stops:
        train(spec, digits, tmp_path / str(stop), stop_before=stop)
        resumed = train(spec, digits, tmp_path / str(stop))
        assert same(resumed.state_dict(), whole.state_dict()), f"interrupted before update {stop}"
        assert resumed.results() == whole.results()


@pytest.mark.parametrize(
    "spec", [PLAIN, pretrain(SIMCLR, **SHAPE), supervised(**SHAPE)], ids=["byol", "simclr", "supervised"]
)
def test_stopped_is_undisturbed(spec: Pretrain, digits: Dataset, tmp_path: Path) -> None:
    """What an end that was asked for left goes on as if nobody had asked, bit for bit."""
    whole = train(spec, digits, tmp_path / "whole")
    with pytest.raises(loop.Stopped):
        train(spec, digits, tmp_path / "stopped", log=Log(stop_at=2))
    resumed = train(spec, digits, tmp_path / "stopped")
    assert same(resumed.state_dict(), whole.state_dict())
    assert resumed.results() == whole.results()


def test_a_second_interruption_from_a_torn_checkpoint(digits: Dataset, tmp_path: Path) -> None:
    """The newest checkpoint is cut off: the run goes on from the one before it, to the same end."""
    whole = train(PLAIN, digits, tmp_path / "whole")
    train(PLAIN, digits, tmp_path / "torn", stop_before=4)
    newest = max((tmp_path / "torn").iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    assert same(train(PLAIN, digits, tmp_path / "torn").state_dict(), whole.state_dict())


def test_a_loss_that_is_no_number_ends_the_run(digits: Dataset, tmp_path: Path) -> None:
    """Divergence is an outcome with the update it was seen at, not a run of nonsense to the end."""
    task = Pretraining(pretrain(BYOL, update=256, statistics=256, epochs=1), digits, CPU, Ranks.join(256, 256), 1)
    made = task.update

    def update(step: int, batch: Any) -> None:
        if step == 2:
            task.state.online.encoder.conv1.weight.data.fill_(torch.nan)
        made(step, batch)

    task.update = update  # type: ignore[method-assign]
    log = Log()
    with pytest.raises(loop.Diverged, match="not finite at update 3") as end:
        run(task, tmp_path, log)
    task.close()
    assert end.value.step == 3
    assert "learning_rate" in end.value.diagnostics
    assert list(log.reports) == [1, 2]


def test_a_schedule_without_an_update_is_refused(digits: Dataset) -> None:
    """A batch larger than all images of all epochs would end a run before it began, with no result."""
    with pytest.raises(ValueError, match="no update"):
        Pretraining(pretrain(BYOL, update=2048, statistics=2048, epochs=1), digits, CPU, Ranks.join(2048, 2048), 1)
