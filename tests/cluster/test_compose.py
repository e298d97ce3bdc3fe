"""compose.yaml: a file that compose reads, no secret in it, nothing open to the network that nobody opened."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from declared import DOCKER, ROOT, documents

SECRETS = {"POSTGRES_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY"}
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    (document,) = documents(DOCKER / "compose.yaml")
    return document


def test_the_compose_specification(compose: dict[str, Any]) -> None:
    """Against the specification's own schema; a misspelt key is found by it."""
    schema = json.loads((files("check_jsonschema.builtin_schemas.vendor") / "compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert list(validator.iter_errors(compose)) == []
    compose["services"]["mlflow"]["volume"] = []
    assert list(validator.iter_errors(compose)) != []
    del compose["services"]["mlflow"]["volume"]


def test_secrets_come_from_outside(compose: dict[str, Any]) -> None:
    """Whatever is called a password or a key is asked for, and compose stops without it."""
    asked = set()
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            if re.search(r"PASSWORD|SECRET|TOKEN|KEY", name):
                required = REQUIRED.fullmatch(value)
                assert required, f"{name} is written down"
                asked.add(required[1])
    assert asked == SECRETS
    command = " ".join(compose["services"]["mlflow"]["command"])
    assert not SECRETS & set(re.findall(r"\w+", command)), "a command line is seen by every process"
    assert not re.search(r"://[^/ ]*@", command + (DOCKER / "accounts.ini").read_text()), "an address holds a password"


def test_nothing_listens_beyond_this_machine(compose: dict[str, Any]) -> None:
    """PostgreSQL has no port and a network without a way out; MLflow's is on loopback until somebody says otherwise."""
    database, mlflow = compose["services"]["postgresql"], compose["services"]["mlflow"]
    assert "ports" not in database
    assert database["networks"] == ["database"]
    assert compose["networks"]["database"] == {"internal": True}
    (port,) = mlflow["ports"]
    assert port.startswith("${MLFLOW_BIND:-127.0.0.1}:")
    inside = port.rpartition(":")[2]
    assert f"--port={inside}" in mlflow["command"]


def test_services_come_back_and_say_how_they_are(compose: dict[str, Any]) -> None:
    """A tag that moves under a running group would bring another MLflow, and another schema, at the next restart."""
    for service in compose["services"].values():
        assert service["restart"] == "unless-stopped"
        name, _, tag = service["image"].rpartition(":")
        assert name
        assert tag != "latest"
        assert service["volumes"]
    assert "healthcheck" in compose["services"]["postgresql"]
    assert "HEALTHCHECK" in (DOCKER / "Dockerfile").read_text(), "MLflow's own"
    assert compose["services"]["mlflow"]["depends_on"]["postgresql"] == {"condition": "service_healthy"}
    used = {volume.partition(":")[0] for service in compose["services"].values() for volume in service["volumes"]}
    assert used == set(compose["volumes"])


def test_the_image_is_ours(compose: dict[str, Any]) -> None:
    """Built from where its Dockerfile expects to be built."""
    build = compose["services"]["mlflow"]["build"]
    assert (DOCKER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).resolve() == DOCKER / "Dockerfile"
    assert f" AS {build['target']}\n" in (DOCKER / "Dockerfile").read_text()
