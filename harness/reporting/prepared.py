"""What a report is told of the datasets on the machine that makes it; the report itself never looks at data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Prepared:
    """counts: ours of Table 10, by cell and metric; stand_ins: of generated twins.

    commands: by table and cell, those that prepare the data which its runs wait for.
    """

    counts: Mapping[tuple[str, str], float] = field(default_factory=dict)
    stand_ins: bool = False
    commands: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
