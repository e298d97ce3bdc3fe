"""YAML of foreign origin: data alone, and no more of it than there may be; each refusal is one sentence, soon."""

from __future__ import annotations

import shutil
import time
import tracemalloc
from pathlib import Path

import pytest

from harness.config import document
from harness.config.document import read_yaml
from harness.config.errors import ConfigError
from harness.reporting.claims import read_claims

ROOT = Path(__file__).parents[2]
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


def said(path: Path, content: str) -> str:
    """The one sentence on a file of this content; it takes neither seconds nor memory to say."""
    path.write_text(content, encoding="utf-8")
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError) as caught:
            read_yaml(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 30
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x: 1\na: !!python/object/apply:os.system ['touch ran']\n", "file.yaml:2: a: must be plain, without tag:yaml"),
        ("x: 1\na: !!python/object/new:os.system ['touch ran']\n", "file.yaml:2: a: must be plain, without tag:yaml"),
        ("x: 1\na: !!python/name:os.system ''\n", "file.yaml:2: not valid YAML: could not determine a constructor"),
        ("x: 1\na: !!python/module:os ''\n", "file.yaml:2: not valid YAML: could not determine a constructor"),
        ("x: 1\n!!python/name:os.system '': 1\n", "file.yaml:2: not valid YAML: could not determine a constructor"),
        ("a: !!set {x, y}\n", "file.yaml:1: a: must be plain, without tag:yaml.org,2002:set"),
    ],
)
def test_tags_are_refused(content: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the machine from YAML that asks for a call, at any place; the line is that of the tag."""
    monkeypatch.chdir(tmp_path)
    assert words in said(tmp_path / "file.yaml", content)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: " + "x" * 10_000_000, "file.yaml is larger than 1 MB, which no such file needs; shorten it"),
        ("a: [" + "1, " * 3_400_000 + "]", "file.yaml is larger than 1 MB"),
        (LAUGHS, "holds more than 100000 values; shorten it, or use fewer aliases"),
        ("a: " + "[" * 400_000, "file.yaml: nests too deeply"),
        ("a: " + "{a: " * 200_000, "file.yaml: nests too deeply"),
        ("- " * 400_000 + "x", "file.yaml: nests too deeply"),
        ("? " * 400_000 + "x", "file.yaml: nests too deeply"),
        ("a: &a [*a]", "file.yaml: nests too deeply"),
        ("a: " + "1" * 200_000, "file.yaml:1: a: is too long for a number; quote it if it is text"),
        ("a: 0x" + "f" * 900_000, "file.yaml:1: a: is too long for a number"),
        ("a: 1" + ":10" * 300_000, "file.yaml:1: a: is too long for a number"),
        ("a: {" + ", ".join(f"k{i}: 1" for i in range(5_000)) + ", k7: 1}", "'k7' stands twice in this mapping"),
    ],
    ids=["10 MB on one line", "a list of 10 MB", "billion laughs", *"[{-?&", "1", "0x", "1:10", "many keys"],
)
def test_no_yaml_takes_time_or_memory(content: str, words: str, tmp_path: Path) -> None:
    """Protects from files that grow as they are read, and from PyYAML's own end: its C code overruns its stack."""
    assert words in said(tmp_path / "file.yaml", content)


def test_every_file_here_is_far_from_the_limits() -> None:
    """Protects the person who adds to a file: the longest one here has a tenth of what is read."""
    sizes = {path: path.stat().st_size for part in ("experiments", "tables") for path in (ROOT / part).rglob("*.yaml")}
    assert len(sizes) > 90
    assert max(sizes.values()) < document.LARGEST / 10


def test_aliases_are_still_what_they_stand_for(tmp_path: Path) -> None:
    """Protects claims.yaml, which names lists of cells once."""
    path = tmp_path / "file.yaml"
    path.write_text("a: &x [1, {b: 2}]\nc: *x\nd: {e: *x}\n")
    assert read_yaml(path).data == {"a": [1, {"b": 2}], "c": [1, {"b": 2}], "d": {"e": [1, {"b": 2}]}}


def test_claims_are_read_as_carefully(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the report from a claims file of 10 MB on one line, and from one that laughs."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    (tmp_path / "tables").mkdir()
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    claims = tmp_path / "tables" / "claims.yaml"
    claims.write_text("claims: " + "x" * 10_000_000)
    with pytest.raises(ConfigError, match=r"claims\.yaml is larger than 1 MB"):
        read_claims()
    claims.write_text(LAUGHS)
    with pytest.raises(ConfigError, match=r"claims\.yaml:\d+: holds more than 100000 values"):
        read_claims()
