"""What the cluster's files declare, as tests read it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "cluster" / "docker"
KUBERNETES = ROOT / "cluster" / "kubernetes"


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text()))


def manifests() -> list[dict[str, Any]]:
    """Every object of Kubernetes, Ray's included."""
    paths = sorted(KUBERNETES.glob("*.yaml"))
    return [document for path in paths if path.name != "kustomization.yaml" for document in documents(path)]


def one(kind: str, name: str) -> dict[str, Any]:
    """The object of that kind and name."""
    (found,) = (each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def pod_templates() -> dict[str, dict[str, Any]]:
    """What pods are made from, by object and part: template, submitterPodTemplate, head, or a group of workers."""
    found = {}
    for each in manifests():
        name = f"{each['kind']}/{each['metadata']['name']}"
        spec = each.get("spec", {})
        for part in ("template", "submitterPodTemplate"):
            if part in spec:
                found[f"{name}/{part}"] = spec[part]
        if each["apiVersion"].startswith("ray.io/"):
            cluster = spec.get("rayClusterSpec", spec)
            found[f"{name}/head"] = cluster["headGroupSpec"]["template"]
            found |= {f"{name}/{group['groupName']}": group["template"] for group in cluster["workerGroupSpecs"]}
    return found


def locked(name: str) -> str:
    """The version of a package in requirements.lock."""
    found = re.search(rf"^{re.escape(name)}==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert found, f"{name} is not locked"
    return found[1]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Each stage of the Dockerfile by its name: what it is made from, then its instructions."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE))
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, name = rest.split(" AS ")
            current = found[name] = [("FROM", base)]
        else:
            current.append((word, re.sub(r"\s+", " ", rest)))
    return found
