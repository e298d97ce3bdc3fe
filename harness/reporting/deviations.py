"""The generated parts of docs/deviations.md: hyper-parameters side by side, and where the paper contradicts itself.

`python -m harness.reporting.deviations` writes them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.document import read_yaml, shown
from harness.config.errors import ConfigError
from harness.config.expand import declared_cells
from harness.config.files import project_root, read_as, table_ids
from harness.reporting.layout import layout_ids, read_layout


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A field of a recipe or evaluation (`of`) as the paper and the released code have it; None where they do not."""

    of: str
    field: str
    paper: Any = None
    released: Any = None


@dataclass(frozen=True, kw_only=True)
class ReleasedFile:
    """tables/released.yaml."""

    code: str
    settings: tuple[Setting, ...]


def hyper_parameters() -> Iterator[str]:
    told = read_as(ReleasedFile, read_yaml(project_root() / "tables" / "released.yaml"))
    yield f"Released code: {told.code}. Ours is bold where it is not what stands beside it."
    yield ""
    yield "| run | setting | paper | released code | ours |"
    yield "| --- | --- | --- | --- | --- |"
    for setting in told.settings:
        ours = our_value(setting)
        text = _text(ours)
        if any(stated is not None and stated != ours for stated in (setting.paper, setting.released)):
            text = f"**{text}**"
        paper = "not stated" if setting.paper is None else _text(setting.paper)
        released = "not there" if setting.released is None else _text(setting.released)
        name = setting.of.rpartition("/")[2]
        yield f"| `{name}` | `{setting.field}` | {paper} | {released} | {text} |"


def our_value(setting: Setting) -> Any:
    """The field as it stands in experiments/."""
    document = read_yaml(project_root() / "experiments" / f"{setting.of}.yaml")
    value: Any = document.data
    for name in setting.field.split("."):
        if not isinstance(value, dict) or name not in value:
            raise document.error(setting.field, "tables/released.yaml names this field, which is not here")
        value = value[name]
    return value


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def contradictions() -> Iterator[str]:
    declared = table_ids()
    for table in layout_ids():
        for doubt in read_layout(table, declared_cells(table) if table in declared else ()).doubts:
            yield f"- Table {table}: {doubt}"


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "hyper-parameters": hyper_parameters,
    "contradictions": contradictions,
}


def with_parts(text: str, path: Path) -> str:
    """A document with each generated part in its place, which two comments mark."""
    for name, lines in PARTS.items():
        begin, end = f"<!-- generated: {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ConfigError(f"{shown(path)}: needs the lines '{begin.strip()}' and '{end}' around what is generated")
        text = "".join([before, begin, *(f"{line}\n" for line in lines()), end, after])
    return text


def write_deviations() -> Path:
    path = project_root() / "docs" / "deviations.md"
    path.write_text(with_parts(path.read_text(encoding="utf-8"), path), encoding="utf-8")
    return path


if __name__ == "__main__":
    print(shown(write_deviations()))
