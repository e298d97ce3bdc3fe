"""`harness train SPEC.json`: torch alone, and a sentence for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config.errors import ConfigError
from harness.config.expand import expand
from harness.config.identity import plain, run_key
from harness.config.schema import Linear, Pretrain, RandomEncoder
from harness.launch.place import wanted_solver
from harness.launch.site import site
from harness.launch.standalone import train
from harness.tracking.record import Runs

Tiny = tuple[Pretrain, Linear]


def written(spec: object, folder: Path) -> Path:
    """SPEC.json."""
    path = folder / "spec.json"
    path.write_text(json.dumps(plain(spec)))
    return path


def test_a_spec_is_trained_and_then_evaluated(
    tiny: Tiny, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both kinds of run, one after the other, with what they found on the screen."""
    assert train(written(tiny[0], tmp_path), "cpu", 1, tmp_path, data) == 0
    assert train(written(tiny[1], tmp_path), "cpu", 1, tmp_path, data) == 0
    said = capsys.readouterr().out
    assert f"done: {tmp_path / 'runs' / run_key(tiny[1])}" in said
    assert "linear_imagenet.top1: " in said
    assert Runs(tmp_path / "runs").keys() == sorted(run_key(spec) for spec in tiny)


def test_what_is_wrong_is_one_sentence(tiny: Tiny, data: Path, tmp_path: Path) -> None:
    """Files, specs, subjects, data and devices that are not there; nothing is written for them."""
    subject, evaluation = tiny
    untrained = RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=0)
    broken = tmp_path / "broken.json"
    broken.write_text('{"kind": "pretrain"}')
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    cases = [
        (tmp_path / "none.json", "cpu", data, "No such file"),
        (broken, "cpu", data, "is missing"),
        (deep, "cpu", data, "deep.json: holds too much in one another"),
        (untrained, "cpu", data, "an untrained encoder is no run"),
        (evaluation, "cpu", data, f"evaluates {evaluation.subject}, which has no encoder"),
        (subject, "warp", data, "--device warp"),
        (subject, "cpu", tmp_path, "harness prepare digits"),
    ]
    for spec, device, where, problem in cases:
        path = spec if isinstance(spec, Path) else written(spec, tmp_path)
        with pytest.raises(ConfigError, match=problem):
            train(path, device, 1, tmp_path / "home", where)


def test_a_solver_is_named_by_the_environment(
    tiny: Tiny, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two; another name is told, before anything is trained."""
    for name, wanted in (("", "torch"), ("scikit-learn", "scikit-learn")):
        monkeypatch.setenv("HARNESS_SOLVER", name)
        assert wanted_solver() == site().solver == wanted
    monkeypatch.setenv("HARNESS_SOLVER", "sklearn")
    with pytest.raises(ConfigError, match="HARNESS_SOLVER=sklearn: must be torch or scikit-learn"):
        train(written(tiny[0], tmp_path), "cpu", 1, tmp_path, data)
    assert not (tmp_path / "runs").exists()


def test_an_untrained_subject_needs_no_encoder_file(tiny: Tiny, data: Path, tmp_path: Path) -> None:
    """The evaluation of the untrained encoder finds its subject by the spec that the plan wrote."""
    untrained = RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=0)
    from harness.launch.specs import write_spec  # noqa: PLC0415

    key = write_spec(Runs(tmp_path / "runs"), untrained)
    evaluation = replace(tiny[1], subject=key, epochs=1)
    assert train(written(evaluation, tmp_path), "cpu", 1, tmp_path, data) == 0


def test_a_fine_tuning_and_its_choice(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Candidates first, each by its spec; a choice made too early is told what it waits for."""
    from harness.launch.specs import write_spec  # noqa: PLC0415

    member = expand("fractions", "laptop", seeds=1, cell="supervised_2").members[0]
    candidate = replace(member.candidates[0], epochs=3)
    choice = replace(member.evaluation, candidates=(run_key(candidate),))
    with pytest.raises(ConfigError, match=f"evaluates {member.subject_key}, which has no encoder"):
        train(written(candidate, tmp_path), "cpu", 1, tmp_path, data)
    write_spec(Runs(tmp_path / "runs"), member.subject)
    with pytest.raises(ConfigError, match=f"chooses among {run_key(candidate)}, which has not finished"):
        train(written(choice, tmp_path), "cpu", 1, tmp_path, data)
    assert train(written(candidate, tmp_path), "cpu", 1, tmp_path, data) == 0
    assert train(written(choice, tmp_path), "cpu", 1, tmp_path, data) == 0
    said = capsys.readouterr().out
    assert "finetune.valid.top1: " in said
    assert "finetune.top5: " in said


def test_it_needs_torch_alone() -> None:
    """On a bare GPU machine there is no Ray, MLflow, PyYAML, pandas, rich or FFCV to import."""
    program = (
        "import sys, harness.launch.standalone\n"
        "print([name for name in ('ray', 'mlflow', 'yaml', 'ffcv', 'rich', 'pandas', 'sklearn', 'pydantic')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
