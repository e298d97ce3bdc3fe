"""YAML files: lines of every value, repeated keys, and what is no YAML at all."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.config.document import read_yaml
from harness.config.errors import ConfigError


def _read(tmp_path: Path, text: str | bytes) -> Any:
    path = tmp_path / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


def test_lines(tmp_path: Path) -> None:
    """Protects the line in every error, for keys, items of lists, dotted keys and what does not stand in the file."""
    document = _read(tmp_path, "# a comment\na: 1\nb:\n  c.d: [1, 2]\n  e:\n    - x: 1\n      y: 2\n    - 3\n")
    assert document.data == {"a": 1, "b": {"c.d": [1, 2], "e": [{"x": 1, "y": 2}, 3]}}
    lines = {"a": 2, "b": 3, "b.c.d": 4, "b.c.d[1]": 4, "b.e[0]": 6, "b.e[0].y": 7, "b.e[1]": 8}
    assert {key: document.lines[key] for key in lines} == lines
    assert document.where("b.e[0].z.deeper").endswith("file.yaml:6")
    assert document.where("nowhere").endswith("file.yaml:2")
    assert str(document.error("b.c.d", "is odd")).endswith("file.yaml:4: b.c.d: is odd")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "file.yaml:3: 'a' stands twice in this mapping"),
        ("x:\n  a: 1\n  a: 1\n", "file.yaml:3: 'a' stands twice in this mapping"),
        ("a: [1\nb: 2\n", "file.yaml:2: not valid YAML: "),
        ("a: 1\n\tb: 2\n", "file.yaml:2: not valid YAML: "),
        ("a: 1\n---\nb: 2\n", "file.yaml:2: not valid YAML: but found another document"),
        ("a: !!python/object:os.system {}\n", "file.yaml:1: a: must be plain, without tag:yaml.org,2002:python/object"),
        ("a: !mine 3\n", "file.yaml:1: not valid YAML: could not determine a constructor"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "file.yaml:2: not valid YAML: could not determine a constructor"),
        ("a: &x [*x]\n", "file.yaml: nests too deeply"),
        ("a: *none\n", "file.yaml:1: not valid YAML: found undefined alias"),
        ("a: 1\n? [1, 2]\n: 3\n", "file.yaml:2: a key must be a name or a number"),
        ("a:\n  b: 2020-13-45\n", "file.yaml:2: a.b: cannot read '2020-13-45'; quote it if it is text"),
        ("a: [.inf]\n", "file.yaml:1: a[0]: must be a finite number, not .inf"),
        ("", "file.yaml:1: must hold a mapping of keys to values"),
        ("- a\n- b\n", "file.yaml:1: must hold a mapping of keys to values"),
        (b"a: \xff\n", "file.yaml: not valid YAML: "),
        (b"a: \x00\n", "file.yaml: not valid YAML: "),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str | bytes, problem: str) -> None:
    """Protects the person from a traceback of PyYAML, and from a key that silently overrides another."""
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the path as a person would type it: relative below the working directory."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^sub/none.yaml does not exist$"):
        read_yaml(tmp_path / "sub" / "none.yaml")


_NAMES = st.text("abcxyz.", min_size=1, max_size=4)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(_NAMES, _VALUES, min_size=1), st.booleans())
def test_it_reads_what_yaml_writes(data: dict[str, Any], flow: bool) -> None:
    """Protects agreement with PyYAML's own loader on everything but the errors."""
    with tempfile.TemporaryDirectory() as folder:
        text = yaml.safe_dump(data, default_flow_style=flow)
        assert _read(Path(folder), text).data == data


@given(st.text("ab:-[]{}?&*!|>'\"#%@`, \n\t.<1e0_~", max_size=30))
def test_nonsense_is_one_sentence(text: str) -> None:
    """Protects every command from every broken file: a document, or one sentence that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            document = _read(Path(folder), text)
        except ConfigError as error:
            assert "file.yaml" in str(error)  # noqa: PT017  # either outcome is right
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert set(document.lines.values()) <= set(range(1, text.count("\n") + 2))
