"""`harness doctor` as a person gives it, on a checkout of the test's own: its lines, its JSON and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkout import Checkout

pytestmark = pytest.mark.chain
CHECKS = [
    *("python", "packages", "images", "checkout", "HARNESS_HOME", "HARNESS_DATA", "open files", "shared memory"),
    *("memory", "gpus", "ray", "room", "runs", "disk", "dataset digits", "mlflow"),
]


def test_a_machine_that_is_well(tmp_path: Path) -> None:
    """Every check has one line in this order; warnings are no failure, and no file is left."""
    checkout = Checkout(tmp_path)
    (checkout.root / "requirements.lock").write_text("numpy==1.0 \\\n    --hash=sha256:00\n")
    before = sorted(tmp_path.rglob("*"))
    ended = checkout.harness("doctor", "table5b")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    *lines, last = ended.stdout.splitlines()
    assert [line[5:].partition(":")[0] for line in lines] == CHECKS
    states = {line[5:].partition(":")[0]: line[:5].strip() for line in lines}
    assert set(states.values()) == {"ok", "warn"}
    assert (states["packages"], states["HARNESS_HOME"], states["mlflow"]) == ("warn", "ok", "ok")
    assert "numpy" in lines[1]
    assert "`bash cluster/setup.sh`" in lines[1]
    warnings = list(states.values()).count("warn")
    assert last == f"{len(CHECKS) - warnings} ok, {warnings} warn, 0 fail"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_machine_with_everything_wrong(tmp_path: Path) -> None:
    """Each fault is a finding with its remedy, none hides another, and the exit code is 1."""
    checkout = Checkout(tmp_path)
    variables = {
        "HARNESS_HOME": "/proc/home",
        "HARNESS_DATA": "/sys/kernel",
        "HARNESS_THREADS": "4096",
        "MLFLOW_TRACKING_URI": "postgresql+psycopg2://user:secret@127.0.0.1:1/mlflow",
    }
    ended = checkout.harness("doctor", "5b", "--profile", "imagenet", "--json", **variables)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    assert all(list(one) == ["name", "state", "found", "remedy", "node"] for one in found)
    assert all(one["remedy"] for one in found if one["state"] != "ok")
    failed = {one["name"] for one in found if one["state"] == "fail"}
    assert failed >= {"HARNESS_HOME", "HARNESS_DATA", "room", "disk", "dataset imagenet", "mlflow"}
    assert "secret" not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_command_is_no_finding(tmp_path: Path) -> None:
    """A table or a profile that does not exist is the command's fault: exit code 2, one line."""
    ended = Checkout(tmp_path).harness("doctor", "table5c")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "unknown table '5c'" in ended.stderr
