"""Ray Serve's application without Ray: which model a request names, which services, what settings are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ladle import serve_command
from ladle.clients.wire import messages as pb
from ladle.clients.wire import services
from ladle.serving.errors import InvalidArgument
from ladle.serving.ray_serve import application
from ladle.serving.ray_serve.replica import Replica
from ladle.serving.ray_serve.router import Router, model_of
from ladle.serving.ray_serve.services import FUNCTIONS, UNARY
from tests.conftest import ROOT

SPEC = {"name": "m", "version": {"value": 3}}
BIG = {"dtype": 1, "tensor_content": b"x" * 100}


@pytest.mark.parametrize(
    ("service", "method", "request_", "expected"),
    [
        (services.PREDICTION, "Predict", pb.PredictRequest(model_spec=SPEC, inputs={"x": BIG}), ("m", 3)),
        (services.PREDICTION, "Classify", pb.ClassificationRequest(model_spec=SPEC), ("m", 3)),
        (services.PREDICTION, "MultiInference", pb.MultiInferenceRequest(tasks=[{"model_spec": SPEC}]), ("m", 3)),
        (services.PREDICTION, "GetModelMetadata", pb.GetModelMetadataRequest(model_spec=SPEC), ("m", 3)),
        (services.MODEL, "GetModelStatus", pb.GetModelStatusRequest(model_spec=SPEC), ("m", 3)),
        (services.MODEL, "GetModelStatus", pb.GetModelStatusRequest(), ("", 0)),
        (services.INFERENCE, "ModelInfer", pb.ModelInferRequest(model_name="m", model_version="3"), ("m", 3)),
        (services.INFERENCE, "ModelMetadata", pb.ModelMetadataRequest(name="m"), ("m", 0)),
        (services.INFERENCE, "ServerReady", pb.ServerReadyRequest(), ("", 0)),
        (services.HEALTH, "Check", pb.HealthCheckRequest(), ("", 0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_router_reads_which_model_a_message_names(
    service: str, method: str, request_: Any, expected: tuple[str, int]
) -> None:
    assert model_of(service, method, request_.SerializeToString()) == expected


def test_rays_proxies_can_tell_every_method_by_its_name() -> None:
    names = [name for names in UNARY.values() for name in names]
    assert len(names) == len(set(names))
    assert {"Predict", "GetModelStatus", "ModelInfer", "Check"} <= set(names)
    assert not {"Watch", "ModelStreamInfer"} & set(names)
    assert all(hasattr(Router, name) for name in names)


def test_the_file_for_serve_deploy_names_the_functions_and_settings_that_there_are(tmp_path: Path) -> None:
    told = yaml.safe_load((ROOT / "deploy" / "ray" / "serve.yaml").read_text())
    assert told["grpc_options"]["grpc_servicer_functions"] == FUNCTIONS
    (app,) = told["applications"]
    assert app["import_path"] == f"{application.__name__}:{application.build.__name__}"
    (tmp_path / "model" / "1").mkdir(parents=True)
    application.check(application.Settings(**(app["args"] | {"repository": str(tmp_path)})))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"repository": "/nowhere"}, "got repository /nowhere"),
        ({"min_replicas": 3, "max_replicas": 2}, "got 3 to 2 replicas"),
        ({"target_requests": 0}, "got target_requests 0"),
        ({}, "holds no model"),
    ],
    ids=str,
)
def test_settings_that_fit_nothing_are_refused(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=said):
        application.check(application.Settings(**({"repository": str(tmp_path)} | settings)))


def test_unknown_settings_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidArgument, match="got replicas; expected some of cpus, flags"):
        application.build({"repository": "/models", "replicas": 2})


def test_ladle_serve_on_ray_refuses_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve_command.main(["--on", "ray", str(tmp_path)]) == 1
    assert "holds no model" in capsys.readouterr().err


async def ask(replica: Replica) -> list[Any]:
    await replica.start()
    body = b'{"instances": [[1.0]]}'
    answered = await replica.rest("POST", b"/v1/models/half_plus_two:predict", {}, body)
    refused = await replica.rest("POST", b"/v1/models/half_plus_two:predict", {}, b'{"instances": [["a"]]}')
    missing = pb.GetModelStatusRequest(model_spec={"name": "nope"}).SerializeToString()
    unknown = await replica.grpc(services.MODEL, "GetModelStatus", missing)
    replica.stop()
    return [answered, refused.status, unknown]


def test_a_replica_answers_without_ports(tiny_repository: Path) -> None:
    import asyncio

    folder = tiny_repository / "half_plus_two"
    replica = Replica(["--model_name=half_plus_two", f"--model_base_path={folder}"])
    answered, refused, unknown = asyncio.run(ask(replica))
    assert (answered.status, answered.headers["content-type"]) == (200, "application/json")
    assert b"2.5" in answered.body
    assert refused == 400
    assert (unknown.status, unknown.body) == ("NOT_FOUND", b"Could not find any versions of model nope")
