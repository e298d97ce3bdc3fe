"""Which commit a record names: the checkout's own, and in an image, which has none, the one it was built from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.launch.site import commit


def test_a_checkout_says_it_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says."""
    monkeypatch.setenv("HARNESS_COMMIT", "c0ffee")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert commit().removesuffix("+changes") == head.stdout.strip()


def test_an_image_says_what_it_was_built_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And `unknown` where nobody told it."""
    (tmp_path / "experiments" / "recipes").mkdir(parents=True)
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    monkeypatch.setenv("HARNESS_COMMIT", "c0ffee")
    assert commit() == "c0ffee"
    monkeypatch.setenv("HARNESS_COMMIT", "")
    assert commit() == "unknown"
