"""What is said of GPUs: made cases of every kind, and what there is here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.launch.doctor import gpus as subject
from harness.launch.doctor.gpus import Gpu, Seen, gpus, see

H200 = Gpu(name="NVIDIA H200", memory_bytes=150 * 10**9, free_bytes=149 * 10**9)
WELL = Seen(driver="570.86.15", build="13.0", gpus=(H200, H200), nccl="2.28.9", modes=("Default",))


def test_gpus_that_work() -> None:
    """Everything a person would ask of them in one line."""
    found = gpus("a100", WELL)
    assert found.state == "ok"
    assert found.found == ("NVIDIA H200 (150 GB), NVIDIA H200 (150 GB); driver 570.86.15, CUDA 13.0, NCCL 2.28.9")


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (replace(WELL, gpus=(H200, replace(H200, free_bytes=3 * 10**9))), "of GPU 1's memory only 3 GB are free"),
        (replace(WELL, modes=("Default", "Exclusive_Process")), "compute mode Default, Exclusive_Process"),
        (replace(WELL, nccl=None), "GPUs cannot train a run together"),
    ],
)
def test_gpus_with_a_fault(seen: Seen, said: str) -> None:
    """Runs would start, and go wrong: a warning with what to do."""
    found = gpus("a100", seen)
    assert (found.state, bool(found.remedy)) == ("warn", True)
    assert said in found.found


def test_one_gpu_needs_no_nccl() -> None:
    """Nothing is sent between GPUs."""
    assert gpus("a100", replace(WELL, gpus=(H200,), nccl=None)).state == "ok"


def test_none_is_as_bad_as_the_profile_needs_them() -> None:
    """The laptop's trains on the CPU by design, the paper's would take years."""
    none = Seen(driver=None, build="13.0", problem="Found no NVIDIA driver on your system.")
    assert gpus("cpu", none).state == "ok"
    assert gpus("a100", none).state == "warn"
    assert "reckoned on a100" in gpus("a100", none).found


@pytest.mark.parametrize(("build", "remedy"), [("13.0", "a driver for CUDA 13.0"), (None, "installs Torch with CUDA")])
def test_a_driver_that_torch_cannot_use(build: str | None, remedy: str) -> None:
    """Whatever the profile: somebody has GPUs, and would train on the CPU without a word."""
    found = gpus("cpu", Seen(driver="470.57", build=build, problem="The NVIDIA driver is too old (found 11040)."))
    assert found.state == "fail"
    assert "driver 470.57 is there" in found.found
    assert "too old" in found.found
    assert remedy in found.remedy


def test_what_is_here() -> None:
    """As many as Torch counts, each of which has computed; where there is none, why."""
    seen = see()
    assert len(seen.gpus) == torch.cuda.device_count()
    assert bool(seen.gpus) != bool(seen.problem)
    assert seen.build == torch.version.cuda


def test_the_drivers_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the kernel module's own words; GPUs that are hidden on purpose are no fault."""
    words = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 03:08:34 UTC 2025"
    (tmp_path / "version").write_text(f"{words}\nGCC version: 12.2.0\n")
    monkeypatch.setattr(subject, "DRIVER", tmp_path / "version")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert see().driver == "570.86.15"
    if not torch.cuda.is_available():
        assert gpus("cpu", see()).state == "fail"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert see().driver is None
