"""Whose fault the end of an attempt was, how many more a run has, and what is kept of each."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed import DistBackendError

from harness.config.schema import Linear, Pretrain
from harness.tracking.lease import Lease
from harness.tracking.record import Record, Runs

pytest.importorskip("ray.tune")
from ray.exceptions import ActorDiedError, NodeDiedError, RayActorError, RayTaskError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from harness.launch import attempts
from harness.launch.attempts import Attempts, LostError, Noting, UnplacedError, is_loss, loss_among

GLOO = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:1")
DEAD = WorkerHealthCheckFailedError("a worker is gone", ActorDiedError())
OWN = ValueError("a batch of 3")
Tiny = tuple[Pretrain, Linear]
Write = Callable[..., Record]


def raised(error: Exception) -> RayTaskError:
    """As Ray hands it on from another process."""
    return RayTaskError("train", "ray::train() (pid=1, ip=10.0.0.7)", error, pid=1, ip="10.0.0.7").as_instanceof_cause()


@pytest.mark.parametrize("error", [ActorDiedError(), NodeDiedError("gone"), DEAD, GLOO, DistBackendError("NCCL")])
def test_losses(error: Exception) -> None:
    """Processes, nodes and connections that are gone, by themselves or as a trial raises them."""
    assert is_loss(error)
    assert is_loss(raised(error))


@pytest.mark.parametrize("error", [OWN, RuntimeError("CUDA out of memory"), MemoryError(), OSError(28, "no space")])
def test_what_a_run_does_itself(error: Exception) -> None:
    """Its own errors, by whatever way they come."""
    assert not is_loss(error)
    assert not is_loss(raised(error))


def test_a_rank_that_fails_takes_the_others_along() -> None:
    """Broken connections say nothing beside an error; alone, or beside a dead process, they are a loss."""
    assert loss_among({0: GLOO, 1: OWN}) is None
    assert loss_among({0: OWN}) is None
    assert "Connection closed" in str(loss_among({0: GLOO}))
    assert loss_among({0: GLOO, 1: DEAD}) == "rank 1: its process died: killed, crashed, or out of memory"


@pytest.fixture
def begun(write: Write, tiny: Tiny, runs: Runs) -> str:
    """The key of a run that has begun."""
    key = write(tiny[0], "running").key
    assert runs.folder(key).is_dir()
    return key


def test_own_errors_and_losses_are_counted_apart(runs: Runs, begun: str) -> None:
    """Ten losses leave all three attempts to the run's own errors."""
    tried = Attempts(runs)
    for _ in range(attempts.LOST_RETRIES):
        tried.note(begun, ActorDiedError())
    for _ in range(attempts.OWN_RETRIES):
        tried.note(begun, raised(OWN))
    assert not tried.spent(begun)
    tried.note(begun, raised(OWN))
    assert tried.spent(begun)
    assert "ValueError: a batch of 3 (attempt 13;" in tried.told(begun)


def test_a_run_that_kills_its_worker_each_time_is_given_up(runs: Runs, begun: str) -> None:
    """Its record says failed, and why; nobody else could have written that."""
    tried = Attempts(runs)
    for _ in range(attempts.LOST_RETRIES + 1):
        assert not tried.spent(begun)
        tried.note(begun, ActorDiedError())
    assert tried.spent(begun)
    tried.give_up(begun)
    record = runs.read(begun)
    assert record is not None
    assert record.state == "failed"
    assert record.error is not None
    assert record.error.startswith("its process died: killed, crashed, or out of memory (attempt 11;")
    assert not (runs.folder(begun) / "lease.json").exists()


def test_losses_count_only_without_progress(runs: Runs, begun: str) -> None:
    """A run of days on nodes that are lent by the hour loses more than ten of them, and gets somewhere."""
    tried, folder = Attempts(runs), runs.folder(begun) / "checkpoints"
    folder.mkdir()
    for step in range(3 * attempts.LOST_RETRIES):
        (folder / f"checkpoint-{step:09d}.pt").touch()
        tried.note(begun, ActorDiedError())
        assert not tried.spent(begun)
    for _ in range(attempts.LOST_RETRIES):
        tried.note(begun, ActorDiedError())
    assert tried.spent(begun)


def test_no_room_is_no_attempt(runs: Runs, begun: str) -> None:
    """A run that never started is where it was."""
    tried = Attempts(runs)
    for _ in range(3 * attempts.LOST_RETRIES):
        tried.note(begun, raised(UnplacedError("no room")))
    assert not tried.spent(begun)
    assert not (runs.folder(begun) / "attempts.jsonl").exists()


def test_each_attempt_leaves_a_line(runs: Runs, begun: str) -> None:
    """When, where, whose fault, and what; a second sweep adds its own."""
    lease = Lease(runs.folder(begun))
    assert lease.acquire()
    Attempts(runs).note(begun, raised(LostError("rank 1: its node died")))
    lease.release()
    Attempts(runs).note(begun, raised(OWN))
    lines = [json.loads(line) for line in (runs.folder(begun) / "attempts.jsonl").read_text().splitlines()]
    assert [(line["fault"], line["what"]) for line in lines] == [
        ("node or worker", "rank 1: its node died"),
        ("run", "ValueError: a batch of 3"),
    ]
    assert lines[1]["node"] == "10.0.0.7"
    assert lines[0]["time_unix_s"] <= lines[1]["time_unix_s"]


def test_what_the_record_says_goes_before_ray_s_words(runs: Runs, tiny: Tiny, write: Write) -> None:
    """The run itself knows best why it failed."""
    key = write(tiny[0], "failed", error="DiskFullError: no space is left").key
    tried = Attempts(runs)
    tried.note(key, raised(OWN))
    assert tried.told(key).startswith("DiskFullError: no space is left (attempt 1;")


@pytest.mark.parametrize("kept", [True, False])
def test_tune_s_trials_are_noted(runs: Runs, begun: str, tmp_path: Path, kept: bool) -> None:
    """Tune keeps an error of the trial's process as it is, of others the words: they are no fault of the run."""
    error, words = tmp_path / "error.pkl", tmp_path / "error.txt"
    error.write_bytes(pickle.dumps(RayActorError()))
    words.write_text("Failure # 1\nthe runtime environment could not be made\n")
    trial: Any = SimpleNamespace(
        config={"key": begun}, pickled_error_file=str(error) if kept else None, error_file=str(words)
    )
    tried = Attempts(runs)
    Noting(tried).on_trial_error(0, [trial], trial)
    what = "its process died" if kept else "the runtime environment could not be made"
    assert tried.told(begun).startswith(what)
    line = json.loads((runs.folder(begun) / "attempts.jsonl").read_text())
    assert line["fault"] == "node or worker"
