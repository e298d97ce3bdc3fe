"""What a person may set about a site: each value by an environment variable, or in the site's file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from harness.config.document import Document, read_yaml, shown
from harness.config.errors import ConfigError
from harness.config.files import project_root, read_as
from harness.config.structure import unknown

VARIABLES = {
    "home": "HARNESS_HOME",
    "data": "HARNESS_DATA",
    "scratch": "HARNESS_SCRATCH",
    "tracking_uri": "MLFLOW_TRACKING_URI",
    "ray_address": "RAY_ADDRESS",
    "workers": "HARNESS_WORKERS",
    "threads": "HARNESS_THREADS",
    "gpu_share": "HARNESS_GPU_SHARE",
}
_SHARED = ("home", "data")
_NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, kw_only=True)
class SiteFile:
    """cluster/sites/<name>.yaml: what holds for all who work there. In a text ${NAME} stands for a variable of the
    environment.
    """

    home: str | None = None
    data: str | None = None
    scratch: str | None = None
    tracking_uri: str | None = None
    ray_address: str | None = None
    workers: int | None = None
    threads: int | None = None
    gpu_share: float | None = None


@dataclass(frozen=True)
class Setting:
    """A value, as text, and what set it: a variable, or file and line."""

    key: str
    text: str
    by: str

    def error(self, problem: str) -> ConfigError:
        variable = self.by == VARIABLES[self.key]
        return ConfigError(f"{self.by}={self.text}: {problem}" if variable else f"{self.by}: {self.key}: {problem}")


def settings() -> dict[str, Setting]:
    """What is set, by key: the variables of the environment, and the rest from the file that HARNESS_SITE names."""
    named = os.environ.get("HARNESS_SITE")
    told = _from_file(_path(named)) if named else {}
    for key, variable in VARIABLES.items():
        if text := os.environ.get(variable):  # make hands empty ones on for those that are not set
            told[key] = Setting(key, text, variable)
    return told


def _path(named: str) -> Path:
    """A name is a file of cluster/sites, anything with a slash or .yaml a path."""
    if "/" in named or named.endswith(".yaml"):
        path = Path(named)
        if not path.is_file():
            raise ConfigError(f"HARNESS_SITE={named}: there is no such file")
        return path.resolve()
    folder = project_root() / "cluster" / "sites"
    path = folder / f"{named}.yaml"
    if not path.is_file():
        known = sorted(one.stem for one in folder.glob("*.yaml"))
        raise ConfigError(f"HARNESS_SITE={named}: {shown(folder)}: {unknown(named, known, 'site')}")
    return path


def _from_file(path: Path) -> dict[str, Setting]:
    document = read_yaml(path)
    read = vars(read_as(SiteFile, document))
    return {key: _checked(document, key, value) for key, value in read.items() if value is not None}


def _checked(document: Document, key: str, value: Any) -> Setting:
    text = _with_variables(document, key, value) if isinstance(value, str) else str(value)
    if not text:
        raise document.error(key, "must not be empty; leave the line out")
    if key in _SHARED and not Path(text).is_absolute():
        raise document.error(key, f"must be an absolute path, as every node sees it, not '{text}'")
    if key == "tracking_uri" and _holds_password(text):
        remedy = (
            "secrets come from the environment: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or PGPASSWORD"
        )
        raise document.error(key, f"must hold no password; {remedy}")
    return Setting(key, text, document.where(key))


def _with_variables(document: Document, key: str, text: str) -> str:
    if "$" in _NAMED.sub("", text):
        raise document.error(key, "a $ must begin the name of a variable in braces, as in ${USER}")

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if not os.environ.get(name):
            raise document.error(key, f"{name} is not set in the environment")
        return os.environ[name]

    return _NAMED.sub(value, text)


def _holds_password(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return parts.password is not None or any("password" in name.lower() for name, _ in parse_qsl(parts.query))
    except ValueError:  # no uri at all: the store says so
        return "@" in uri
