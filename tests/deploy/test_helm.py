"""The Helm chart, rendered by helm: every combination of the values that matter, and what is refused.

There is no cluster here: objects are checked against Kubernetes' schemas, where an unknown field is an error.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import manifests

pytestmark = pytest.mark.deploy

VALIDATE = """
import json, sys
import kubernetes_validate
version, *files = sys.argv[1:]
wrong, unknown, count = [], set(), 0
for file in files:
    for found in json.load(open(file)):
        count += 1
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            wrong.append([file, found["kind"], found["metadata"]["name"], str(error)])
        except kubernetes_validate.SchemaNotFoundError:
            unknown.add(found["kind"])
print(json.dumps([count, wrong, sorted(unknown)]))
"""
VERSIONS = ("1.30", "1.37")
"""The oldest Kubernetes that the chart takes, and the newest with a schema here."""
STORE = {"models": {"source": "objectStore", "objectStore": {"url": "s3://bucket/models"}}}
DOWNLOAD = {"models": {"source": "objectStore", "objectStore": {"url": "s3://bucket/models", "download": True}}}
CHOICES: list[dict[str, Any]] = [
    {
        "embedded": {},
        "tensorflow-serving": {"server": {"kind": "tensorflow-serving"}},
        "own config": {"server": {"modelConfig": "model_config_list {\n}\n", "extraArgs": ["--enable_batching"]}},
        "on CPUs": {"server": {"kind": "tensorflow-serving", "gpus": 0, "modelConfig": "model_config_list {}"}},
    },
    {
        "pvc": {},
        "claim": {"models": {"source": "existingClaim", "existingClaim": "models", "subPath": "ladle"}},
        "host": {"models": {"source": "hostPath", "hostPath": "/srv/models"}},
        "store": STORE,
        "download": DOWNLOAD,
    },
    {
        "gateway": {},
        "bare": {
            "gateway": {"enabled": False},
            "networkPolicy": {"enabled": False},
            "podDisruptionBudget": {"enabled": False},
        },
        "guarded": {
            "gateway": {"keysSecret": "keys"},
            "networkPolicy": {"monitoringNamespace": "", "gatewayFrom": [{"podSelector": {}}]},
        },
    },
    {
        "fixed": {},
        "cpu": {"autoscaling": {"enabled": True}},
        "queue": {"autoscaling": {"enabled": True, "queueDepth": 20}},
    },
    {
        "plain": {},
        "all options": {
            "networkPolicy": {"egress": [{"ports": [{"port": 8333}]}], "serverFrom": [{"podSelector": {}}]},
            "monitoring": {"serviceMonitor": True, "rules": True, "labels": {"release": "prometheus"}},
            "imagePullSecrets": ["registry"],
            "topologySpread": [],
            "serviceAccount": {"create": False},
            "service": {"headless": False, "type": "LoadBalancer", "annotations": {"a": "b"}},
            "server": {
                "podLabels": {"team": "vision"},
                "podAnnotations": {"a": "b"},
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"operator": "Exists"}],
                "priorityClassName": "high",
                "env": [{"name": "A", "value": "b"}],
                "envFrom": [{"secretRef": {"name": "store"}}],
            },
            "gateway": {"replicas": 2, "env": [{"name": "A", "value": "b"}], "tolerations": [{"operator": "Exists"}]},
        },
    },
]
REFUSED_TOGETHER = {
    "reads no object store": lambda names: names[0] in ("tensorflow-serving", "on CPUs") and names[1] == "store",
    "both name the models": lambda names: names[0] == "own config" and names[1] == "store",
    "no metric of its queue": lambda names: (
        names[0] in ("tensorflow-serving", "on CPUs") and names[3] in ("queue", "both")
    ),
}
"""What the chart says of values that contradict each other, and which combinations do."""


@pytest.fixture(scope="module")
def tools() -> manifests.Tools:
    return manifests.install()


def merged(*values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in values:
        for name, value in each.items():
            both = isinstance(value, dict) and isinstance(found.get(name), dict)
            found[name] = merged(found[name], value) if both else value
    return found


def render(tools: manifests.Tools, values: Mapping[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "values.yaml"
    folder.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(dict(values)))
    command = [tools.helm, "template", "ladle", manifests.CHART, "--values", file]
    return subprocess.run([*map(str, command)], capture_output=True, text=True)


def check(tools: manifests.Tools, files: list[Path]) -> tuple[int, set[str]]:
    """How many objects fit Kubernetes' schemas, and the kinds that have none there."""
    count, unknown = 0, set()
    for version in VERSIONS:
        command = [tools.python, "-c", VALIDATE, version, *files]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        count, wrong, kinds = json.loads(done.stdout)
        assert not wrong, wrong[:5]
        unknown |= set(kinds)
    return count, unknown


