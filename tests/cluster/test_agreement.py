"""What is said in several places is the same: in lock, images, compose, manifests, harness and docs."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from declared import DOCKER, ROOT, documents, locked, manifests, one, pod_templates, stages

from harness.launch.notice import PATIENCE_SECONDS

TEMPLATES = pod_templates()
SITE: dict[str, str] = one("ConfigMap", "site")["data"]
RAY_CLUSTERS: list[dict[str, Any]] = [
    one("RayCluster", "byol")["spec"],
    one("RayJob", "table5b")["spec"]["rayClusterSpec"],
]
GUIDES = ("docker.md", "kubernetes.md", "mlflow-server.md")


def _container(name: str) -> dict[str, Any]:
    container: dict[str, Any] = TEMPLATES[name]["spec"]["containers"][0]
    return container


def _images() -> set[str]:
    """Of the manifests and of compose."""
    (compose,) = documents(DOCKER / "compose.yaml")
    used = {container["image"] for each in TEMPLATES.values() for container in each["spec"]["containers"]}
    return used | {service["image"] for service in compose["services"].values()}


def test_job_and_cluster_are_one_cluster() -> None:
    """Written twice because neither kind can name the other's."""
    assert RAY_CLUSTERS[0] == RAY_CLUSTERS[1]


def test_ray_is_the_locked_one() -> None:
    """The operator goes by it, and nodes of two versions do not talk to each other."""
    assert RAY_CLUSTERS[0]["rayVersion"] == locked("ray")


def test_images_are_those_that_the_docs_build() -> None:
    """With the project's version, and of PostgreSQL one and the same everywhere."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    built = set(re.findall(r"--target (\w+) --tag (\S+)", (ROOT / "docs" / "docker.md").read_text()))
    assert {target for target, _ in built} == {"cpu", "cuda", "mlflow"}
    assert built == {
        (target, f"registry.example/byol-{name}")
        for target, name in {
            "cpu": f"harness:{version}-cpu",
            "cuda": f"harness:{version}-cuda",
            "mlflow": f"mlflow:{version}",
        }.items()
    }
    ours = {image for image in _images() if image.startswith("registry.example/")}
    assert ours == {image for _, image in built}
    assert len(_images() - ours) == 1


def test_gpus_are_seen_where_they_are_asked_for() -> None:
    """A pod without GPUs has the image that hides them, as NVIDIA's runtime may show every pod all of its node."""
    for name, template in TEMPLATES.items():
        for container in template["spec"]["containers"]:
            if "byol-harness" in container["image"]:
                wants = "nvidia.com/gpu" in container["resources"]["limits"]
                assert container["image"].endswith("-cuda" if wants else "-cpu"), name


def test_the_server_is_started_alike() -> None:
    """By compose and by Kubernetes, on the port that its service, its probes and the site name."""
    (compose,) = documents(DOCKER / "compose.yaml")
    mlflow = _container("Deployment/mlflow/template")
    assert mlflow["args"] == compose["services"]["mlflow"]["command"]
    port = mlflow["ports"][0]["containerPort"]
    assert f"--port={port}" in mlflow["args"]
    assert one("Service", "mlflow")["spec"]["ports"][0]["port"] == port
    assert SITE["MLFLOW_TRACKING_URI"] == f"http://mlflow:{port}"
    assert one("NetworkPolicy", "mlflow")["spec"]["ingress"][0]["ports"] == [{"port": port}]
    environment = {variable["name"]: variable.get("value", "") for variable in mlflow["env"]}
    assert f"mlflow:{port}" in environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(","), "as the harness asks for it"
    assert environment.keys() == compose["services"]["mlflow"]["environment"].keys()
    (script,) = one("ConfigMap", "accounts-database")["data"].values()
    assert script == compose["configs"]["accounts_database"]["content"]
    database = script.removeprefix("CREATE DATABASE ").removesuffix(";")
    assert f"database_uri = postgresql+psycopg2:///{database}\n" in (DOCKER / "accounts.ini").read_text()


def test_uid() -> None:
    """The image's is that of the pods which use it, and of whoever may write their volumes."""
    (user,) = (rest for word, rest in stages()["runtime"] if word == "USER")
    for template in TEMPLATES.values():
        if any("registry.example" in container["image"] for container in template["spec"]["containers"]):
            person = template["spec"]["securityContext"]
            assert f"{person['runAsUser']}:{person['runAsGroup']}" == user
            assert person.get("fsGroup", person["runAsGroup"]) == person["runAsGroup"]


