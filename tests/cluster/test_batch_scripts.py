"""What the batch scripts of SLURM decide, with a driver and a Ray that only note what they are given.

tests/chain/test_slurm.py runs a real table through one of them.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm import Slurm, end_all_with, processes_with

from harness.config.files import project_root

SCRIPTS = ("shared.sbatch", "exclusive.sbatch")
JOB = 123_456
# Notes its words, and ends as it is told; SIGTERM has it save, as the harness does.
HARNESS = """
import os, pathlib, signal, sys, time
if sys.argv[1] == "site":
    print(os.environ[f"HARNESS_{sys.argv[2].upper()}"])
    sys.exit()
here = pathlib.Path(os.environ["HARNESS_HOME"])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(os.environ.get("CODE_WHEN_TOLD", "143"))))
names = ("HARNESS_SITE", "HARNESS_WORKERS", "PROFILE", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")
(here / "run").write_text("\\n".join([*sys.argv[1:], *(f"{name}={os.environ.get(name)}" for name in names)]))
while "CODE" not in os.environ:
    time.sleep(0.05)
sys.exit(int(os.environ["CODE"]))
"""
# `start` stays until SIGTERM, the head's at its port; `symmetric-run` has the driver on the first node, as Ray's own.
RAY = """
import os, pathlib, socket, subprocess, sys, time
here, node = pathlib.Path(os.environ["HARNESS_HOME"]), os.environ["SLURM_NODEID"]
(here / f"ray{node}").write_text("\\n".join(sys.argv[1:]))
if "RAY_FAILS" in os.environ:
    sys.exit(0 if sys.argv[1] == "symmetric-run" else 1)
if "--head" in sys.argv:
    head = socket.create_server(("127.0.0.1", int(os.environ["RAY_ADDRESS"].rpartition(":")[2])))
if sys.argv[1] == "start" or "NODES_WAIT" in os.environ:
    time.sleep(600)
if node == "0":
    sys.exit(subprocess.run(sys.argv[sys.argv.index("--") + 1:]).returncode)
"""
# The nodes are there when the second has begun, or much later, or never; any other program is Python's own.
PYTHON = """
import os, pathlib, sys, time
if sys.argv[1].endswith("wait_for_nodes.py"):
    if "RAY_FAILS" in os.environ:
        sys.exit(1)
    while "NODES_WAIT" in os.environ or not (pathlib.Path(os.environ["HARNESS_HOME"]) / "ray1").exists():
        time.sleep(0.02)
else:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Submitted:
    """A checkout with the scripts, those programs in its .venv, and the SLURM of a test."""

    def __init__(self, folder: Path) -> None:
        self.root, self.home, self.slurm = folder / "root", folder / "home", Slurm(folder / "slurm")
        (self.root / ".venv" / "bin").mkdir(parents=True)
        self.home.mkdir()
        (self.root / "cluster").symlink_to(project_root() / "cluster")
        for name, program in {"harness": HARNESS, "ray": RAY, "python": PYTHON}.items():
            path = self.root / ".venv" / "bin" / name
            path.write_text(f"#!{sys.executable}\n{program}")
            path.chmod(0o755)

    def start(self, script: str, *words: str, **variables: str) -> subprocess.Popen[str]:
        kept = {"HARNESS_HOME": str(self.home), "HARNESS_SCRATCH": str(self.home / "scratch")}
        return self.slurm.sbatch(script, *words, job=JOB, root=self.root, **kept | variables)

    def end(self, script: str, *words: str, **variables: str) -> tuple[int, str]:
        """The job's exit code, and all it said."""
        with self.start(script, *words, **variables) as job:
            said, _ = job.communicate(timeout=60)
        return job.returncode, said + self.log()

    def log(self) -> str:
        file = self.home / "slurm" / str(JOB) / "job.log"
        return file.read_text() if file.exists() else ""

    def noted(self, name: str) -> list[str]:
        """What a program was given, once it has begun."""
        ends = time.monotonic() + 30
        while not (path := self.home / name).exists() or not path.read_text():
            assert time.monotonic() < ends, self.log()
            time.sleep(0.02)
        return path.read_text().splitlines()


@pytest.fixture
def submitted(tmp_path: Path) -> Iterator[Submitted]:
    """A job's surroundings; whatever a failed test leaves is ended."""
    yield Submitted(tmp_path)
    end_all_with(str(tmp_path / "slurm"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_words_are_those_of_make(submitted: Submitted, script: str) -> None:
    """Names, options and variables reach the driver; its exit code is the job's."""
    words = ("table5b", "figure3a", "PROFILE=imagenet", "SEEDS=2", "CELL=byol", "SITE=slurm", "HARNESS_WORKERS=8")
    code, said = submitted.end(script, *words, CODE="1")
    assert code == 1, said
    run = submitted.noted("run")
    told = dict(line.split("=", 1) for line in run if "=" in line and not line.startswith("--"))
    given = [line for line in run if line.split("=")[0] not in told]
    assert given == ["run", "table5b", "figure3a", "--seeds", "2", "--cell", "byol"]
    assert told["PROFILE"] == "imagenet"
    assert told["HARNESS_SITE"] == "slurm"
    assert told["HARNESS_WORKERS"] == "8"
    assert told["RAY_AUTH_MODE"] == "token", "others on the nodes may not have this Ray run their code"
    assert (submitted.home / "scratch").is_dir()
    assert submitted.slurm.asked == [], "a failure does not come back by itself"
    assert not Path(told["RAY_AUTH_TOKEN_PATH"]).exists(), "nothing secret is left"


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "name what to make"),
        (("table5b", "PROFIL=imagenet"), "unknown variable PROFIL; there are PROFILE,"),
    ],
)
def test_wrong_words(submitted: Submitted, script: str, words: tuple[str, ...], problem: str) -> None:
    """One sentence, before anything starts."""
    code, said = submitted.end(script, *words)
    assert code == 2
    assert problem in said
    assert not (submitted.home / "ray0").exists()


