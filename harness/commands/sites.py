"""What is set for this site, and where it was set."""

from __future__ import annotations

from harness.commands.chosen import say
from harness.config.errors import ConfigError
from harness.config.masked import masked
from harness.config.structure import unknown
from harness.launch.settings import VARIABLES, settings
from harness.launch.site import site


def show_site(key: str | None) -> int:
    """Every setting with what set it; with a key its value alone, for a script to take."""
    here, told = site(), settings()
    if key is not None and key not in VARIABLES:
        raise ConfigError(unknown(key, VARIABLES, "setting"))
    values = {name: "" if (value := getattr(here, name)) is None else str(value) for name in VARIABLES}
    if key is not None:
        say(values[key])
        return 0
    for name, value in values.items():
        by = told[name].by if name in told else "default"
        say(f"{name:13} {masked(value) or '-'}  ({by})")
    return 0
