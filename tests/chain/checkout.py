"""A checkout and a home of a test's own, and commands in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parents[2]
CELLS = ("byol", "simclr")


class Checkout:
    """A temporary copy of what a checkout declares, cut down to two cells and a few epochs, and a home."""

    def __init__(self, folder: Path, epochs: int = 2, cells: dict[str, dict[str, Any]] | None = None) -> None:
        """`cells` replaces Table 5b's by others, each with what it sets."""
        self.root, self.home, self.elsewhere = folder / "root", folder / "home", folder / "elsewhere"
        self.elsewhere.mkdir(parents=True)
        shutil.copytree(CHECKOUT / "experiments", self.root / "experiments")
        shutil.copytree(CHECKOUT / "tables", self.root / "tables", ignore=shutil.ignore_patterns("built"))
        with edited(self.root / "experiments" / "tables" / "table5b.yaml") as table:
            kept = [cell for cell in table["cells"] if cell["id"] in CELLS]
            table["cells"] = [{"id": name, "set": changes} for name, changes in cells.items()] if cells else kept
        with edited(self.root / "tables" / "table5b.yaml") as layout:
            layout["rows"] = [{"cell": name} for name in cells or CELLS]
            layout["paper"] = {} if cells else {cell: layout["paper"][cell] for cell in CELLS}
        with edited(self.root / "experiments" / "profiles" / "laptop.yaml") as profile:
            profile["pretrain"]["schedule.epochs"] = {"value": epochs}
            profile["pretrain"]["schedule.warmup_epochs"] = {"value": 0}
            # Small, because a large one magnifies float32's rounding from update to update.
            profile["pretrain"]["optimizer.base_lr"] = {"relative": 0.01}
            profile["untrained"] = cells is None
            profile["linear"]["epochs"] = {"value": 2}

    def command(self, *words: str, **variables: str) -> dict[str, Any]:
        """What subprocess starts, in another folder: the checkout is found by HARNESS_ROOT."""
        ours = ("HARNESS_", "RAY_", "MLFLOW_", "PROFILE")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environment |= {"HARNESS_ROOT": str(self.root), "HARNESS_HOME": str(self.home), **variables}
        return {
            "args": [sys.executable, "-m", "harness", *words],
            "cwd": self.elsewhere,
            "env": environment,
            "text": True,
        }

    def harness(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command brought to its end."""
        return subprocess.run(**self.command(*words, **variables), capture_output=True, timeout=280, check=False)


class edited:  # noqa: N801  # read as a verb: `with edited(path) as content`
    """A YAML file to change in place."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        self.content = yaml.safe_load(self.path.read_text())
        return self.content

    def __exit__(self, *error: object) -> None:
        self.path.write_text(yaml.safe_dump(self.content, sort_keys=False))
