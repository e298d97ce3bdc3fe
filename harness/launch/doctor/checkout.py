"""Which commit numbers will be traced to."""

from __future__ import annotations

from harness.config.finding import Finding, ok, warn
from harness.launch.site import commit


def checkout() -> Finding:
    """The commit of the checkout, and whether its files differ from it."""
    found, plus, _ = commit().partition("+")
    if found == "unknown":
        remedy = "run from a clone of the repository, with git installed"
        return warn("checkout", "no commit is known here, so numbers cannot be traced to one", remedy)
    if plus:
        return warn("checkout", f"{found[:12]} with changes, so numbers are not those of a commit", "`git commit` them")
    return ok("checkout", f"commit {found[:12]}, unchanged")
