"""The images: as hadolint asks, installed by hash, run without rights, with no secret and no index in them."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from declared import DOCKER, ROOT, locked, stages
from packaging.requirements import Requirement

IMAGES = ("cpu", "cuda", "mlflow")
PIN = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)


def _pins(path: Path) -> dict[str, str]:
    return dict(PIN.findall(path.read_text()))


def _chain(stage: str) -> list[tuple[str, str]]:
    """The instructions of a stage and of those it is made from."""
    known = stages()
    base = known[stage][0][1]
    return (_chain(base) if base in known else []) + known[stage]


def test_hadolint() -> None:
    """What it is told to pass over is said at the line, with Debian's versions being the one thing."""
    hadolint = Path(sys.executable).with_name("hadolint")
    said = subprocess.run(
        [hadolint, "--failure-threshold", "info", DOCKER / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert set(re.findall(r"hadolint ignore=(\S+)", (DOCKER / "Dockerfile").read_text())) == {"DL3008"}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_person_without_rights(image: str) -> None:
    """By number, which Kubernetes can check; and the numbers are those of the manifests."""
    assert [rest for word, rest in _chain(image) if word == "USER"][-1] == "10001:10001"
    (entry,) = (rest for word, rest in _chain(image) if word == "ENTRYPOINT")
    assert entry.startswith('["tini", "--"'), "in exec form, behind an init that hands signals on"


def test_packages_are_installed_by_hash() -> None:
    """Each call of an installer but that for our own code, which is there already."""
    installs = re.findall(
        r"pip install[^&]*", " ".join(f"{word} {rest}" for each in stages().values() for word, rest in each)
    )
    assert len(installs) == 5
    for install in installs:
        assert "--require-hashes" in install or "--no-deps --no-build-isolation --editable ." in install, install


def test_nothing_compiles_in_what_runs() -> None:
    """Neither a compiler nor an installer is in a finished image."""
    for image in IMAGES:
        text = " ".join(rest for word, rest in _chain(image) if word == "RUN")
        assert not re.search(r"g\+\+|-dev\b|venv\b|pip|\buv\b", text), text


def test_no_secret_and_no_index_lies_in_a_layer() -> None:
    """They come as secrets of the build, which leave nothing behind."""
    text = (DOCKER / "Dockerfile").read_text()
    assert not re.search(r"https?://(?!127\.0\.0\.1)|--(extra-)?index|find-links|PASSWORD|TOKEN", text)
    assert {"id=pip", "id=uv"} == set(re.findall(r"type=secret,(id=\w+)", text))
    told = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in told if line and not line.startswith("#")]
    assert rules[0] == "*", "what is not named stays out"
    for allowed in (rule[1:] for rule in rules if rule.startswith("!")):
        assert (ROOT / allowed).exists(), allowed


def test_what_is_copied_is_let_through() -> None:
    """A file that .dockerignore keeps out would fail the build only where there is a daemon."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for instructions in stages().values()
        for word, rest in instructions
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert copied <= allowed
    assert allowed <= copied, "and what is let through is used"


def test_what_ray_adds_fits_the_lock() -> None:
    """ray.txt and the lock together have all that `ray[default]` asks for, each package in one of them alone."""
    added = _pins(DOCKER / "ray.txt")
    known = _pins(ROOT / "requirements.lock")
    assert not added.keys() & known.keys(), "two versions of one package would be installed over each other"
    have = {name.replace("_", "-").lower(): version for name, version in {**known, **added}.items()}
    asked = [Requirement(line) for line in requires("ray") or ()]
    wanted = [
        one for one in asked if one.marker and one.marker.evaluate({"extra": "default"}) and not one.marker.evaluate()
    ]
    assert len(wanted) >= 10
    for one in wanted:
        version = have[one.name.replace("_", "-").lower()]
        assert one.specifier.contains(version), f"{one} is not met by {version}"


def test_the_server_has_what_accounts_need() -> None:
    """MLflow, Flask-WTF for its accounts, PostgreSQL's client: all three are locked, and asked for by name."""
    (install,) = (rest for word, rest in stages()["mlflow-build"] if word == "RUN" and "grep" in rest)
    names = re.search(r"\^\(([\w|-]+)\)==", install)
    assert names
    assert names[1].split("|") == ["mlflow", "flask-wtf", "psycopg2-binary"]
    assert all(locked(name) for name in names[1].split("|"))
