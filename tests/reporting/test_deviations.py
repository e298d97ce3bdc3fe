"""The generated parts of docs/deviations.md."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.config.document import read_yaml
from harness.config.errors import ConfigError
from harness.config.files import read_as
from harness.reporting.deviations import (
    ReleasedFile,
    contradictions,
    hyper_parameters,
    our_value,
    with_parts,
    write_deviations,
)

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "docs" / "deviations.md"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change."""
    for folder in ("experiments", "tables", "docs"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("built"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    return tmp_path


def test_the_document_is_what_is_generated() -> None:
    """Protects docs/deviations.md from recipes and layouts that moved on: python -m harness.reporting.deviations."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_parts(text, DOCUMENT) == text


def test_what_is_written_by_hand_stays(checkout: Path) -> None:
    """Protects the hand-written table, and what changed in a recipe from being missed."""
    before = DOCUMENT.read_text(encoding="utf-8")
    recipe = checkout / "experiments" / "recipes" / "byol_r50_300ep.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("base_lr: 0.3", "base_lr: 0.35"), encoding="utf-8")
    after = write_deviations().read_text(encoding="utf-8")
    row = "| `byol_r50_300ep` | `optimizer.base_lr` | 0.3 | 0.3 | %s |"
    assert after == before.replace(row % "0.3", row % "**0.35**") != before
    assert write_deviations().read_text(encoding="utf-8") == after


def test_ours_is_the_papers() -> None:
    """Protects the recipes: they train as the paper says, but for the augmentation of supervised training."""
    told = read_as(ReleasedFile, read_yaml(REPOSITORY / "tables" / "released.yaml"))
    differing = [(s.of, s.field) for s in told.settings if s.paper is not None and s.paper != our_value(s)]
    assert differing == [("recipes/supervised_r50", "data.views")]
    assert len({(s.of, s.field) for s in told.settings}) == len(told.settings)


def test_every_recipe_and_evaluation_stands_in_it() -> None:
    """Protects a recipe that comes later from being forgotten here."""
    folders = [REPOSITORY / "experiments" / kind for kind in ("recipes", "evaluations")]
    files = {f"`{path.stem}`" for folder in folders for path in folder.glob("*.yaml")}
    assert {line.split(" | ")[0].removeprefix("| ") for line in hyper_parameters() if "`" in line} == files


def test_contradictions_name_their_table() -> None:
    """Protects the list: known ones of either paper are in it, in the order of the tables."""
    lines = list(contradictions())
    assert "- Table 19: pred_sg_beta1 stands twice in the paper, with 70.2 and with 70.1." in lines
    assert "- Table raft1: BYOL's top-1 reads 64.32 here and 68.08 ± 0.84 in that paper's text." in lines
    assert not any("side by side" in line for line in lines), "a note is no contradiction"


def test_a_missing_marker_is_an_error(checkout: Path) -> None:
    """Protects from a document that silently keeps an old part."""
    path = checkout / "docs" / "deviations.md"
    path.write_text(path.read_text(encoding="utf-8").replace("<!-- end of contradictions -->", ""), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"docs/deviations\.md: needs the lines '<!-- generated: contradictions -->'"):
        write_deviations()
