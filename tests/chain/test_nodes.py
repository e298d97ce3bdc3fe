"""A sweep over the nodes of a cluster that come and go. Each node is a raylet of its own on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from checkout import Checkout, edited

from harness.launch.ending import KEPT
from harness.launch.observer import read_progress
from harness.launch.place import Place
from harness.launch.task import execute
from harness.tracking.lease import read_owner
from harness.tracking.record import Record, Runs
from harness.tracking.spool import Spool

pytest.importorskip("ray")
from ray.cluster_utils import Cluster

pytestmark = [pytest.mark.chain, pytest.mark.ray]
COMMAND = ("run", "table5b", "--seeds", "1")
EPOCHS = 10  # some 100 updates: on two workers, seconds in which a node can die
PATIENCE = 240.0


@pytest.fixture(scope="module")
def other_code(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the nodes find under the name of this package: nothing that could run."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "harness").mkdir()
    (folder / "harness" / "__init__.py").write_text('raise ImportError("not the driver\'s code")\n')
    return str(folder)


@pytest.fixture(scope="module")
def cluster(other_code: str) -> Iterator[Cluster]:
    """A head that trains nothing, and three nodes."""
    environment = {"PYTHONPATH": other_code}
    whole = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "env_vars": environment})
    for cpus in (2, 1, 1):
        whole.add_node(num_cpus=cpus, env_vars=environment)
    yield whole
    whole.shutdown()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Seven runs: two pretrainings on two workers each, and five evaluations, one of an untrained encoder."""
    made = Checkout(tmp_path_factory.mktemp("nodes"), EPOCHS)
    with edited(made.root / "experiments" / "tables" / "table5b.yaml") as table:
        view = {"data.view": "byol.first"}
        table["cells"] += [{"id": f"{cell['id']}_aug", "set": cell["set"], "evaluate": view} for cell in table["cells"]]
        cells = [cell["id"] for cell in table["cells"]]
    with edited(made.root / "tables" / "table5b.yaml") as layout:
        layout["rows"] = [{"cell": cell} for cell in cells]
    return made


def until(happens: Callable[[], Any], driver: subprocess.Popen[str]) -> Any:
    """What it comes to, once it is something."""
    ends = time.monotonic() + PATIENCE
    while not (found := happens()):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < ends, "it never happened"
        time.sleep(0.1)
    return found


