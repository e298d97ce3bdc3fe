"""Where a setting comes from: variable, file of the site, default; and what a file may not say."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from harness.cli import main
from harness.config.errors import ConfigError
from harness.config.files import project_root
from harness.launch.settings import VARIABLES, settings
from harness.launch.site import site

HOME = Path("/somewhere")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "home": st.sampled_from(["/a", "/b/c"]),
    "data": st.sampled_from(["/d", "/e f"]),
    "scratch": st.sampled_from(["/tmp/s", "/local"]),
    "tracking_uri": st.sampled_from(["http://one:5000", "sqlite:////x/y.db", "postgresql://user@host/db"]),
    "ray_address": st.sampled_from(["auto", "head:6379"]),
    "workers": st.integers(1, 64),
    "threads": st.integers(1, 64),
    "gpu_share": st.floats(0.01, 1.0),
}


@contextmanager
def variables(**told: str) -> Iterator[None]:
    """These alone of what the harness reads."""
    kept = {name: value for name, value in os.environ.items() if name not in (*VARIABLES.values(), "HARNESS_SITE")}
    with mock.patch.dict(os.environ, kept | told, clear=True):
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's file, which a test fills."""
    return tmp_path_factory.mktemp("sites") / "here.yaml"


def both(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """What variables and what a file say, each of some keys."""
    optional = {key: st.none() | value for key, value in VALUES.items()}
    first, second = (draw(st.fixed_dictionaries(optional)) for _ in range(2))
    return tuple({key: value for key, value in one.items() if value is not None} for one in (first, second))


@examples(deadline=None)
@given(told=st.composite(both)())
def test_a_variable_goes_before_the_file_and_the_file_before_the_default(
    file: Path, told: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    """For every key by itself, whatever is said of the others."""
    by_variable, by_file = told
    file.write_text(yaml.safe_dump(by_file or {"home": str(HOME)}))
    chosen = (by_file or {"home": str(HOME)}) | by_variable
    with variables(HARNESS_SITE=str(file), **{VARIABLES[key]: str(value) for key, value in by_variable.items()}):
        here = site()
    home = Path(chosen["home"]) if "home" in chosen else project_root() / ".harness"
    defaults = {
        "home": home,
        "data": home / "data",
        "scratch": "",
        "tracking_uri": f"sqlite:///{home}/mlflow.db",
        "ray_address": None,
        "workers": 1,
        "threads": 1,
        "gpu_share": None,
    }
    found = {key: getattr(here, key) for key in VARIABLES}
    folders = {key: Path(chosen[key]) for key in ("home", "data") if key in chosen}
    assert found == defaults | chosen | folders


def test_without_a_site_nothing_is_read() -> None:
    """An empty variable, as make hands on what is not set, is none."""
    with variables(HARNESS_SITE="", HARNESS_DATA=""):
        assert settings() == {}


def test_variables_in_a_file(file: Path) -> None:
    """A user's own folder; the other values stay as they stand."""
    file.write_text("home: /scratch/${WHO}/${WHO}\nray_address: auto\n")
    with variables(HARNESS_SITE=str(file), WHO="ann"):
        told = settings()
    assert told["home"].text == "/scratch/ann/ann"
    assert told["ray_address"].text == "auto"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("home: /a\nhoem: /b\n", r":2: hoem: unknown key 'hoem'; did you mean 'home'\?"),
        ("workers: many\n", ":1: workers: must be a whole number, not the text 'many'"),
        ("data: /d\nworkers: 0\n", ":2: workers: must be a whole number of at least 1"),
        ("gpu_share: 1.5\n", ":1: gpu_share: must be a number from 0.01 to 1"),
        ("scratch: local\n", ":1: scratch: must be an absolute path, of a folder that every node has"),
        ("home: results\n", ":1: home: must be an absolute path, as every node sees it, not 'results'"),
        ("\nhome: /a/${NOBODY_SETS_THIS}\n", ":2: home: NOBODY_SETS_THIS is not set in the environment"),
        ("home: /a/$USER\n", r":1: home: a \$ must begin the name of a variable in braces"),
        ("home: ''\n", ":1: home: must not be empty; leave the line out"),
        ("home: /a\nhome: /b\n", ":2: 'home' stands twice"),
        ("- home\n", ":1: must hold a mapping"),
    ],
)
def test_a_wrong_file(file: Path, content: str, problem: str) -> None:
    """File, line, key and what is wrong, in one sentence."""
    file.write_text(content)
    with variables(HARNESS_SITE=str(file)), pytest.raises(ConfigError, match=rf"here\.yaml{problem}"):
        site()


