"""How the doctor speaks: a line a finding, nodes on which all is well in one, no password, and no end of patience."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from harness.config.finding import Finding, fail, ok, warn

subject = importlib.import_module("harness.commands.doctor")  # the package has a function of this name
Told = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """The exit code and the lines for some findings."""

    def tell(findings: Iterable[Finding]) -> tuple[int, list[str]]:
        monkeypatch.setattr(subject, "_findings", lambda *_: iter(findings))
        code = subject.doctor([], "laptop", None, None, json=False)
        return code, capsys.readouterr().out.splitlines()

    return tell


def test_a_line_a_finding(told: Told) -> None:
    """Long ones are not broken: a line can be searched for, and copied."""
    long = "x" * 300
    code, lines = told([ok("a", long), warn("b", "[found]", "do this"), fail("c", "found", "do `that`")])
    assert code == 1
    assert lines == [f"ok   a: {long}", "warn b: [found]; do this", "fail c: found; do `that`", "1 ok, 1 warn, 1 fail"]


def test_warnings_are_no_failure(told: Told) -> None:
    """Exit code 0."""
    assert told([warn("a", "found", "do this")])[0] == 0


def test_nodes_that_are_well_share_a_line(told: Told) -> None:
    """Of 64 nodes one has a fault: that is what is read."""
    well = [replace(ok("memory", f"{number} GB"), node=f"node-{number}") for number in range(63)]
    code, lines = told([*well, replace(fail("memory", "1 GB", "more"), node="node-63"), *[well[0]] * 2])
    assert code == 1
    assert lines == [
        "ok   memory on node-0 and 62 more: 0 GB",
        "fail memory on node-63: 1 GB; more",
        "ok   memory on node-0 and 1 more: 0 GB",
        "65 ok, 0 warn, 1 fail",
    ]


def test_two_faults_are_two_lines(told: Told) -> None:
    """Each with the node that has it."""
    faults = [replace(fail("gpus", "none", "a driver"), node=name) for name in ("a", "b")]
    assert told(faults)[1][:2] == ["fail gpus on a: none; a driver", "fail gpus on b: none; a driver"]


def test_passwords_are_never_said(told: Told) -> None:
    """Whatever a library puts into its error."""
    _, lines = told([fail("mlflow", "at https://user:secret@host/ is 401", "open https://user:secret@host/")])
    assert "secret" not in "\n".join(lines)
    assert "host/" in lines[0]


def test_storage_that_hangs_before_anything_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path is resolved on a dead mount: one failure, in its time."""
    never = threading.Event()
    monkeypatch.setattr(subject, "site", never.wait)
    monkeypatch.setattr(subject, "SECONDS", 0.2)
    assert subject.doctor(["5b"], "laptop", None, None, json=False) == 1
    assert "HARNESS_HOME or HARNESS_DATA did not answer within 0.2 s" in capsys.readouterr().out
    never.set()
