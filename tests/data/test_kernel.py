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


def test_a_change_in_any_source_makes_the_code_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against kept code of another version: a kernel compiles in what lies in other files."""
    from numba.core.registry import cpu_target  # noqa: PLC0415 - absent without numba

    from harness.data import bicubic, kernel  # noqa: PLC0415

    codegen = cpu_target.target_context.codegen()
    cache = bicubic.crop._cache
    before = cache._index_key((), codegen)
    monkeypatch.setattr(kernel, "VERSION", "another")
    assert cache._index_key((), codegen) != before
    users = {path.name for path in Path(kernel.__file__).parent.glob("*.py") if "@kernel" in path.read_text()}
    assert users | {"augment.py", "kernel.py", "lanes.py"} == set(kernel.SOURCES)
