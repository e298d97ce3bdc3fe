"""The files of a table."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.reporting.aggregate import Table
from harness.reporting.forms import FORMS, write_table

Build = Callable[..., Table]
GOLDEN = Path(__file__).parents[1] / "golden" / "reporting"


@pytest.mark.parametrize("profile", ["imagenet", "laptop"])
@pytest.mark.parametrize("form", FORMS)
def test_golden_forms(table: Build, profile: str, form: str) -> None:
    """Protects every character of the three forms, with cells finished, partial, pending, failed and diverged.

    After a change that is meant, write them anew: see test_markdown.py.
    """
    path = GOLDEN / f"table5b_{profile}.{form}"
    text = FORMS[form](table(profile))
    if os.environ.get("HARNESS_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "the rendering moved: see test_markdown.py"


def test_written_files(table: Build, tmp_path: Path) -> None:
    """Protects the names of the files, their content, and the folder from temporary ones."""
    folder = tmp_path / "built" / "imagenet"
    written = write_table(table(), folder)
    assert [path.name for path in written] == ["table5b.csv", "table5b.md", "table5b.tex"]
    assert sorted(folder.iterdir()) == sorted(written)
    assert [path.read_text(encoding="utf-8") for path in written] == [form(table()) for form in FORMS.values()]
