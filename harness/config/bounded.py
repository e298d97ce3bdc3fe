"""Reading a file from elsewhere without taking in more than such a file may hold."""

from __future__ import annotations

from pathlib import Path


class TooLargeError(ValueError):
    """What is wrong with a file, to be said behind its name."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"is larger than {limit / 1e6:g} MB, which no such file needs")


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a file, at most `limit` of them. Raises TooLargeError, and OSError as opening does."""
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(limit)
    return content
