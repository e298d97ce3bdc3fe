"""What is installed against what is locked, and what decodes images."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.launch.doctor import packages as subject
from harness.launch.doctor.packages import decoder, locked, packages, python_version

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of the test's own."""
    monkeypatch.setattr(subject, "project_root", lambda: tmp_path)
    return tmp_path / "requirements.lock"


def test_the_repositorys_lock_is_read_whole() -> None:
    """As many packages as pip itself would take of it: a line that is passed over would never be missed."""
    found = locked(REPOSITORY / "requirements.lock")
    assert {"torch", "ray", "mlflow", "numpy", "ffcv"} <= found.keys()
    assert "pywin32" not in found, "it is for another platform"
    assert all(str(pin).startswith("==") for pin in found.values())
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    named = {line.partition("==")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}
    assert found.keys() <= named
    assert len(found) > 0.9 * len(named), "few are for other platforms"


def test_a_lock_that_is_kept(lock: Path) -> None:
    """A build's own label after the version (2.11.0+cpu) is the same version; FFCV may be left out."""
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in ("numpy", "torch")}
    lines = [f"{name}=={version} \\\n    --hash=sha256:00" for name, version in installed.items()]
    lock.write_text("\n".join([*lines, "ffcv==0.0.1", "gone==1.0 ; sys_platform == 'win32'"]))
    found = packages()
    assert (found.state, found.found) == ("ok", "3 as locked")


def test_packages_that_differ_are_named(lock: Path) -> None:
    """Another version, one that is missing, and of many the first eight."""
    numpy = importlib.metadata.version("numpy")
    lock.write_text("numpy==1.0 \\\n    --hash=sha256:00\nno-such-package==3.2")
    found = packages()
    assert (found.state, found.remedy) == ("warn", subject.SETUP)
    assert found.found == f"2 of 2 are not as locked: numpy {numpy}, not 1.0, no-such-package is missing"
    lock.write_text("\n".join(f"no-such-package-{number}==1" for number in range(20)))
    assert packages().found.endswith("no-such-package-7 is missing and 12 more")


def test_without_a_lock(lock: Path) -> None:
    """An installed wheel has none: said, not passed over."""
    assert not lock.exists()
    assert packages().state == "warn"


def test_the_python_that_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """This one is; the one before 3.11 is not."""
    assert python_version().state == "ok"
    monkeypatch.setattr(subject.platform, "python_version", lambda: "3.10.14")
    found = python_version()
    assert found.state == "fail"
    assert found.found.startswith("3.10.14 is not ")
    assert "HARNESS_PYTHON" in found.remedy


@pytest.mark.ffcv
def test_ffcv_decodes_where_it_is_installed() -> None:
    """And torch keeps its threads, which FFCV sets when it is imported."""
    assert decoder().state == "ok"


def test_without_ffcv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision decodes, which is a warning: runs go on."""
    monkeypatch.setitem(sys.modules, "ffcv", None)
    found = decoder()
    assert (found.state, found.found.partition(":")[0]) == ("warn", "FFCV is not installed")


@pytest.mark.ffcv
def test_an_ffcv_that_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV's library was removed, say: the loader would quietly take torchvision."""
    monkeypatch.setitem(sys.modules, "harness.data.compiled", None)
    found = decoder()
    assert found.state == "warn"
    assert found.found.startswith("FFCV does not work (")
    assert "libopencv-dev" in found.remedy


def test_no_decoder_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchvision whose decoder gives something else is a failure."""
    import torch  # noqa: PLC0415
    from torchvision import io  # noqa: PLC0415

    monkeypatch.setattr(io, "decode_jpeg", lambda _: torch.from_numpy(np.zeros((1, 8, 8), np.uint8)))
    assert decoder().state == "fail"
