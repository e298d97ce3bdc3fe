"""What `ray up` is given: files that the locked Ray itself accepts, and that do no harm on the machines they name."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray")
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from harness.config.files import project_root

FILES = sorted((project_root() / "cluster" / "ray").glob("*.yaml"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A file as `ray up` takes it: with Ray's defaults filled in."""
    path: Path = request.param
    prepared: dict[str, Any] = prepare_config(yaml.safe_load(path.read_text()))
    return prepared


def starts(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of the head's and the workers' `ray start`, as this Ray reads them; an unknown one is refused."""
    found = {}
    for role in ("head", "worker"):
        (command,) = config[f"{role}_start_ray_commands"]
        words = shlex.split(command)
        begin = next(i for i, word in enumerate(words) if word.endswith("/ray"))
        assert words[begin + 1] == "start"
        assert "RAY_AUTH_MODE=token" in words[:begin], "an open Ray runs what anybody on the network sends it"
        found[role] = start.make_context("start", words[begin + 2 :]).params
    return found


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    """By the schema and the checks that `ray up` begins with; one key too many is refused."""
    validate_config(config)
    with pytest.raises(Exception, match="no_such_key"):
        validate_config(config | {"no_such_key": 1})


def test_the_head_trains_nothing(config: dict[str, Any]) -> None:
    """A head that is out of memory or busy takes the whole cluster along."""
    head = starts(config)["head"]
    assert head["head"]
    assert (head["num_cpus"], head["num_gpus"]) == (0, 0)
    assert starts(config)["worker"]["num_cpus"] is None, "workers have what their machine has"


def test_nothing_reaches_further_than_it_should(config: dict[str, Any]) -> None:
    """The dashboard, which runs jobs, is on loopback; starting ends nobody else's Ray; workers join the head's port."""
    roles = starts(config)
    assert roles["head"]["dashboard_host"] == "127.0.0.1"
    assert roles["worker"]["address"].endswith(f":{roles['head']['port']}")
    commands = [command for key, told in config.items() if key.endswith("_commands") for command in told]
    assert not [command for command in commands if "ray stop" in command or "killall" in command or "pkill" in command]


def test_all_machines_from_the_start() -> None:
    """A sweep asks for no machine that is not there, so what is not started at once would never be."""
    onprem, aws = (
        yaml.safe_load((project_root() / "cluster" / "ray" / f"{name}.yaml").read_text()) for name in ("onprem", "aws")
    )
    assert onprem["min_workers"] == onprem["max_workers"] == len(onprem["provider"]["worker_ips"])
    workers = {name: kind for name, kind in aws["available_node_types"].items() if name != aws["head_node_type"]}
    assert all(kind["min_workers"] == kind["max_workers"] > 0 for kind in workers.values())
    assert sum(kind["max_workers"] for kind in workers.values()) == aws["max_workers"]


def test_only_workers_may_be_taken_away() -> None:
    """Spot machines are cheap and go without notice; the head is none. Its resources hide it from the autoscaler."""
    aws = yaml.safe_load((project_root() / "cluster" / "ray" / "aws.yaml").read_text())
    kinds = aws["available_node_types"]
    head = kinds.pop(aws["head_node_type"])
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert all(kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"} for kind in kinds.values())
    rules = aws["provider"]["security_group"]["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in rules] == [(22, 22)], "SSH alone from outside"
