"""What became of each attempt at a run: whose fault its end was, and whether the run has another."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayError, RayTaskError
from ray.train.v2._internal.exceptions import RayTrainError
from ray.tune import Callback
from torch.distributed import DistError

from harness.launch.task import fail
from harness.tracking.lease import Lease, read_owner
from harness.tracking.record import RecordError, Runs

OWN_RETRIES = 2  # of a run that raised; it goes on from its last checkpoint
# A node that dies takes its runs with it, whatever they are, and one that is lent by the hour dies often: losses count
# only as long as no checkpoint comes between them. Ten in a row are the run's doing, or no place to train.
LOST_RETRIES = 10
GLOO = "gloo/transport/"  # in what gloo says of a connection that broke; it has no kind of its own for that

WHERE = re.compile(r"\bip=([^,)\s]+)")  # in what Ray says of an error in another process


class LostError(RuntimeError):
    """A worker is gone, or never came; what it worked on goes on elsewhere."""


class UnplacedError(LostError):
    """No room was found for the workers in time: nothing was tried."""


class Attempts:
    """Those of one sweep. Each that ended badly becomes a line in the run's attempts.jsonl, after earlier sweeps'."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._own: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._made: Counter[str] = Counter()
        self._reached: dict[str, str] = {}
        self._what: dict[str, str] = {}

    def note(self, key: str, error: BaseException) -> None:
        """An attempt at the run of `key` ended with this."""
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, UnplacedError):
            return
        lost = is_loss(cause)
        reached = max((path.name for path in self._runs.folder(key).glob("checkpoints/checkpoint-*.pt")), default="")
        if lost and reached > self._reached.get(key, ""):
            self._lost[key] = 0
        self._reached[key] = reached
        (self._lost if lost else self._own)[key] += 1
        self._made[key] += 1
        self._what[key] = what = str(cause) if isinstance(cause, LostError) else self._words(key, cause, lost)
        line = {
            "time_unix_s": time.time(),
            "node": self._node(key, error),
            "fault": "node or worker" if lost else "run",
            "what": what,
        }
        with suppress(OSError), (self._runs.folder(key) / "attempts.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")  # a full disk takes none; it is counted all the same

    def spent(self, key: str) -> bool:
        """Whether the run has had all its attempts."""
        return self._own[key] > OWN_RETRIES or self._lost[key] > LOST_RETRIES

    def told(self, key: str) -> str:
        """Why the last attempt ended, and which one it was."""
        return f"{self._what[key]} (attempt {self._made[key]}; all in attempts.jsonl)"

    def give_up(self, key: str) -> None:
        """Say in the record of a run that died with its worker why it ended; nobody else could."""
        lease = Lease(self._runs.folder(key))
        with suppress(OSError, RecordError):  # a full disk, or a record that nobody can read: it is told all the same
            if lease.acquire():
                try:
                    fail(self._runs, key, self.told(key))
                finally:
                    lease.release()

    def _words(self, key: str, cause: BaseException, lost: bool) -> str:
        if lost:
            return in_words(cause)
        with suppress(RecordError):
            record = self._runs.read(key)
            if record is not None and record.state == "failed" and record.error:
                return record.error
        return f"{type(cause).__name__}: {_last_line(cause)}"

    def _node(self, key: str, error: BaseException) -> str:
        """Where it was: by the lease that a dead process leaves behind, or by Ray's word on one that raised."""
        owner = read_owner(self._runs.folder(key) / "lease.json")
        told = WHERE.search(str(error))
        return owner.host if owner is not None else told[1] if told else "unknown"


class Noting(Callback):
    """Tune tells it of every trial that ended in an error, after the frontier has heard that it ended."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_info: Any) -> None:
        self._attempts.note(trial.config["key"], _error_of(trial))


def _error_of(trial: Any) -> BaseException:
    """What Tune has kept of it: the error itself where that came from the trial's process, else its words."""
    if trial.pickled_error_file is not None:
        error: BaseException = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        return error
    return LostError(Path(trial.error_file).read_text(encoding="utf-8").strip().splitlines()[-1])


def is_loss(error: BaseException) -> bool:
    """Whether it tells of a process that is gone, a node, or a connection to one; not of what the run does itself."""
    if isinstance(error, RayTaskError):
        return is_loss(error.cause)
    if isinstance(error, RayError | RayTrainError | LostError | DistError):
        return True
    return isinstance(error, RuntimeError) and GLOO in str(error)


def loss_among(failures: Mapping[int, BaseException]) -> str | None:
    """What was lost, where that explains the failures of all ranks; None where one of them is the run's own.

    A rank that fails takes the others' connections with it, so theirs say nothing.
    """
    if not all(is_loss(error) for error in failures.values()):
        return None
    gone = {rank: error for rank, error in failures.items() if isinstance(error, RayError | RayTrainError)} or failures
    rank, error = min(gone.items())
    return f"rank {rank}: {in_words(error)}"


def in_words(error: BaseException) -> str:
    """One line of Ray's many."""
    text = str(error)
    if "node has died" in text:
        return "its node died"
    if "low on memory" in text:
        return "its node ran low on memory, and Ray ended it"
    if isinstance(error, RayError | RayTrainError):
        return "its process died: killed, crashed, or out of memory"
    return f"the connection to another rank broke: {_last_line(error)}"


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else "no message"
