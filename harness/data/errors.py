"""What goes wrong with data, said so that a person can act on it."""

from __future__ import annotations


class DataError(Exception):
    """A dataset is missing, broken or not what the run expects. The message names the file and the remedy."""
