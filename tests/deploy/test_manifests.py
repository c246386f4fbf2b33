"""The Kubernetes manifests and the chart's values, as far as they can be checked without helm and without a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from ladle.clients.web import Config, create_app
from ladle.serving.flag_table import FLAGS
from ladle.serving.telemetry.prometheus import METRICS
from tools import manifests

CHART = manifests.CHART
EXAMPLES = {example.stem: example for example in manifests.examples()}
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
OBJECTS = {
    name: [found for found in yaml.safe_load_all(manifests.target(example).read_text()) if found]
    for name, example in EXAMPLES.items()
}
PODS = [
    pytest.param(name, found["spec"]["template"], id=f"{name} {found['metadata']['name']}")
    for name, objects in OBJECTS.items()
    for found in objects
    if found["kind"] == "Deployment"
]


def container(pod: Any) -> Any:
    (found,) = pod["spec"]["containers"]
    return found


def merged(defaults: Any, values: Any) -> Any:
    """Values over defaults, as Helm lays them."""
    if not (isinstance(defaults, dict) and isinstance(values, dict)):
        return values
    return defaults | {name: merged(defaults.get(name), value) for name, value in values.items()}


def paths(value: Any, schema: Any, at: str = "") -> Iterator[tuple[str, bool, bool]]:
    """Each entry of values and schema: its path, whether the values have it, whether the schema has it."""
    properties = schema.get("properties", {})
    if not properties or not isinstance(value, dict):
        return
    for name in {*value, *properties}:
        yield f"{at}.{name}", name in value, name in properties
        if name in value and name in properties:
            yield from paths(value[name], properties[name], f"{at}.{name}")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_manifest_was_rendered_from_the_chart_as_it_is(name: str) -> None:
    second = manifests.target(EXAMPLES[name]).read_text().splitlines()[1]
    assert second == f"# source: sha256:{manifests.digest(EXAMPLES[name])}", "run `make manifests`"


def test_schema_and_values_have_the_same_entries() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(DEFAULTS, SCHEMA)
    wrong = [entry for entry in paths(DEFAULTS, SCHEMA) if not all(entry[1:]) and entry[0] != ".global"]
    assert not wrong


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_schema_takes_every_example(name: str) -> None:
    jsonschema.validate(merged(DEFAULTS, yaml.safe_load(EXAMPLES[name].read_text())), SCHEMA)


@pytest.mark.parametrize(("example", "pod"), PODS)
def test_a_pod_runs_without_rights_on_a_root_that_it_cannot_write(example: str, pod: Any) -> None:
    spec, asked = pod["spec"], container(pod)["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == 65532  # the user of the images
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert asked == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount["mountPath"] for mount in container(pod)["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp"]


@pytest.mark.parametrize(("example", "pod"), PODS)
def test_a_pod_may_end_what_runs(example: str, pod: Any) -> None:
    """Kubernetes' grace begins with preStop, and the server's own drain only after it."""
    runs = container(pod)
    sleep_s = runs["lifecycle"]["preStop"]["sleep"]["seconds"]
    given = [arg.partition("=")[2] for arg in runs.get("args", []) if arg.startswith("--shutdown_grace_seconds")]
    if runs["name"] == "gateway":
        text = (manifests.ROOT / "Dockerfile").read_text()
        assert "--graceful-timeout=25" in text
        given = ["25"]
    elif example == "tensorflow-serving":  # it ends at once, so preStop holds the whole drain
        assert sleep_s >= DEFAULTS["server"]["drainSeconds"]
        assert pod["spec"]["shareProcessNamespace"], "as the first process it ignores SIGTERM"
        given = ["0"]
    assert pod["spec"]["terminationGracePeriodSeconds"] >= sleep_s + int(given[0]) + 5


@pytest.mark.parametrize(("example", "pod"), [case for case in PODS if str(case.id).endswith("ladle-server")])
def test_the_server_is_started_with_flags_that_it_has(example: str, pod: Any) -> None:
    known = {flag.name for flag in FLAGS if flag.use == "yes" or example == "tensorflow-serving"}
    args = [arg.removeprefix("--").partition("=")[0] for arg in container(pod)["args"]]
    assert args
    assert set(args) <= known


@pytest.mark.parametrize(("example", "pod"), [case for case in PODS if case.id == "server ladle-server"])
def test_the_server_answers_what_the_probes_ask(example: str, pod: Any, tiny_server: Any) -> None:
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container(pod)[probe]["httpGet"]
        assert asked["port"] == "http"
        assert tiny_server.send("GET", asked["path"])[0] == 200


@pytest.mark.parametrize(("example", "pod"), [case for case in PODS if case.id == "server ladle-gateway"])
def test_the_gateway_answers_what_the_probes_ask(example: str, pod: Any) -> None:
    asked = {container(pod)[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    web = create_app(Config(server="grpc://127.0.0.1:1")).test_client()
    assert {web.get(path).status_code for path in asked} == {200}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_selector_finds_pods(name: str) -> None:
    objects = OBJECTS[name]
    pods = [found["spec"]["template"]["metadata"]["labels"] for found in objects if found["kind"] == "Deployment"]
    services = [found["metadata"]["labels"] for found in objects if found["kind"] == "Service"]
    checked = 0
    for found in objects:
        spec, kind = found.get("spec", {}), found["kind"]
        selectors = {
            "Service": spec.get("selector"),
            "PodDisruptionBudget": spec.get("selector", {}).get("matchLabels"),
            "NetworkPolicy": spec.get("podSelector", {}).get("matchLabels"),
            "ServiceMonitor": spec.get("selector", {}).get("matchLabels"),
        }
        if kind not in selectors:
            continue
        among = services if kind == "ServiceMonitor" else pods
        assert sum(selectors[kind].items() <= labels.items() for labels in among) == 1, found["metadata"]
        checked += 1
    assert checked >= 6


def test_tensorflow_serving_gets_the_monitoring_file_that_ladle_config_writes() -> None:
    (config,) = [found for found in OBJECTS["tensorflow-serving"] if found["kind"] == "ConfigMap"]
    written = (manifests.ROOT / "serving" / "config_writer" / "monitoring.config").read_text()
    lines = [line for line in written.splitlines() if not line.startswith("#")]
    assert config["data"]["monitoring.config"].splitlines() == lines


def test_the_autoscaler_asks_for_the_metric_that_the_adapter_makes_of_ours() -> None:
    adapter = yaml.safe_load((manifests.ROOT / "deploy" / "monitoring" / "prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    (scaler,) = [found for found in OBJECTS["object-store"] if found["kind"] == "HorizontalPodAutoscaler"]
    assert scaler["spec"]["metrics"][0]["pods"]["metric"]["name"] == rule["name"]["as"]
    name = rule["name"]["matches"].strip("^$")
    assert name in {metric.name for metric in METRICS.values()}
    assert f'"{name}"' in rule["seriesQuery"]


def test_the_alerts_know_the_jobs_of_the_service_monitors() -> None:
    jobs = {
        rule["replacement"]
        for found in OBJECTS["object-store"]
        if found["kind"] == "ServiceMonitor"
        for rule in found["spec"]["endpoints"][0]["relabelings"]
    }
    assert jobs == {"model_server", "gateway"}
    assert (CHART / "rules.yml").resolve() == manifests.ROOT / "deploy" / "monitoring" / "rules.yml"
    assert all(found["kind"] != "PrometheusRule" for objects in OBJECTS.values() for found in objects)


def test_every_example_has_a_kustomization() -> None:
    for example in EXAMPLES.values():
        found = yaml.safe_load((manifests.target(example).parent / "kustomization.yaml").read_text())
        assert found["resources"] == ["ladle.yaml"]
