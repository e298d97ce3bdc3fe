"""Where things are kept here, and what runs may take. Nothing here bears a run's identity."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.config.errors import ConfigError
from harness.config.files import project_root
from harness.launch.place import Solver, wanted_solver
from harness.launch.settings import Setting, settings
from harness.tracking.record import Runs

SMALLEST_PART = 0.01  # of a GPU that a run may take


@dataclass(frozen=True, kw_only=True)
class Site:
    """home: runs and the local MLflow; data: the prepared datasets; workers: processes that share one pretraining.

    gpu_share: the part of a GPU that each run on one worker takes; None where its size decides.
    online_classifier: report one in every pretraining. solver: of logistic regressions.
    scratch: a folder on each node's own disk that datasets are read from; empty for none.
    """

    home: Path
    data: Path
    tracking_uri: str
    ray_address: str | None = None
    workers: int = 1
    threads: int = 1
    gpu_share: float | None = None
    online_classifier: bool = False
    solver: Solver = "torch"
    scratch: str = ""

    @property
    def runs(self) -> Runs:
        return Runs(self.home / "runs")

    @property
    def ray(self) -> Path:
        """What Ray writes for itself while a sweep goes; on shared storage, because every node looks there."""
        return self.home / "ray"


def site() -> Site:
    """From the environment, else the site's file, else defaults."""
    told = settings()
    home = _folder(told.get("home")) or (project_root() / ".harness").resolve()
    return Site(
        home=home,
        data=_folder(told.get("data")) or (home / "data").resolve(),
        tracking_uri=_text(told.get("tracking_uri")) or f"sqlite:///{home / 'mlflow.db'}",
        ray_address=_text(told.get("ray_address")),
        workers=_whole(told.get("workers")),
        threads=_whole(told.get("threads")),
        gpu_share=_part(told.get("gpu_share")),
        online_classifier=bool(os.environ.get("HARNESS_ONLINE_CLASSIFIER")),
        solver=wanted_solver(),
        scratch=_on_every_node(told.get("scratch")),
    )


def check_writable(here: Site) -> None:
    """Say now, not after hours of training, that results cannot be kept."""
    for name, folder in (("HARNESS_HOME", here.home), ("HARNESS_DATA", here.data)):
        probe = folder / f".probe.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(f"{name}={folder} cannot be written ({error.strerror}); name another folder") from None


def _text(told: Setting | None) -> str | None:
    return told.text if told else None


def _folder(told: Setting | None) -> Path | None:
    return Path(told.text).resolve() if told else None


def _on_every_node(told: Setting | None) -> str:
    if told and not Path(told.text).is_absolute():
        raise told.error("must be an absolute path, of a folder that every node has")
    return told.text if told else ""


def _whole(told: Setting | None) -> int:
    if told is None:
        return 1
    if not (told.text.isascii() and told.text.isdigit()) or int(told.text) < 1:
        raise told.error("must be a whole number of at least 1")
    return int(told.text)


def _part(told: Setting | None) -> float | None:
    if told is None:
        return None
    try:
        part = float(told.text)
    except ValueError:
        part = 0.0
    if not SMALLEST_PART <= part <= 1:
        raise told.error(f"must be a number from {SMALLEST_PART} to 1, as 0.5 for two runs on each GPU")
    return part


def commit() -> str:
    """The commit of the checkout, marked where files differ from it; outside one HARNESS_COMMIT, or `unknown`."""
    try:
        root = project_root()
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (subprocess.CalledProcessError, FileNotFoundError, ConfigError):
        return os.environ.get("HARNESS_COMMIT") or "unknown"  # an image has no checkout
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
