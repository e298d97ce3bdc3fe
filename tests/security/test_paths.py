"""Names that a person or a file gives: none of them leads out of the folder that it names something in."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.config.errors import ConfigError
from harness.config.files import named_file
from harness.data.errors import DataError
from harness.data.prepare import add_list, open_dataset, prepare
from harness.tracking.record import Record, RecordError, Runs
from harness.tracking.spool import Spool

OUT = (
    "..",
    "../x",
    "../../etc",
    "/etc",
    "a/b",
    "a/../..",
    "",
    ".",
    ".hidden",
    "a\\b",
    "a\0b",
    "a\nb",
    "~",
    "x" * 99 + "/..",
)
FACTS = {"kind": "pretrain", "state": "running", "spec": {}, "commit": "", "environment": {}, "started_unix_s": 1.0}
NAMES = st.one_of(st.sampled_from(OUT), st.text(max_size=20), st.text("./ab\\", max_size=8))


@given(NAMES)
def test_a_key_names_a_folder_of_the_runs(key: str) -> None:
    """Protects everything else on the disk from keys of records, of specs and of commands."""
    runs = Runs(Path("/home/me/runs"))
    try:
        folder = runs.folder(key)
    except RecordError as error:
        assert "\n" not in str(error).replace(key[:40], "")  # noqa: PT017  # either outcome is right
    else:
        assert folder.parent == runs.path
        assert Path(os.path.normpath(folder)).parent == runs.path
        assert not folder.name.startswith(".")


@given(NAMES)
def test_a_dataset_is_one_of_those_that_are_known(name: str) -> None:
    """Protects the folder of the data, and what lies beside it: other names are refused before a path is made."""
    for use in (lambda: prepare(name, Path("/nowhere"), print), lambda: open_dataset(name, Path("/nowhere"))):
        with pytest.raises(DataError):
            use()


@given(NAMES)
def test_a_list_has_a_plain_name(name: str) -> None:
    """Protects the dataset's folder from `--list ../../x=FILE`."""
    with pytest.raises(DataError):
        add_list("digits", Path("/nowhere"), name, Path("/nowhere/list.txt"), print)


@given(NAMES)
def test_a_declaration_lies_in_its_folder(name: str) -> None:
    """Protects `--profile`, and every name of one file in another."""
    for kind in ("profiles", "tables", "recipes", "imported"):
        with pytest.raises(ConfigError):
            named_file(kind, name)  # type: ignore[arg-type]  # each is a kind


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("HARNESS_", "MLFLOW_TRACKING", "RAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HARNESS_ROOT", str(Path(__file__).parents[2]))
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home" / "in"))
    (tmp_path / "home" / "in" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_no_command_leaves_the_home(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects a folder beside the home that looks like a run, from every command that takes a name."""
    beside = home / "beside"
    Runs(home).write(Record(key="beside", **FACTS))
    (beside / "spec.json").write_text("{}")
    (beside / "profile.yaml").write_text("profile: x\n")
    (home.parent / "model.pth").write_bytes(b"x")
    spec = home.parent / "spec.json"
    spec.write_text(json.dumps({"kind": "linear", "subject": "../../beside"}))
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    for words in (
        ("retire", "../../beside", "--reason", "x"),
        ("export", "../../beside", "--format", "safetensors"),
        ("import", "model.pth", "--as", "../../x"),
        ("prepare", "../../beside"),
        ("train", str(spec)),
        ("report", "table6", "--profile", f"../../{os.path.relpath(beside / 'profile', '/')}"),
        ("report", "../../beside"),
        ("explain", "../../beside:x"),
    ):
        assert main(list(words)) == 2, words
        said = capsys.readouterr().err
        assert said.startswith("harness: "), words
        assert said.count("\n") == 1, words
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_nobody_else_may_write_what_is_kept(tmp_path: Path) -> None:
    """Protects runs on a shared disk: others may write only where the person's umask says so."""
    before = os.umask(0o022)
    try:
        runs = Runs(tmp_path / "runs")
        runs.write(Record(key="a", **FACTS))
        Spool(runs.folder("a") / "spool.jsonl").append(1, {"loss": 1.0})
        prepare("digits", tmp_path / "data", lambda _: None)
    finally:
        os.umask(before)
    made = list(tmp_path.rglob("*"))
    assert len(made) > 8
    assert not [path for path in made if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)]
