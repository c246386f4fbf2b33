"""KServe: the server started as the runtime says answers its four protocols, readiness and metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ladle import Client
from tests.conftest import ROOT

KSERVE = ROOT / "deploy" / "kserve"


@pytest.fixture(scope="module")
def runtime() -> Any:
    """The runtime's only container."""
    (container,) = yaml.safe_load((KSERVE / "servingruntime.yaml").read_text())["spec"]["containers"]
    return container


@pytest.fixture(scope="module")
def model(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/mnt/models: the folder above the versions, by way of a link, as KServe mounts images of models."""
    home = tmp_path_factory.mktemp("mnt")
    tiny.half_plus(2).write(home / "image" / "half_plus_two", 1)
    (home / "models").symlink_to(home / "image" / "half_plus_two")
    return home / "models"


@pytest.fixture(scope="module")
def server(runtime: Any, model: Path, serve: Any) -> Any:
    """A server with the runtime's arguments, its placeholder, folder and ports replaced as KServe and the tests do."""
    given = [arg.replace("{{.Name}}", "half-plus-two").replace("/mnt/models", str(model)) for arg in runtime["args"]]
    ports = [arg for arg in given if arg.startswith(("--port=", "--rest_api_port="))]
    assert ports == ["--port=9000", "--rest_api_port=8080"]
    assert runtime["command"] == ["python", "-m", "ladle.serving"]
    return serve(*(arg for arg in given if arg not in ports), models=["half-plus-two"])


def test_the_runtimes_server_answers_v1_v2_and_tensorflow_servings_grpc(server: Any) -> None:
    status, body = server.send("POST", "/v1/models/half-plus-two:predict", b'{"instances": [[1.0]]}')
    assert (status, json.loads(body)) == (200, {"predictions": [[2.5]]})
    wanted = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
    status, body = server.send("POST", "/v2/models/half-plus-two/infer", json.dumps(wanted).encode())
    assert (status, json.loads(body)["outputs"][0]["data"]) == (200, [2.5])
    with Client(f"grpc://127.0.0.1:{server.grpc_port}") as client:
        assert client.predict("half-plus-two", {"x": [[1.0]]})["y"].tolist() == [[2.5]]


def test_the_runtimes_server_is_ready_and_has_metrics_where_kserve_looks(server: Any, runtime: Any) -> None:
    spec = yaml.safe_load((KSERVE / "servingruntime.yaml").read_text())["spec"]
    assert server.send("GET", runtime["readinessProbe"]["httpGet"]["path"])[0] == 200
    assert spec["annotations"]["prometheus.kserve.io/port"] == "8080"
    status, body = server.get(spec["annotations"]["prometheus.kserve.io/path"])
    assert status == 200
    assert b":ladle:serving:loaded_version" in body


def test_services_name_a_format_and_a_protocol_of_the_runtime() -> None:
    runtime = yaml.safe_load((KSERVE / "servingruntime.yaml").read_text())
    assert runtime["spec"]["protocolVersions"] == ["v1", "v2", "grpc-v1", "grpc-v2"]
    formats = {found["name"] for found in runtime["spec"]["supportedModelFormats"]}
    for file in KSERVE.glob("inferenceservice*.yaml"):
        asked = yaml.safe_load(file.read_text())["spec"]["predictor"]["model"]
        assert asked["runtime"] == runtime["metadata"]["name"]
        assert asked["modelFormat"]["name"] in formats
        assert asked["protocolVersion"] in runtime["spec"]["protocolVersions"]
        assert {port["name"] for port in asked.get("ports", [])} <= {"h2c"}
