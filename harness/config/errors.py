"""The one error a person can cause: a command or a file it reads is wrong."""

from __future__ import annotations


class ConfigError(Exception):
    """One clear sentence for the person: what is wrong, where, and what to do. The command line exits with 2."""
