"""The Kubernetes Job for several hosts: its pods' environment makes them one cluster, and its command trains."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ladle.training.loop import hosts

ROOT = Path(__file__).resolve().parents[3]
MANIFEST = ROOT / "deploy" / "kubernetes" / "training" / "ladle.yaml"


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """The manifest's objects by kind."""
    return {found["kind"]: found for found in yaml.safe_load_all(MANIFEST.read_text())}


def environment(job: Any, index: int) -> dict[str, str]:
    """What Kubernetes sets in the pod of an index: `$(NAME)` stands for a variable above."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    found: dict[str, str] = {}
    for variable in container["env"]:
        if "valueFrom" in variable:
            path = variable["valueFrom"]["fieldRef"]["fieldPath"]
            assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
            found[variable["name"]] = str(index)
            continue
        value = variable["value"]
        for name, known in found.items():
            value = value.replace(f"$({name})", known)
        found[variable["name"]] = value
    return found


def test_each_pod_is_a_worker_of_one_cluster_and_pod_0_the_chief(
    objects: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, service = objects["Job"], objects["Service"]["metadata"]["name"]
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["parallelism"] == spec["completions"]
    assert spec["template"]["spec"]["subdomain"] == service
    for index in range(spec["completions"]):
        text = environment(job, index)["TF_CONFIG"]
        monkeypatch.setenv("TF_CONFIG", text)
        assert (hosts.count(), hosts.chief()) == (spec["completions"], index == 0)
        told = json.loads(text)
        mine = told["cluster"]["worker"][told["task"]["index"]]
        assert mine == f"{job['metadata']['name']}-{index}.{service}:5000"


def test_the_service_finds_the_pods_before_they_are_ready(objects: dict[str, Any]) -> None:
    service = objects["Service"]["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"]
    assert service["selector"].items() <= objects["Job"]["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.slow
def test_two_processes_with_the_jobs_environment_train_and_the_chief_exports(
    objects: dict[str, Any], tmp_path: Path
) -> None:
    job = objects["Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    here = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    small = ["--preset", "none", "--filters", "2,4", "--units", "16,12", "--synthetic", "--epochs", "1"]
    small += ["--train-limit", "64", "--batch-size", "32", "--no-report"]
    children = []
    for index in range(2):
        told = environment(job, index)
        for i, address in enumerate(here):
            told["TF_CONFIG"] = told["TF_CONFIG"].replace(f"ladle-train-{i}.ladle-train:5000", address)
        folders = {"/models": str(tmp_path / "models"), "/scratch/runs": str(tmp_path / "runs")}
        arguments = [folders.get(argument, argument) for argument in container["args"]]
        command = [sys.executable, "-m", "ladle", *arguments, *small]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        children.append(subprocess.Popen(command, env={**os.environ, **told}, cwd=ROOT, **pipes))
    try:
        said = [child.communicate(timeout=280) for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], said
    assert [path.name for path in (tmp_path / "models" / "lenet5").iterdir() if path.name.isdigit()] == ["1"]
    card = json.loads((tmp_path / "models" / "lenet5" / "1" / "assets.extra" / "card.json").read_text())
    assert card["machine"].startswith("2 hosts, each ")
