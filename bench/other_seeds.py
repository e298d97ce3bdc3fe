"""Builds a table with seeds that the table itself does not use: `python bench/other_seeds.py table5b 100 101 102`.

A profile may be tuned on these; the table's own seeds then judge it. Works on a copy of experiments/ and tables/, keeps
its runs in HARNESS_HOME like any other, and leaves the built tables of the checkout alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    table, *seeds = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name in ("experiments", "tables"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("built"))
        path = root / "experiments" / "tables" / f"{table}.yaml"
        text, changed = re.subn(r"^seeds: .*$", f"seeds: [{', '.join(seeds)}]", path.read_text(), flags=re.MULTILINE)
        if changed != 1 or not seeds:
            raise SystemExit(f"usage: {sys.argv[0]} TABLE SEED...; {path} must declare its seeds on one line")
        path.write_text(text)
        home = os.environ.get("HARNESS_HOME") or str(ROOT / ".harness")
        environment = {**os.environ, "HARNESS_ROOT": str(root), "HARNESS_HOME": home}
        return subprocess.run([sys.executable, "-m", "harness", "run", table], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