def test_without_a_venv(submitted: Submitted) -> None:
    """Submitted from another folder, or before `make setup`."""
    (submitted.root / ".venv" / "bin" / "harness").unlink()
    code, said = submitted.end("shared.sbatch", "table5b")
    assert code == 2
    assert "has no .venv; submit from the checkout" in said


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("state", "code", "requeued"),
    [
        ("RUNNING", 143, True),  # the time limit is near, or somebody wants the nodes
        ("COMPLETING", 143, False),  # cancelled
        ("RUNNING", 0, False),  # it was done anyway
        ("RUNNING", 1, False),  # done, and something failed
    ],
)
def test_asked_to_end(submitted: Submitted, script: str, state: str, code: int, requeued: bool) -> None:
    """The driver is told and nobody else, the job waits for it, and goes back into the queue if that makes sense."""
    submitted.slurm.state(state)
    with submitted.start(script, "table5b", CODE_WHEN_TOLD=str(code)) as job:
        submitted.noted("run")
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=60)
    assert job.returncode == code, submitted.log()
    assert submitted.slurm.asked == ([f"requeue {JOB}"] if requeued else []), submitted.log()
    assert not processes_with(str(submitted.slurm.folder)), "nothing is left"


@pytest.mark.parametrize("script", SCRIPTS)
def test_asked_to_end_before_it_began(submitted: Submitted, script: str) -> None:
    """While nodes are waited for there is no driver to tell; the job ends all the same, and comes back."""
    with submitted.start(script, "table5b", NODES_WAIT="1") as job:
        submitted.noted("ray1")
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=60)
    assert job.returncode == 143, submitted.log()
    assert submitted.slurm.asked == [f"requeue {JOB}"]
    assert not (submitted.home / "run").exists()
    assert not processes_with(str(submitted.slurm.folder))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_ray_that_does_not_start(submitted: Submitted, script: str) -> None:
    """Ray's own launcher ends with 0 then; the job does not pass for done."""
    code, said = submitted.end(script, "table5b", RAY_FAILS="1")
    assert code == 1
    assert "Ray did not start" in said
    assert submitted.slurm.asked == []


def test_two_jobs_on_one_node(submitted: Submitted) -> None:
    """A port that is taken is passed over; each job has its own, from its number on."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 20_000 + JOB % 10_000))
        taken.listen()
        code, said = submitted.end("shared.sbatch", "table5b", CODE="0")
    assert code == 0, said
    assert f"RAY_ADDRESS=127.0.0.1:{20_001 + JOB % 10_000}" in submitted.noted("run")


def test_ray_understands_its_options(submitted: Submitted) -> None:
    """By the very parsers of the locked Ray: of each node's `ray start`, and of symmetric-run, which hands them on."""
    pytest.importorskip("ray")
    from ray.scripts.scripts import start  # noqa: PLC0415
    from ray.scripts.symmetric_run import curate_and_validate_ray_start_args, symmetric_run  # noqa: PLC0415

    assert submitted.end("shared.sbatch", "table5b", CODE="0")[0] == 0
    head, worker = (submitted.noted(f"ray{node}") for node in range(2))
    parsed = [start.make_context("start", words[1:]).params for words in (head, worker)]
    assert [told["head"] for told in parsed] == [True, False]
    assert [told["node_name"] for told in parsed] == ["node0", "node1"]
    assert all(told["block"] and told["num_cpus"] == 1 and told["num_gpus"] == 0 for told in parsed)
    assert parsed[0]["include_dashboard"] is False, "which would take jobs from anybody on the node"
    assert parsed[1]["address"] == f"127.0.0.1:{parsed[0]['port']}"
    assert len({told["temp_dir"] for told in parsed}) == 2

    assert submitted.end("exclusive.sbatch", "table5b", CODE="0")[0] == 0
    words = submitted.noted("ray1")[1:]
    words = words[: words.index("--")]
    told = symmetric_run.make_context("run", [*words], resilient_parsing=True).params
    assert (told["min_nodes"], told["address"]) == (2, parsed[1]["address"])
    handed_on = curate_and_validate_ray_start_args([*words])
    for role in (["--head"], [f"--address={told['address']}"]):
        assert start.make_context("start", [*role, *handed_on]).params["num_cpus"] == 1
