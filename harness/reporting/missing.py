"""What a figure has of ours and what it lacks, in words: `Ours: 3 of 12 points (missing: BYOL [256, 128]).`"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.reporting.traces import Mark, Shown

_WORDS = {"pending": "missing", "awaited": "in no table yet"}  # other states speak for themselves


@dataclass(frozen=True)
class Wanted:
    """One number or one curve of ours that a figure has a place for."""

    series: str
    letter: str
    place: str
    status: str
    there: bool


def said(panels: Iterable[Shown]) -> str:
    """One sentence; empty where nothing is ours."""
    wanted = {noun: list(_wanted(panels, form)) for noun, form in (("curves", "curve"), ("points", "points"))}
    parts = [_part(noun, ours) for noun, ours in wanted.items() if ours]
    return f"Ours: {'; '.join(parts)}." if parts else ""


def _wanted(panels: Iterable[Shown], form: str) -> Iterator[Wanted]:
    """What is quoted from others is none of ours. A curve is one, however many points it has."""
    for shown in panels:
        for trace in shown.traces:
            if trace.of == "ours" and trace.form == form:
                for mark in trace.marks if form == "points" else trace.marks[:1]:
                    if mark.status != "quoted":
                        place = _place(shown, mark)
                        yield Wanted(trace.series, shown.letter, place, mark.status, mark.y is not None)


def _place(shown: Shown, mark: Mark) -> str:
    if mark.dot is None:
        return ""
    labels = dict(zip(shown.panel.x.ticks, shown.panel.x.labels, strict=False))
    return " ".join((mark.dot.label or labels.get(mark.x, f"{mark.x:g}")).split())


def _part(noun: str, ours: list[Wanted]) -> str:
    there = sum(one.there for one in ours)
    lacking = list(dict.fromkeys(one.status for one in ours if one.status != "complete"))
    if lacking == ["pending"] and not there:
        lacking = []  # the count has said so
    named = [f"{_WORDS.get(status, status)}: {_names(ours, status)}" for status in lacking]
    return f"{there} of {len(ours)} {noun}" + (f" ({'; '.join(named)})" if named else "")


def _names(ours: list[Wanted], status: str) -> str:
    """By series: all of it, or the places that are meant; by panel where these differ."""
    names = []
    for series in dict.fromkeys(one.series for one in ours if one.status == status):
        own = [one for one in ours if one.series == series]
        panels = {
            one.letter: [two.place for two in own if (two.letter, two.status) == (one.letter, status)] for one in own
        }
        meant = list(panels.values())
        if sum(map(len, meant)) == len(own):
            names.append(series)
        elif any(meant[0]) and all(places == meant[0] for places in meant):
            names.append(f"{series} [{', '.join(meant[0])}]")
        else:
            at = [" ".join((letter, ", ".join(places))).strip() for letter, places in panels.items() if places]
            names.append(f"{series} [{'; '.join(at)}]")
    return ", ".join(names)
