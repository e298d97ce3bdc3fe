"""What Torch sees of GPUs on a machine, and whether it can compute on them."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.config.finding import Finding, fail, ok, warn

DRIVER = Path("/proc/driver/nvidia/version")
BUSY = 0.8  # of a GPU's memory: where less is free, somebody else uses it
ASK_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One that has computed."""

    name: str
    memory_bytes: int
    free_bytes: int


@dataclass(frozen=True, kw_only=True)
class Seen:
    """driver: its version, None where there is none; build: the CUDA that Torch is built for; modes: of computing.

    problem: why Torch sees no GPU, or cannot compute on one.
    """

    driver: str | None
    build: str | None
    gpus: tuple[Gpu, ...] = ()
    nccl: str | None = None
    modes: tuple[str, ...] = ()
    problem: str | None = None


def see() -> Seen:
    """What there is, each GPU tried with a small sum."""
    import torch  # noqa: PLC0415  # seconds

    driver, build = _driver(), torch.version.cuda
    try:
        torch.cuda.init()
        gpus = tuple(_tried(number) for number in range(torch.cuda.device_count()))
    except (RuntimeError, AssertionError) as error:  # Torch asserts that it was built with CUDA
        return Seen(driver=driver, build=build, problem=str(error).partition("\n")[0])
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else None
    return Seen(driver=driver, build=build, gpus=gpus, nccl=nccl, modes=_modes())


def gpus(machine: str, seen: Seen) -> Finding:
    """`machine` is the device that the profile is reckoned on."""
    if not seen.gpus:
        return _without(machine, seen)
    each = ", ".join(f"{one.name} ({one.memory_bytes / 1e9:.0f} GB)" for one in seen.gpus)
    found = f"{each}; driver {seen.driver}, CUDA {seen.build}, NCCL {seen.nccl}"
    for number, one in enumerate(seen.gpus):
        if one.free_bytes < BUSY * one.memory_bytes:
            used = f"{found}; of GPU {number}'s memory only {one.free_bytes / 1e9:.0f} GB are free"
            return warn("gpus", used, "`nvidia-smi` says who has the rest")
    if any(mode != "Default" for mode in seen.modes):
        remedy = "`nvidia-smi --compute-mode=DEFAULT`, or HARNESS_GPU_SHARE=1"
        return warn("gpus", f"{found}; compute mode {', '.join(seen.modes)}: runs cannot share a GPU", remedy)
    if seen.nccl is None and len(seen.gpus) > 1:
        return warn("gpus", f"{found}: GPUs cannot train a run together", "install a Torch with NCCL, as is locked")
    return ok("gpus", found)


def _without(machine: str, seen: Seen) -> Finding:
    if seen.driver is not None:
        found = f"driver {seen.driver} is there, but Torch (built for CUDA {seen.build}) cannot use it: {seen.problem}"
        remedy = f"a driver for CUDA {seen.build}" if seen.build else "`bash cluster/setup.sh` installs Torch with CUDA"
        return fail("gpus", found, f"{remedy}; CUDA_VISIBLE_DEVICES='' trains on the CPU")
    if machine == "cpu":
        return ok("gpus", "none, and the profile needs none: trains on the CPU")
    remedy = "give RAY_ADDRESS of a cluster that has GPUs; `harness plan` says how long it takes"
    return warn("gpus", f"none: trains on the CPU, while the profile is reckoned on {machine}", remedy)


def _tried(number: int) -> Gpu:
    import torch  # noqa: PLC0415

    free, memory = torch.cuda.mem_get_info(number)
    if torch.ones(2, device=f"cuda:{number}").sum().item() != 2:
        raise RuntimeError(f"GPU {number} does not compute 1 + 1")
    return Gpu(name=torch.cuda.get_device_name(number), memory_bytes=memory, free_bytes=free)


def _driver() -> str | None:
    """NVIDIA's kernel module, unless its GPUs are hidden from this process on purpose."""
    if not DRIVER.exists() or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    version = re.search(r"\s(\d+\.\d+(\.\d+)?)\s", DRIVER.read_text())
    return version.group(1) if version else "unknown"


def _modes() -> tuple[str, ...]:
    """Each compute mode that a GPU is in; nothing where nvidia-smi is not installed."""
    ask = ["nvidia-smi", "--query-gpu=compute_mode", "--format=csv,noheader"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=ASK_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(sorted({line.strip() for line in said.splitlines() if line.strip()}))
