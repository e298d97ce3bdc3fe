"""The machines a plan can be reckoned on: what the file says of them, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.config.errors import ConfigError
from harness.config.files import profile_names, project_root, read_profile
from harness.launch.machines import machine_named

GPUS = ("v100", "a10", "a100", "l4", "l40s", "h100", "h200")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """machines.yaml in a checkout of the test's own."""
    shutil.copytree(project_root() / "experiments", tmp_path / "checkout" / "experiments")
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path / "checkout"))
    return tmp_path / "checkout" / "experiments" / "machines.yaml"


def test_published_throughput_is_what_is_assumed() -> None:
    """NVIDIA's images/s of training ResNet-50, each 3 forward passes of 4,087,136,256 multiply-adds."""
    per_image = 2 * 3 * 4_087_136_256
    assert machine_named("a100", "here").assumed_tflops * 1e12 / per_image == pytest.approx(938, rel=0.01)
    assert machine_named("v100", "here").assumed_tflops * 1e12 / per_image == pytest.approx(367, rel=0.01)


@pytest.mark.parametrize("name", GPUS)
def test_peaks_are_in_the_order_of_precision(name: str) -> None:
    """A typing error would show: less precision is faster, twice in tensor cores, and nothing is above its peak."""
    machine = machine_named(name, "here")
    peaks = machine.peak_tflops
    assert machine.memory_gb is not None
    assert machine.assumed_tflops < peaks[machine.assumed_precision]
    if "tf32" in peaks:
        assert peaks["float32"] < peaks["tf32"]
        assert peaks["bf16"] / peaks["tf32"] == pytest.approx(2, rel=0.02)


def test_every_profile_names_a_machine() -> None:
    """A profile of a machine nobody described could not be planned."""
    for name in profile_names():
        profile, document = read_profile(name)
        assert machine_named(profile.machine, document.where("machine")).assumed_tflops > 0


def test_an_unknown_machine_names_the_known(file: Path) -> None:
    """The sentence says which option or line names it, and what there is."""
    with pytest.raises(ConfigError) as error:
        machine_named("h10", "--gpu")
    assert str(error.value).startswith("--gpu: ")
    assert str(error.value).endswith(f"has no machine 'h10'; known: cpu, {', '.join(GPUS)}")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("assumed_fraction: 0.147", "assumed_fraction: 1.47", r"assumed_fraction: must be above 0 and at most 1"),
        ("assumed_fraction: 0.147", "assumed_fraction: 0", r"assumed_fraction: must be above 0 and at most 1"),
        ("reported: [NVIDIA H200]", "reported: [NVIDIA L4]", r"'NVIDIA L4' stands twice"),
        ("{float32: 15.7}", "{tf32: 15.7}", r"v100.assumed_precision: peak_tflops has no float32"),
        ("{float32: 15.7}", "{float16: 15.7}", r"v100.peak_tflops: must be one of float32, tf32, bf16"),
    ],
)
def test_a_wrong_file(file: Path, old: str, new: str, problem: str) -> None:
    """File, line and what is wrong, whichever machine was asked for."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"machines\.yaml:\d+: machines\..*{problem}"):
        machine_named("cpu", "here")
