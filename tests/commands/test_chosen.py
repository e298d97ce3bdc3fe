"""What a command is asked for: names to tables, figures and their runs."""

from __future__ import annotations

import pytest

from harness.commands.chosen import Asked, asked_for, expansions_of
from harness.config.errors import ConfigError
from harness.config.files import table_ids
from harness.reporting.figures import figure_ids
from harness.reporting.layout import layout_ids


@pytest.mark.parametrize(
    ("names", "tables", "figures"),
    [
        (["5b"], ["5b"], []),
        (["table14", "14a", "figure3"], ["14a", "14b"], ["3a", "3b"]),
        (["table1"], ["1a", "1b"], []),
        (["figureraft4", "raft1"], ["raft1"], ["raft4"]),
        (["figures", "6"], ["6"], figure_ids()),
    ],
)
def test_names(names: list[str], tables: list[str], figures: list[str]) -> None:
    """Protects what a name stands for: each table and figure once, in the order of the names."""
    assert asked_for(names) == Asked(tuple(tables), tuple(figures))


@pytest.mark.parametrize("names", [[], ["tables"], ["5b", "tables"]])
def test_everything(names: list[str]) -> None:
    """Protects the page: written where everything was asked for."""
    asked = asked_for(names)
    assert asked.everything
    assert sorted(asked.tables) == sorted(layout_ids())
    assert list(asked.figures) == figure_ids()


def test_a_figure_asks_for_its_own_cells_alone() -> None:
    """Protects hours of training: a figure of four rows of a table does not run the table."""
    (expansion,) = expansions_of(asked_for(["figureraft4"]), "laptop", None, None)
    assert expansion.table == "raft1"
    assert set(expansion.cells) == {"byol", "byol_lp", "byol_lpi", "byol_np"}
    assert {member.cell for member in expansion.members} == set(expansion.cells)


def test_a_table_and_a_figure_of_it_ask_for_the_table() -> None:
    """Protects the rows that the figure does not show."""
    (alone,) = expansions_of(asked_for(["16"]), "laptop", 1, None)
    assert expansions_of(asked_for(["figure3a", "16"]), "laptop", 1, None) == [alone]


def test_tables_without_runs() -> None:
    """Protects tables that are read from data or quoted: they have no runs, and no cell to choose."""
    assert "6" not in table_ids()
    assert expansions_of(asked_for(["6", "10"]), "laptop", None, None) == []
    with pytest.raises(ConfigError, match="no runs are declared for table 6, so it has no cell to choose"):
        expansions_of(asked_for(["6"]), "laptop", None, "flip_prob")
