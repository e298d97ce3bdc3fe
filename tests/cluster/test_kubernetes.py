"""The manifests: objects that Kubernetes and KubeRay take, pods without rights, PostgreSQL for MLflow alone."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from declared import KUBERNETES, documents, manifests, one, pod_templates

OLDEST, NEWEST = "1.30", "1.37"  # of the Kubernetes that the manifests are for
TEMPLATES = pod_templates()


def _validate(document: dict[str, Any]) -> None:
    for version in (OLDEST, NEWEST):
        assert kubernetes_validate.validate(document, version, strict=True) == version


def _kuberay() -> jsonschema.Draft202012Validator:
    (schema,) = documents(Path(__file__).with_name("kuberay.yaml"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_what_kubernetes_itself_knows() -> None:
    """Strictly: a key that an API server would drop in silence is an error."""
    ours = [each for each in manifests() if not each["apiVersion"].startswith("ray.io/")]
    assert len(ours) >= 14
    for document in ours:
        _validate(document)
    broken = copy.deepcopy(one("StatefulSet", "postgresql"))
    broken["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        _validate(broken)


def test_what_kuberay_adds() -> None:
    """Against the fields of its API that we use."""
    rays = [each for each in manifests() if each["apiVersion"].startswith("ray.io/")]
    assert {each["kind"] for each in rays} == {"RayCluster", "RayJob"}
    for document in rays:
        assert [error.message for error in _kuberay().iter_errors(document)] == []


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("spec",), "backofflimit", 3),
        (("spec",), "backoffLimit", "3"),
        (("spec", "rayClusterSpec"), "rayversion", "2.60.0"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams"), "num-cpus", 0),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams"), "num_cpus", "0"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0), "minreplicas", 1),
        (("metadata",), "name", "Table5b"),
    ],
)
def test_a_mistake_in_kuberay_is_found(path: tuple[str | int, ...], key: str, value: object) -> None:
    """As the operator would pass over it or refuse it."""
    document = copy.deepcopy(one("RayJob", "table5b"))
    place: Any = document
    for step in path:
        place = place[step]
    place[key] = value
    assert list(_kuberay().iter_errors(document)) != []


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_pod(name: str) -> None:
    """Each template is a pod that Kubernetes takes, and that a namespace which enforces `restricted` lets in."""
    spec = TEMPLATES[name]["spec"]
    _validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec})
    person = spec["securityContext"]
    assert person["runAsNonRoot"] is True
    assert person["runAsUser"] > 0
    assert person["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False, "no pod talks to Kubernetes"
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    assert not any("hostPath" in volume for volume in spec.get("volumes", []))
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
        assert not container["image"].endswith(":latest")
        assert ":" in container["image"]
        claimed = {"database"} if name.startswith("StatefulSet") else set()  # of volumeClaimTemplates
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes | claimed


def test_names_refer_to_what_is_there() -> None:
    """Claims, ConfigMaps and Services exist; secrets are named by references and written down nowhere."""
    claims = {each["metadata"]["name"] for each in manifests() if each["kind"] == "PersistentVolumeClaim"}
    maps = {each["metadata"]["name"] for each in manifests() if each["kind"] == "ConfigMap"}
    services = {each["metadata"]["name"] for each in manifests() if each["kind"] == "Service"}
    for template in TEMPLATES.values():
        for volume in template["spec"].get("volumes", []):
            assert volume.get("persistentVolumeClaim", {"claimName": "home"})["claimName"] in claims
            assert volume.get("configMap", {"name": "site"})["name"] in maps
        for container in template["spec"]["containers"]:
            assert {
                source["configMapRef"]["name"] for source in container.get("envFrom", []) if "configMapRef" in source
            } <= maps
            for variable in container.get("env", []):
                if re.search(r"PASSWORD|SECRET|KEY|TOKEN", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], variable["name"]
                if variable["name"] == "PGHOST":
                    assert variable["value"] in services
    assert not any(each["kind"] == "Secret" for each in manifests())
    assert one("StatefulSet", "postgresql")["spec"]["serviceName"] in services


def test_everything_lies_in_one_namespace() -> None:
    """The one that is made, and that enforces `restricted`."""
    (namespace,) = (each for each in manifests() if each["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = {each["metadata"]["namespace"] for each in manifests() if each["kind"] != "Namespace"}
    assert others == {namespace["metadata"]["name"]}


def test_kustomization() -> None:
    """It takes every file but those that start work, which a person asks for."""
    (kustomization,) = documents(KUBERNETES / "kustomization.yaml")
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files - {"raycluster.yaml", "rayjob.yaml", "prepare.yaml"}


def test_postgresql_is_reached_by_mlflow_alone() -> None:
    """Nobody reaches a pod unless a policy says so, and PostgreSQL's names MLflow's pods and its port."""
    closed = one("NetworkPolicy", "nobody")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress"]}
    selected = {each["metadata"]["name"]: each for each in manifests() if each["kind"] == "NetworkPolicy"}
    spec = selected["postgresql"]["spec"]
    assert spec["podSelector"] == {"matchLabels": TEMPLATES["StatefulSet/postgresql/template"]["metadata"]["labels"]}
    assert spec["ingress"] == [
        {
            "from": [{"podSelector": {"matchLabels": TEMPLATES["Deployment/mlflow/template"]["metadata"]["labels"]}}],
            "ports": [{"port": 5432}],
        }
    ]
    assert "Egress" in spec["policyTypes"]
    assert "egress" not in spec
    for name, template in TEMPLATES.items():
        matching = [
            policy["metadata"]["name"]
            for policy in selected.values()
            if policy["spec"]["podSelector"].get("matchLabels") == template["metadata"]["labels"]
        ]
        assert len(matching) == 1, f"{name} is let be reached by {matching}"
