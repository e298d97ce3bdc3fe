"""Addresses as they may be said: without the user, the password and the query that one may hold."""

from __future__ import annotations

import re

_HIDDEN = "***"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_USER = re.compile(r"(?<=://)(?!/)\S*@")  # to the last @: a password may hold one that nobody escaped
_QUERY = re.compile(r"\?\S*")


def masked(text: object) -> str:
    """`text` with every address in it fit to be shown; what has no address stays as it is."""
    return _ADDRESS.sub(lambda found: _QUERY.sub(f"?{_HIDDEN}", _USER.sub(f"{_HIDDEN}@", found[0])), str(text))
