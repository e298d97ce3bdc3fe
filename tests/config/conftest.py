"""A checkout of one's own, to make mistakes in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

Edit = Callable[[str, str, str], None]


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """Copies experiments/ to a folder that the test runs in; `edit(file, old, new)` changes one of its files."""
    shutil.copytree(REPOSITORY / "experiments", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))

    def change(file: str, old: str, new: str) -> None:
        path = tmp_path / "experiments" / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{file} holds {old!r} {text.count(old)} times"
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


@pytest.fixture
def table(edit: Edit) -> Callable[[str], None]:  # which makes the checkout
    """Replaces table 5b by one with the given cells, as YAML lines."""

    def write(cells: str) -> None:
        head = 'table: "5b"\nquestion: none\nrecipe: byol_r50_300ep\nseeds: [0, 1, 2]\nevaluate: linear_imagenet\n'
        Path("experiments/tables/table5b.yaml").write_text(f"{head}cells:\n{cells}", encoding="utf-8")

    return write
