"""Every shell script of the project, by shellcheck: a mistake in one shows on a cluster, after hours in a queue."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.config.files import project_root

SHELLCHECK = Path(sys.executable).parent / "shellcheck"
LEFT_OUT = {".git", ".venv", ".harness", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}


def scripts() -> list[Path]:
    """By their endings, or by their first line."""
    root = project_root()
    files = [
        path
        for folder in root.iterdir()
        if folder.name not in LEFT_OUT
        for path in (folder.rglob("*") if folder.is_dir() else [folder])
        if path.is_file()
    ]
    return sorted(path for path in files if path.suffix in (".sh", ".sbatch") or _begins_as_shell(path))


def _begins_as_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(80)
    return first.startswith(b"#!") and first.split()[-1] in (b"bash", b"sh", b"/bin/sh", b"/bin/bash")


def test_all_are_found() -> None:
    """Else the other test would hold for none."""
    names = {path.name for path in scripts()}
    assert {"setup.sh", "job.sh", "node.sh", "shared.sbatch", "exclusive.sbatch", "run"} <= names


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    """Not even at the level of style; sourced files are followed."""
    told = subprocess.run(
        [SHELLCHECK, "--external-sources", "--shell=bash", path],
        cwd=project_root(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
