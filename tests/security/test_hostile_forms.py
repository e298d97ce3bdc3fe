"""What becomes of names in the files that tables are written to: a spreadsheet, LaTeX and Markdown run nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from harness.config.errors import ConfigError
from harness.config.expand import expand
from harness.reporting.latex import tex
from harness.reporting.markdown import _plain

ROOT = Path(__file__).parents[2]
HOSTILE = ("=cmd|' /C calc'!A0", "@SUM(1)", "+1(2)", "a,b", 'a"b', "a\tb", "a\nb", "<script>", "a|b", "../a", "\\input")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_cell_has_a_plain_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the csv, which writes names as they are: no name can be a formula, so none has to be changed there."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    table = tmp_path / "experiments" / "tables" / "table5b.yaml"
    content = yaml.safe_load(table.read_text())
    content["cells"] = [{"id": name, "set": {}}]
    table.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match="may hold letters, digits and"):
        expand("5b", "laptop")


def test_latex_sees_no_command() -> None:
    """Protects whoever compiles a table: no text of it can open a command, a comment or a group."""
    written = tex("\\input{/etc/passwd} \\write18{x} $x$ %& #1 ^^5c ~_")
    rest = re.sub(r"\\text[a-z]+\{\}|\\[&%$#_{}]", "", written)
    assert not set(rest) & set("\\{}$&#%^_~"), rest


def test_markdown_keeps_its_columns() -> None:
    """Protects the shape of a table from a label with a bar in it."""
    assert _plain("a|b || c") == "a\\|b \\|\\| c"
