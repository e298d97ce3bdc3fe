"""Which commit a number is traced to, in repositories of the test's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.launch.doctor.checkout import checkout


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that counts as a checkout, with one file, and git with no settings of a person's."""
    (tmp_path / "experiments" / "recipes").mkdir(parents=True)
    (tmp_path / "file").write_text("one")
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def git(root: Path, *words: str) -> str:
    """Its answer."""
    person = ("-c", "user.name=nobody", "-c", "user.email=nobody@cluster.example")
    return subprocess.run(["git", *person, *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def test_a_commit_a_change_and_no_repository(root: Path) -> None:
    """Each of the three as a person would have it."""
    assert checkout().state == "warn"
    assert "no commit is known" in checkout().found
    git(root, "init", "--quiet")
    git(root, "add", "file")
    git(root, "commit", "--quiet", "--message", "one")
    found = checkout()
    assert (found.state, found.found) == ("ok", f"commit {git(root, 'rev-parse', 'HEAD')[:12]}, unchanged")
    (root / "file").write_text("two")
    assert (checkout().state, checkout().remedy) == ("warn", "`git commit` them")
