"""What `make check` says of known holes: a hole fails, and a database that was not asked is never taken for a pass."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CLEAN = {"name": "torch", "version": "2.11.0", "vulns": []}
HOLE = {"id": "PYSEC-1-1", "aliases": ["CVE-1-1", "GHSA-x"], "fix_versions": ["2.0"], "description": "d"}
HOLED = {"name": "pillow", "version": "1.0", "vulns": [HOLE]}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI and could not be audited: ours (1)"}


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", Path(__file__).parents[2] / "cluster" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


@pytest.mark.parametrize(
    ("said", "ignored", "lines", "fails"),
    [
        (answer(CLEAN, CLEAN), {}, ["audit: 2 packages, none with a known hole"], False),
        (
            answer(CLEAN, HOLED),
            {},
            ["audit: pillow 1.0 has PYSEC-1-1, mended in 2.0", "audit: 2 packages, 1 known holes"],
            True,
        ),
        (
            answer(HOLED),
            {"CVE-1-1": "no image of it is read"},
            ["audit: ignored: CVE-1-1: no image of it is read", "audit: 1 packages, none with a known hole"],
            False,
        ),
        (
            answer(HOLED),
            {"CVE-2-2": "another"},
            [
                "audit: pillow 1.0 has PYSEC-1-1, mended in 2.0",
                "audit: ignored: CVE-2-2: another",
                "audit: 1 packages, 1 known holes",
            ],
            True,
        ),
        (
            answer(CLEAN, UNKNOWN),
            {},
            ["audit: 1 packages, none with a known hole; 1 unknown to the database: ours"],
            False,
        ),
        (answer(UNKNOWN, UNKNOWN), {}, ["audit: NOT DONE: the advisory database was not reached"], False),
        ("", {}, ["audit: NOT DONE: the advisory database was not reached"], False),
        ("ERROR: timed out", {}, ["audit: NOT DONE: the advisory database was not reached"], False),
        ("[]", {}, ["audit: NOT DONE: the advisory database was not reached"], False),
    ],
)
def test_each_answer_has_its_sentence(
    said: str, ignored: dict[str, str], lines: list[str], fails: bool, audit: ModuleType
) -> None:
    """Protects the difference between "no hole is known" and "nobody was asked", which pip-audit does not make."""
    assert audit.verdict(said, ignored) == (lines, fails)


def test_a_hole_fails_the_check(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects make's exit code, and that pip-audit is asked about the lock, hash by hash, without installing it."""
    asked: list[list[str]] = []

    def run(words: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        return subprocess.CompletedProcess(words, 1, stdout=answer(HOLED), stderr="Found 1 known vulnerability")

    monkeypatch.setattr(audit.subprocess, "run", run)
    assert audit.main() == 1
    assert "pillow 1.0 has PYSEC-1-1" in capsys.readouterr().err
    assert {"--disable-pip", "--require-hashes", str(audit.LOCK)} <= set(asked[0])
    assert audit.LOCK.exists()


def test_an_ignored_hole_has_a_reason(audit: ModuleType) -> None:
    """Protects the list from entries that nobody can judge later."""
    assert all(len(reason) > 20 for reason in audit.IGNORED.values())