def test_the_site_is_one_that_the_harness_knows() -> None:
    """Each HARNESS_ variable is read by the harness, and each folder is mounted where it says."""
    code = "".join(path.read_text() for path in (ROOT / "harness").rglob("*.py"))
    for name in SITE:
        assert not name.startswith("HARNESS_") or f'"{name}"' in code, f"nothing reads {name}"
    for part in ("head", "gpu"):
        mounts = {mount["mountPath"] for mount in _container(f"RayJob/table5b/{part}")["volumeMounts"]}
        assert {SITE["HARNESS_HOME"], SITE["HARNESS_DATA"], "/dev/shm"} <= mounts
    assert SITE["HARNESS_SCRATCH"] in mounts, "where runs are"
    image = dict(re.findall(r"(\w+)=(\S+)", dict(stages()["runtime"])["ENV"]))
    assert (image["HARNESS_HOME"], image["HARNESS_DATA"]) == (SITE["HARNESS_HOME"], SITE["HARNESS_DATA"])
    built = f"{image['HARNESS_ROOT']}/tables/built"
    kept = [mount for mount in _container("RayJob/table5b/head")["volumeMounts"] if mount["mountPath"] == built]
    assert [mount["name"] for mount in kept] == ["home"], "tables outlive the pod"


def test_a_run_fits_on_a_node() -> None:
    """A worker pod holds a run of HARNESS_WORKERS GPUs with HARNESS_THREADS cores each; the head takes none."""
    limits = _container("RayJob/table5b/gpu")["resources"]["limits"]
    gpus = int(limits["nvidia.com/gpu"])
    assert gpus >= int(SITE["HARNESS_WORKERS"])
    assert int(limits["cpu"]) >= gpus * int(SITE["HARNESS_THREADS"])
    head = RAY_CLUSTERS[0]["headGroupSpec"]
    assert (head["rayStartParams"]["num-cpus"], head["rayStartParams"]["num-gpus"]) == ("0", "0")
    assert "nvidia.com/gpu" not in _container("RayJob/table5b/head")["resources"]["limits"]
    for volume in TEMPLATES["RayJob/table5b/gpu"]["spec"]["volumes"]:
        if volume["name"] == "shm":
            assert volume["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize("part", ["head", "gpu"])
def test_a_pod_that_must_go_may_save_first(part: str) -> None:
    """What the harness takes at most to save lies within what Ray gives a job, and that within the pod's own time."""
    grace = TEMPLATES[f"RayJob/table5b/{part}"]["spec"]["terminationGracePeriodSeconds"]
    job = int(SITE["RAY_JOB_STOP_WAIT_TIME_S"])
    assert PATIENCE_SECONDS < job < grace
    command = _container("RayJob/table5b/gpu")["lifecycle"]["preStop"]["exec"]["command"]
    assert PATIENCE_SECONDS < int(command[1]) < grace, "runs go on until the sweep has had them save"


def test_a_head_that_must_go_ends_its_jobs() -> None:
    """By a program that is in the image, at the dashboard that is there."""
    _, program, address = _container("RayJob/table5b/head")["lifecycle"]["preStop"]["exec"]["command"]
    copied = {rest for word, rest in stages()["build"] if word == "COPY"}
    inside = program.removeprefix("/opt/harness/")
    assert f"{inside} {inside}" in copied
    assert (ROOT / inside).exists()
    ports = {port["name"]: port["containerPort"] for port in _container("RayJob/table5b/head")["ports"]}
    assert address == f"http://127.0.0.1:{ports['dashboard']}"


def test_a_job_that_fails_is_given_again() -> None:
    """On a new Ray, which goes with it; and its entry point is a command of ours."""
    job = one("RayJob", "table5b")["spec"]
    assert job["backoffLimit"] > 0
    assert job["shutdownAfterJobFinishes"] is True
    assert job["entrypoint"].startswith("harness run ")


@pytest.mark.parametrize("guide", GUIDES)
def test_what_the_docs_name_is_there(guide: str) -> None:
    """Files of cluster/, and secrets with the keys that the manifests ask for."""
    text = (ROOT / "docs" / guide).read_text()
    for path in re.findall(r"cluster/(?:docker|kubernetes)[\w./-]*", text):
        assert (ROOT / path.rstrip(".")).exists(), path
    if guide == "kubernetes.md":
        asked = {
            (variable["valueFrom"]["secretKeyRef"]["name"], variable["valueFrom"]["secretKeyRef"]["key"])
            for template in TEMPLATES.values()
            for container in template["spec"]["containers"]
            for variable in container.get("env", [])
            if "valueFrom" in variable
        }
        for name, key in asked:
            assert re.search(rf"create secret generic {name}\b[^`]*--from-literal={key}=", text), (name, key)
        assert {each["metadata"]["namespace"] for each in manifests() if each["kind"] != "Namespace"} == {"byol"}