def drive(checkout: Checkout, cluster: Cluster, *words: str) -> subprocess.Popen[str]:
    """A real driver, which knows of the cluster by its address alone."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    variables = {"RAY_ADDRESS": cluster.address, "HARNESS_WORKERS": "2"}
    return subprocess.Popen(**checkout.command(*words or COMMAND, **variables), **pipes)


def owners(checkout: Checkout) -> dict[str, int]:
    """By key, the process that works on a run which has made an update, and is not near its end."""
    found = {}
    for lease in checkout.home.glob("runs/*/lease.json"):
        seen, owner = read_progress(lease.parent), read_owner(lease)
        if seen is not None and owner is not None and seen.done < seen.total / 2:
            found[lease.parent.name] = owner.pid
    return found


def kill_node_of(cluster: Cluster, pid: int) -> set[int]:
    """Kill -9 of all processes of the node that this one belongs to, at once; returns them."""
    parents = {parent.pid for parent in psutil.Process(pid).parents()}
    node = next(one for one in cluster.worker_nodes if raylet(one) in parents)
    everything = {raylet(node), *(child.pid for child in psutil.Process(raylet(node)).children(recursive=True))}
    for one in everything:
        os.kill(one, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)
    return everything


def raylet(node: Any) -> int:
    """The process that a node is."""
    pid: int = node.all_processes["raylet"][0].process.pid
    return pid


def seem_elsewhere(checkout: Checkout, dead: set[int]) -> set[str]:
    """Dead owners on this machine are known for dead at once. As of another one, their leases must run out."""
    keys = set()
    for lease in checkout.home.glob("runs/*/lease.json"):
        owner = json.loads(lease.read_text())
        if owner["pid"] in dead:
            lease.write_text(json.dumps(owner | {"host": "node.example"}))
            keys.add(lease.parent.name)
    return keys


def records(runs: Runs) -> dict[str, Record]:
    """Of all runs, which are done."""
    found = {key: runs.read(key) for key in runs.keys()}  # noqa: SIM118  # Runs is no mapping
    done = {key: record for key, record in found.items() if record is not None and record.state == "done"}
    assert done.keys() == found.keys()
    return done


def test_a_node_that_is_not_alike_is_refused(
    checkout: Checkout, cluster: Cluster, other_code: str, tmp_path: Path
) -> None:
    """Another torch moves numbers: it is said before anything runs, with the node and both versions."""
    other = tmp_path / "torch-0.0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.0.1\n")
    node = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": os.pathsep.join([str(tmp_path), other_code])})
    with drive(checkout, cluster) as driver:
        _, complaint = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 2, complaint
    (line,) = complaint.splitlines()
    assert line.startswith(f"harness: node {socket.gethostname()} has torch 0.0.1, not {version('torch')} as here")
    assert not list(checkout.home.glob("runs/*/record.json"))
    cluster.remove_node(node, allow_graceful=False)


@pytest.mark.timeout(600)
def test_a_node_dies_and_another_comes(checkout: Checkout, cluster: Cluster, other_code: str) -> None:
    """Every run ends as if nothing had happened: the dead node's go on elsewhere, the others notice nothing.

    All nodes run the driver's code, whatever they have under its name.
    """
    with drive(checkout, cluster) as driver:
        held = until(lambda: owners(checkout), driver)
        dead = kill_node_of(cluster, next(iter(held.values())))
        lost = seem_elsewhere(checkout, dead)
        assert lost, "it died in the middle of its runs"
        time.sleep(3)
        cluster.add_node(num_cpus=2, env_vars={"PYTHONPATH": other_code})
        said, complaint = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, said + complaint
    assert complaint == ""
    assert "Ray's nodes: 1 gone, 0 new" in said

    runs = Runs(checkout.home / "runs")
    done = records(runs)
    assert len(done) == 7
    assert {record.kind: record.environment["world"] for record in done.values()} == {"pretrain": 2, "linear": 1}
    attempts = {path.parent.name: _lines(path) for path in runs.path.glob("*/attempts.jsonl")}
    assert lost <= attempts.keys(), "each attempt that ended has its line"
    assert all(line["fault"] == "node or worker" for lines in attempts.values() for line in lines)
    assert {line["node"] for key in lost for line in attempts[key]} == {"node.example"}
    for key in done.keys() - attempts.keys():
        assert Spool(runs.folder(key) / "spool.jsonl").history()[1] == 0, "nobody began it a second time"
    again = checkout.harness(*COMMAND)
    assert "7 of 7 runs are finished; nothing is left to run" in again.stdout
    _assert_as_undisturbed(runs, done, checkout.home / "data", checkout.home.parent / "undisturbed")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _assert_as_undisturbed(runs: Runs, done: dict[str, Record], data: Path, home: Path) -> None:
    """Every number and every point of every curve, to the bit, of the same worlds without Ray or faults."""
    place = Place(runs=str(home / "runs"), data=str(data), commit="test")
    for key in done:
        (home / "runs" / key).mkdir(parents=True)
    for spec in runs.path.glob("*/spec.json"):
        (home / "runs" / spec.parent.name).mkdir(exist_ok=True)
        shutil.copy(spec, home / "runs" / spec.parent.name)
    pretrainings = [key for key, record in done.items() if record.kind == "pretrain"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(rank_main, (port, pretrainings, place), nprocs=2)
    for key in done.keys() - set(pretrainings):
        execute(key, place)
    undisturbed = Runs(home / "runs")
    for key, record in records(undisturbed).items():
        assert record.results == done[key].results
        curves = [Spool(one.folder(key) / "spool.jsonl").read() for one in (undisturbed, runs)]
        assert [(point.step, point.metrics) for point in curves[0]] == [
            (point.step, point.metrics) for point in curves[1]
        ]


def rank_main(rank: int, port: int, keys: list[str], place: Place) -> None:
    """One of two ranks that train what needs two."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for key in keys:
        execute(key, place)
    dist.destroy_process_group()


def test_the_driver_s_end_and_the_head_s(cluster: Cluster, tmp_path: Path) -> None:
    """SIGTERM ends a sweep within its half minute, with all saved. Without a head it ends too, in one line."""
    checkout = Checkout(tmp_path, epochs=200, cells={"long": {}})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = checkout.command(*COMMAND, RAY_ADDRESS=cluster.address)
    with subprocess.Popen(**command, **pipes) as driver:
        (key,) = until(lambda: owners(checkout), driver)
        asked = time.monotonic()
        driver.send_signal(signal.SIGTERM)
        said, complaint = driver.communicate(timeout=PATIENCE)
        assert time.monotonic() - asked < 30
    assert driver.returncode == 128 + signal.SIGTERM, said + complaint
    assert complaint.splitlines() == [f"harness: stopped; {KEPT}"]
    folder = checkout.home / "runs" / key
    assert not (folder / "lease.json").exists()
    seen = read_progress(folder)
    assert seen is not None
    last = max(path.name for path in (folder / "checkpoints").iterdir())
    assert last >= f"checkpoint-{seen.done:09d}.pt", "progress is written once a second, and the last update saved"

    with subprocess.Popen(**command, **pipes) as driver:
        until(lambda: owners(checkout), driver)
        killed = time.monotonic()
        for kind in ("gcs_server", "raylet"):
            for process in cluster.head_node.all_processes[kind]:
                os.kill(process.process.pid, signal.SIGKILL)
        said, complaint = driver.communicate(timeout=PATIENCE)
        assert time.monotonic() - killed < 60
    assert driver.returncode == 1, said + complaint
    (line,) = complaint.splitlines()
    assert line.startswith("harness: Ray's head, or the raylet of this machine, has been gone for 30 s")
    assert line.endswith(KEPT)
    assert not list((checkout.home / "ray").iterdir()), "what Ray wrote for itself is gone"
