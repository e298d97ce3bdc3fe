"""Whether what is installed is what requirements.lock says, and what decodes images."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from harness.config.files import project_root
from harness.config.finding import Finding, ok, warn
from harness.config.finding import fail as failed

DISTRIBUTION = "byol-table-harness"
SETUP = "`bash cluster/setup.sh` installs what is locked"
NAMED = 8  # packages that are named; the others are counted


def python_version() -> Finding:
    """Against the versions that the project declares."""
    wanted = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"]
    found = platform.python_version()
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        remedy = "name another with HARNESS_PYTHON=/path/to/python3.12, remove .venv and `make setup`"
        return failed("python", f"{found} is not {wanted}", remedy)
    return ok("python", found)


def packages() -> Finding:
    """All locked packages that this platform takes; FFCV, which may be left out, has a line of its own."""
    lock = project_root() / "requirements.lock"
    if not lock.exists():
        return warn("packages", f"there is no {lock} to compare with", "run from a clone of the repository")
    pinned = locked(lock)
    differing = [said for name, pin in pinned.items() if name != "ffcv" and (said := _difference(name, pin))]
    if not differing:
        return ok("packages", f"{len(pinned)} as locked")
    more = f" and {len(differing) - NAMED} more" if len(differing) > NAMED else ""
    found = f"{len(differing)} of {len(pinned)} are not as locked: {', '.join(differing[:NAMED])}{more}"
    return warn("packages", found, SETUP)


def locked(lock: Path) -> dict[str, SpecifierSet]:
    """The versions for this platform; hashes are indented below each."""
    lines = (line for line in lock.read_text().splitlines() if line[:1].isalnum())
    wanted = [Requirement(line.rstrip(" \\")) for line in lines]
    return {one.name: one.specifier for one in wanted if one.marker is None or one.marker.evaluate()}


def _difference(name: str, pin: SpecifierSet) -> str:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is missing"
    return "" if pin.contains(found, prereleases=True) else f"{name} {found}, not {str(pin).removeprefix('==')}"


def decoder() -> Finding:
    """FFCV with libjpeg-turbo where both import, as the loader has it; torchvision where not."""
    import torch  # noqa: PLC0415  # seconds
    from torchvision.io import decode_jpeg, encode_jpeg  # noqa: PLC0415

    from harness.data.loader import torch_threads_kept  # noqa: PLC0415

    if decode_jpeg(encode_jpeg(torch.zeros(3, 8, 8, dtype=torch.uint8))).shape != (3, 8, 8):
        return failed("images", "torchvision does not decode a JPEG that it wrote", SETUP)
    if importlib.util.find_spec("ffcv") is None:
        return warn("images", "FFCV is not installed: torchvision decodes, to the same views but slower", SETUP)
    try:
        with torch_threads_kept():
            import harness.data.compiled  # noqa: F401, PLC0415
    except ImportError as error:
        found = f"FFCV does not work ({error}): torchvision decodes, to the same views but slower"
        remedy = "`.venv/bin/python -c 'import ffcv'` says more; it needs libopencv-dev and libturbojpeg0-dev"
        return warn("images", found, remedy)
    return ok("images", f"FFCV {importlib.metadata.version('ffcv')} with OpenCV and libjpeg-turbo")
