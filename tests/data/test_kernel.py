"""Compiling where the result cannot be kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")


def test_code_that_cannot_be_kept_is_compiled_all_the_same(tmp_path: Path) -> None:
    """Protects read-only installations, where numba's cache raises on import."""
    (tmp_path / "file").touch()
    (tmp_path / "one.py").write_text("def one():\n    return 1\n")
    code = (
        "from one import one; from harness.data.kernel import kernel; k = kernel(one); print(k(), k.stats.cache_path)"
    )
    environment = {
        **os.environ,
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
        "NUMBA_CACHE_DIR": str(tmp_path / "file" / "cache"),
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "None"]
