"""Whether any package of requirements.lock has a known hole: the last step of `make check`.

pip-audit asks an advisory database. Where it cannot, it calls every package unknown, finds no hole, and is content;
this says then that nothing was asked. That does not fail: a machine without a network must be able to check the rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "requirements.lock"
NOT_DONE = "audit: NOT DONE: the advisory database was not reached"
# By the advisory's id, why it does no harm here. Whoever adds one says until when, or until which version.
IGNORED: dict[str, str] = {}


def main() -> int:
    """1 where a hole is known, else 0."""
    lines, failed = verdict(_asked())
    for line in lines:
        print(line, file=sys.stderr if failed or line.startswith(NOT_DONE) else sys.stdout)
    return int(failed)


def _asked() -> str:
    """What pip-audit says of the lock, as JSON; nothing where it gave up."""
    words = ["-m", "pip_audit", "--requirement", str(LOCK), "--disable-pip", "--require-hashes", "--format", "json"]
    quiet = ["--progress-spinner", "off", "--timeout", "15"]
    try:
        done = subprocess.run(
            [sys.executable, *words, *quiet], capture_output=True, text=True, timeout=300, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout


def verdict(answer: str, ignored: dict[str, str] | None = None) -> tuple[list[str], bool]:
    """(what to say, whether it fails) of pip-audit's answer."""
    packages = _packages(answer)
    known = [one for one in packages if "vulns" in one]
    if not known:
        return [NOT_DONE], False
    reasons = IGNORED if ignored is None else ignored
    holes = [(one, hole) for one in known for hole in one["vulns"]]
    open_ones = [(one, hole) for one, hole in holes if not {hole["id"], *hole.get("aliases", ())} & reasons.keys()]
    lines = [f"audit: {_told(one, hole)}" for one, hole in open_ones]
    lines += [f"audit: ignored: {name}: {reason}" for name, reason in reasons.items()]
    count = f"{len(open_ones)} known holes" if open_ones else "none with a known hole"
    lines.append(f"audit: {len(known)} packages, {count}")
    unknown = [one["name"] for one in packages if "vulns" not in one]
    if unknown:
        lines[-1] += f"; {len(unknown)} unknown to the database: {', '.join(unknown)}"
    return lines, bool(open_ones)


def _packages(answer: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):  # it gave up
        return []
    return found


def _told(package: dict[str, Any], hole: dict[str, Any]) -> str:
    mended = f"mended in {', '.join(hole['fix_versions'])}" if hole.get("fix_versions") else "not mended yet"
    return f"{package['name']} {package['version']} has {hole['id']}, {mended}"


if __name__ == "__main__":
    sys.exit(main())