@pytest.mark.parametrize(
    "uri",
    [
        "https://ann:s3cret@mlflow.cluster.example",
        "postgresql+psycopg2://mlflow:s3cret@db.cluster.example/mlflow",
        "postgresql://db.cluster.example/mlflow?user=mlflow&password=s3cret",
        "https://ann:${SECRET}@mlflow.cluster.example",
    ],
)
def test_a_password_in_a_file_is_refused(file: Path, uri: str) -> None:
    """Files are shared and committed. The sentence says where it belongs, and does not repeat it."""
    file.write_text(f"tracking_uri: {uri}\n")
    with variables(HARNESS_SITE=str(file), SECRET="s3cret"), pytest.raises(ConfigError) as error:
        site()
    assert "tracking_uri: must hold no password" in str(error.value)
    assert "MLFLOW_TRACKING_PASSWORD" in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_site_that_does_not_exist(tmp_path: Path) -> None:
    """A name lists those that do; a path is said as it was given."""
    with (
        variables(HARNESS_SITE="slrum"),
        pytest.raises(ConfigError, match=r"unknown site 'slrum'; did you mean 'slurm'"),
    ):
        site()
    nowhere = str(tmp_path / "none.yaml")
    with variables(HARNESS_SITE=nowhere), pytest.raises(ConfigError, match=r"HARNESS_SITE=.*: there is no such file"):
        site()


@pytest.mark.parametrize("path", sorted(project_root().glob("cluster/sites/*.yaml")), ids=lambda path: path.stem)
def test_the_examples_hold(path: Path, file: Path) -> None:
    """Each can be taken by its name; what stands in comments, to be put in, is right as well."""
    lines = [line.removeprefix("# ") for line in path.read_text().splitlines()]
    keys = [line for line in lines if line.partition(":")[0] in VARIABLES]
    file.write_text("\n".join(keys))
    with variables(HARNESS_SITE=path.stem, USER="ann", HOME="/home/ann"):
        assert site().threads > 1
    with variables(HARNESS_SITE=str(file), USER="ann", HOME="/home/ann"):
        site()
        assert len(settings()) == len(keys)


def test_what_is_shown(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every value with what set it, no password; and one alone, for scripts."""
    file.write_text("home: /a\nthreads: 3\n")
    uri = "postgresql://mlflow:s3cret@db.cluster.example/mlflow"
    with variables(HARNESS_SITE=str(file), HARNESS_THREADS="4", MLFLOW_TRACKING_URI=uri):
        assert main(["site"]) == 0
        said = capsys.readouterr().out
        assert main(["site", "data"]) == 0
        assert capsys.readouterr().out == "/a/data\n"
        assert main(["site", "dta"]) == 2
        assert "did you mean 'data'?" in capsys.readouterr().err
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in said.splitlines()}
    assert lines.keys() == VARIABLES.keys()
    assert lines["home"].startswith("/a  (")
    assert lines["home"].endswith("here.yaml:1)")
    assert lines["threads"] == "4  (HARNESS_THREADS)"
    assert lines["tracking_uri"] == "postgresql://***@db.cluster.example/mlflow  (MLFLOW_TRACKING_URI)"
    assert lines["scratch"] == "-  (default)"


def test_make_hands_the_site_on() -> None:
    """SITE=NAME of make is HARNESS_SITE of the harness, which alone does as well."""
    recipe = 'print:\n\t@echo "site=$$HARNESS_SITE"\n'
    command = ["make", "--no-print-directory", "-f", str(project_root() / "Makefile"), "-f", "-", "print"]
    for words, environment, expected in [
        (["SITE=slurm"], {}, "slurm"),
        ([], {"HARNESS_SITE": "onprem"}, "onprem"),
        (["SITE=slurm"], {"HARNESS_SITE": "onprem"}, "slurm"),
        ([], {}, ""),
    ]:
        with variables(**environment):
            made = subprocess.run([*command, *words], input=recipe, capture_output=True, text=True, check=True)
        assert made.stdout == f"site={expected}\n"
