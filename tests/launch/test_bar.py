"""The progress of a preparation: a bar on a terminal, lines without one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.launch import bar as room
from harness.launch.bar import Bar


def test_without_a_terminal_it_speaks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects logs: a line every so often, with speed and the time left, not one for each image."""
    clock = iter(float(second) for second in range(1000))
    monkeypatch.setattr(room.time, "monotonic", lambda: next(clock))
    said: list[str] = []
    with Bar("food101", said.append, Console(file=io.StringIO())) as bar:
        for done in range(1, 51):
            bar(done, 50)
    assert said == [
        "food101: 19 of 50 images, 1 images/s, about 0:31 to go",
        "food101: 39 of 50 images, 1 images/s, about 0:11 to go",
    ]


def test_on_a_terminal_it_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the bar: title, how many of how many, speed; and no plain lines beside it."""
    monkeypatch.setattr(room, "PAUSE", 0.0)
    screen, said = io.StringIO(), []
    with Bar("food101", said.append, Console(file=screen, force_terminal=True, width=100)) as bar:
        for done in range(1, 8):
            bar(done, 7)
    assert "food101" in screen.getvalue()
    assert "7/7" in screen.getvalue()
    assert "images/s" in screen.getvalue()
    assert not said


def test_it_says_nothing_where_nothing_happens() -> None:
    """Protects commands that find the dataset already prepared from a blank line."""
    screen = io.StringIO()
    with Bar("food101", print, Console(file=screen, force_terminal=True)):
        pass
    assert not screen.getvalue()