@pytest.mark.parametrize("example", manifests.examples(), ids=lambda path: path.stem)
def test_helm_lint_finds_nothing(tools: manifests.Tools, example: Path) -> None:
    done = subprocess.run(
        [tools.helm, "lint", "--strict", manifests.CHART, "--values", example], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", manifests.examples(), ids=lambda path: path.stem)
def test_the_committed_manifests_are_what_the_chart_makes(tools: manifests.Tools, example: Path) -> None:
    assert manifests.target(example).read_text() == manifests.manifest(tools, example), "run `make manifests`"


@pytest.mark.parametrize("folder", sorted(manifests.MANIFESTS.iterdir()), ids=lambda path: path.name)
def test_kubectl_kustomize_takes_the_committed_manifests(tools: manifests.Tools, folder: Path, tmp_path: Path) -> None:
    done = subprocess.run([tools.kubectl, "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    objects = [found for found in yaml.safe_load_all(done.stdout) if found]
    (tmp_path / "objects.json").write_text(json.dumps(objects))
    count, _ = check(tools, [tmp_path / "objects.json"])
    assert count == len(objects) >= 3


def test_every_combination_renders_what_kubernetes_takes_or_says_why_not(
    tools: manifests.Tools, tmp_path: Path
) -> None:
    def one(numbered: tuple[int, tuple[tuple[str, Any], ...]]) -> Path | None:
        number, chosen = numbered
        names = [name for name, _ in chosen]
        done = render(tools, merged(*(values for _, values in chosen)), tmp_path / str(number))
        reasons = [reason for reason, applies in REFUSED_TOGETHER.items() if applies(names)]
        if reasons:
            assert done.returncode != 0, names
            assert any(reason in done.stderr for reason in reasons), (names, done.stderr)
            return None
        assert done.returncode == 0, (names, done.stderr)
        objects = [found for found in yaml.safe_load_all(done.stdout) if found]
        (tmp_path / str(number) / "objects.json").write_text(json.dumps(objects))
        return tmp_path / str(number) / "objects.json"

    combinations = list(enumerate(itertools.product(*(choice.items() for choice in CHOICES))))
    with ThreadPoolExecutor(4) as pool:
        files = [file for file in pool.map(one, combinations) if file is not None]
    assert len(files) == 258, "docs/kubernetes.md names the number"
    count, unknown = check(tools, files)
    assert count > 2000
    assert unknown == {"PrometheusRule", "ServiceMonitor"}  # of the Prometheus operator; no package has their schemas


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"server": {"kind": "triton"}}, "/server/kind"),
        ({"server": {"replica": 3}}, "replica"),
        ({"server": {"workers": 0}}, "/server/workers"),
        ({"server": {"workers": "4"}}, "/server/workers"),
        ({"server": {"kind": "tensorflow-serving", "workers": 2}}, "/server/workers"),
        ({"server": {"preStopSeconds": 0}}, "/server/preStopSeconds"),
        ({"server": {"extraArgs": ["enable_batching"]}}, "/server/extraArgs/0"),
        ({"server": {"extraArgs": ["--port=9000"]}}, "/server/extraArgs/0"),
        ({"server": {"extraArgs": ["--shutdown_grace_seconds=90"]}}, "/server/extraArgs/0"),
        ({"server": {"resources": {"requests": {"cpu": 1}}}}, "/server/resources/requests/cpu"),
        ({"server": {"tmpSize": "1GB"}}, "/server/tmpSize"),
        ({"models": {"source": "git"}}, "/models/source"),
        ({"models": {"source": "existingClaim"}}, "/models/existingClaim"),
        ({"models": {"source": "hostPath"}}, "/models/hostPath"),
        ({"models": {"source": "hostPath", "hostPath": "models"}}, "/models/hostPath"),
        ({"models": {"source": "objectStore"}}, "/models/objectStore/url"),
        ({"models": {"source": "objectStore", "objectStore": {"url": "hdfs://a/b"}}}, "/models/objectStore/url"),
        ({"models": {"objectStore": {"url": "https://user:secret@host/b"}}}, "/models/objectStore/url"),
        ({"models": {"subPath": "/absolute"}}, "/models/subPath"),
        ({"models": {"pvc": {"accessModes": ["Shared"]}}}, "/models/pvc/accessModes/0"),
        ({"gateway": {"keysSecret": "Not_A_Name"}}, "/gateway/keysSecret"),
        ({"service": {"type": "ExternalName"}}, "/service/type"),
        ({"podDisruptionBudget": {"maxUnavailable": "half"}}, "/podDisruptionBudget/maxUnavailable"),
        ({"autoscaling": {"queueMetric": ":ladle:serving:queue_depth"}}, "/autoscaling/queueMetric"),
        ({"autoscaling": {"minReplicas": 0}}, "/autoscaling/minReplicas"),
        ({"topologySpread": [{"topologyKey": "zone"}]}, "/topologySpread/0"),
        ({"monitoring": {"interval": "often"}}, "/monitoring/interval"),
        ({"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}, "minReplicas=5 above"),
        ({"autoscaling": {"enabled": True, "cpuUtilization": 0}}, "needs autoscaling.cpuUtilization or"),
        ({"autoscaling": {"enabled": True}, "server": {"resources": {"requests": None}}}, "which is missing"),
    ],
    ids=str,
)
def test_wrong_values_are_refused(tools: manifests.Tools, tmp_path: Path, values: Mapping[str, Any], said: str) -> None:
    done = render(tools, values, tmp_path / "wrong")
    assert done.returncode != 0
    assert said in done.stderr


def test_a_server_on_an_object_store_gets_its_address_and_its_secret(tools: manifests.Tools, tmp_path: Path) -> None:
    secret = [{"secretRef": {"name": "store"}}]
    done = render(tools, merged(STORE, {"server": {"envFrom": secret}}), tmp_path / "store")
    (server,) = [
        found["spec"]["template"]["spec"]
        for found in yaml.safe_load_all(done.stdout)
        if found["kind"] == "Deployment" and found["metadata"]["name"] == "ladle-server"
    ]
    (container,) = server["containers"]
    assert {"--repository=s3://bucket/models", "--cache_dir=/tmp/models"} <= set(container["args"])
    assert container["envFrom"] == secret
    assert [volume["name"] for volume in server["volumes"]] == ["tmp"]
    assert server["volumes"][0]["emptyDir"] == {"sizeLimit": "20Gi"}


def test_a_download_ends_before_the_server_starts(tools: manifests.Tools, tmp_path: Path) -> None:
    secret = [{"secretRef": {"name": "store"}}]
    done = render(tools, merged(DOWNLOAD, {"server": {"envFrom": secret}}), tmp_path / "download")
    (server,) = [
        found["spec"]["template"]["spec"]
        for found in yaml.safe_load_all(done.stdout)
        if found["kind"] == "Deployment" and found["metadata"]["name"] == "ladle-server"
    ]
    (download,) = server["initContainers"]
    assert {"name": "MODELS_URL", "value": "s3://bucket/models"} in download["env"]
    assert download["envFrom"] == secret
    assert "--repository=/models" in server["containers"][0]["args"]
    assert {"name": "models", "mountPath": "/models"} in download["volumeMounts"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in server["containers"][0]["volumeMounts"]
