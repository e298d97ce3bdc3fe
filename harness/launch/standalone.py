"""`harness train SPEC.json`: one resolved spec, here and now, with torch alone.

Imports neither Ray, MLflow, FFCV nor PyYAML; `harness sync` on a machine that has them sends the results later.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from harness.config.bounded import read_bounded
from harness.config.errors import ConfigError
from harness.config.schema import Choice, Evaluation, Imported, RandomEncoder, Spec
from harness.data.errors import DataError
from harness.launch.notice import Notice, say
from harness.launch.place import Place, wanted_scratch, wanted_solver
from harness.launch.specs import spec_from, write_spec
from harness.launch.task import DiskFullError, execute
from harness.tracking.lease import TIMEOUT_SECONDS, BusyError
from harness.tracking.record import FINISHED, Runs
from harness.training.loop import Stopped

SPEC_BYTES = 1_000_000  # many times the longest


def train(spec: Path, device: str, threads: int, home: Path, data: Path | None) -> int:
    """Bring the run of `spec` to its end and print what it found; SIGTERM and SIGINT end it before, with all kept."""
    try:
        parsed = spec_from(json.loads(read_bounded(spec, SPEC_BYTES)))
    except RecursionError:
        raise ConfigError(f"{spec}: holds too much in one another") from None
    except (OSError, ValueError) as error:  # JSON's, Unicode's, of the size, of the spec
        raise ConfigError(f"{spec}: {error}") from None
    runs = Runs(home.resolve() / "runs")
    _check(spec, parsed, device, runs)
    place = Place(
        runs=str(runs.path),
        data=str((data or home / "data").resolve()),
        commit=os.environ.get("HARNESS_COMMIT", "unknown"),
        threads=threads,
        device=device,
        online_classifier=bool(os.environ.get("HARNESS_ONLINE_CLASSIFIER")),
        solver=wanted_solver(),
        scratch=wanted_scratch(),
    )
    key = write_spec(runs, parsed)
    with Notice() as notice:
        try:
            record = execute(key, place, asked=notice.given)
        except Stopped as end:
            say(f"{end}; all that was earned is kept, and the same command goes on from there")
            return notice.exit_code
        except (DataError, DiskFullError) as error:
            raise ConfigError(str(error)) from None
        except BusyError as error:
            raise ConfigError(f"{error}; if that was killed, it is free in {TIMEOUT_SECONDS:g} s") from None
    print(f"{record.state}: {runs.folder(key)}")
    for name, value in {**record.results, **record.flags}.items():
        print(f"  {name}: {value:g}")
    return 0


def _check(path: Path, spec: Spec, device: str, runs: Runs) -> None:
    """Say what is in the way before anything is written."""
    if isinstance(spec, RandomEncoder | Imported):
        which = "untrained" if isinstance(spec, RandomEncoder) else "imported"
        raise ConfigError(f"{path}: an {which} encoder is no run to train; give a pretraining or an evaluation")
    if isinstance(spec, Choice):
        for key in spec.candidates:
            record = runs.read(key)
            if record is None or record.state not in FINISHED:
                raise ConfigError(f"{path}: chooses among {key}, which has not finished in {runs.path}; train it first")
    if isinstance(spec, Evaluation):
        _check_encoder(path, spec, runs)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device}: {str(error).splitlines()[0]}") from None


def _check_encoder(path: Path, spec: Evaluation, runs: Runs) -> None:
    """An untrained encoder is made where it is needed; a choice without a training of its own needs none."""
    chooses_alone = isinstance(spec, Choice) and spec.retrain is None
    if chooses_alone or (runs.folder(spec.subject) / "encoder.safetensors").exists():
        return
    subject = runs.folder(spec.subject) / "spec.json"
    if not subject.exists() or not isinstance(spec_from(json.loads(subject.read_text())), RandomEncoder):
        raise ConfigError(f"{path}: evaluates {spec.subject}, which has no encoder in {runs.path}; train it first")
