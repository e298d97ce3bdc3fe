"""A SLURM of a test's own: its commands as small programs that start real processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

# Runs its words once for each node and ends with the highest of their codes. What scancel sends goes to all processes.
SRUN = """
import os, pathlib, signal, subprocess, sys
words, options, tasks, told_to_end = sys.argv[1:], {}, [], []
def end(*_):
    told_to_end.append(True)
    for task in tasks:
        os.killpg(task.pid, signal.SIGTERM)
signal.signal(signal.SIGTERM, end)
while words[0].startswith("--"):
    name, _, value = words.pop(0)[2:].partition("=")
    options[name] = value
for node in range(int(options["ntasks"])):
    told = {"SLURM_STEP_ID": "0", "SLURM_NODEID": str(node), "SLURMD_NODENAME": f"node{node}"}
    told["SLURM_CPUS_ON_NODE"] = "1"
    out = open(options["output"].replace("%n", str(node)), "ab") if "output" in options else None
    tasks.append(subprocess.Popen(words, env=os.environ | told, stdout=out, stderr=out and subprocess.STDOUT,
        start_new_session=True))
(pathlib.Path(__file__).parent / f"step{os.environ['SLURM_JOB_ID']}.0").write_text(str(os.getpid()))
if told_to_end:
    end()
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = """
import os, pathlib, sys
if sys.argv[1:3] == ["show", "hostnames"]:
    print("\\n".join(f"node{node}" for node in range(int(os.environ["SLURM_NNODES"]))))
else:
    with (pathlib.Path(__file__).parent / "asked").open("a") as file:
        print(*sys.argv[1:], file=file)
"""
SCANCEL = """
import os, pathlib, sys
assert sys.argv[1] == "--signal=TERM"
os.kill(int((pathlib.Path(__file__).parent / f"step{sys.argv[2]}").read_text()), 15)
"""
SINFO = "print('127.0.0.1')"
SQUEUE = "import pathlib; print((pathlib.Path(__file__).parent / 'state').read_text())"


class Slurm:
    """`asked` is what scontrol was asked for; `state` the job's, as squeue tells it."""

    def __init__(self, folder: Path, nodes: int = 2) -> None:
        folder.mkdir(parents=True)
        self.folder, self._nodes = folder, nodes
        programs = {"srun": SRUN, "scontrol": SCONTROL, "scancel": SCANCEL, "sinfo": SINFO, "squeue": SQUEUE}
        for name, program in programs.items():
            (folder / name).write_text(f"#!{sys.executable}\n{program}")
            (folder / name).chmod(0o755)
        self.state("RUNNING")

    def state(self, state: str) -> None:
        (self.folder / "state").write_text(state)

    @property
    def asked(self) -> list[str]:
        file = self.folder / "asked"
        return file.read_text().splitlines() if file.exists() else []

    def variables(self, job: int) -> dict[str, str]:
        """Of the batch script, beside those of whoever submits it."""
        return {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "SLURM_JOB_ID": str(job),
            "SLURM_JOB_NAME": "byol",
            "SLURM_JOB_NODELIST": f"node[0-{self._nodes - 1}]",
            "SLURM_NNODES": str(self._nodes),
            "SLURM_CPUS_PER_TASK": "1",
        }

    def sbatch(self, script: str, *words: str, job: int, root: Path, **variables: str) -> subprocess.Popen[str]:
        """The batch script as slurmd starts it: a copy of the file elsewhere, in the folder it was submitted from."""
        copy = self.folder / f"job{job}"
        copy.write_text((root / "cluster" / "slurm" / script).read_text())
        return subprocess.Popen(
            ["bash", copy, *words],
            cwd=root,
            env=variables | self.variables(job) | {"SLURM_SUBMIT_DIR": str(root)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def processes_with(text: str) -> list[int]:
    """Of this machine, those that have the text in their environment or command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            ended = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:  # gone meanwhile, or another's
            continue
        if text.encode() in told and not ended:
            found.append(int(folder.name))
    return found


def end_all_with(text: str) -> None:
    """What a failed test left running."""
    for pid in processes_with(text):
        os.kill(pid, signal.SIGKILL)
