"""One way to ask over gRPC and over REST, down to the bytes, so that a test of a behaviour is written once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from tests.stubs import grpc_stub

HTTP = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "NOT_FOUND": 404, "UNIMPLEMENTED": 501}


class Refused(Exception):  # noqa: N818
    """An error answer: `code` as gRPC names it or, over REST, the HTTP status it becomes."""

    def __init__(self, code: str | int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message

    def is_code(self, code: str) -> bool:
        return self.code in (code, HTTP.get(code, 500))


class GrpcAsker:
    protocol = "grpc"

    def __init__(self, server: Any) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        self.prediction = grpc_stub(self._channel, services.PREDICTION)
        self.model = grpc_stub(self._channel, services.MODEL)
        self.health = grpc_stub(self._channel, services.HEALTH)

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=30, wait_for_ready=True)
        except grpc.RpcError as error:
            raise Refused(error.code().name, error.details()) from None

    def _spec(self, model: str, signature: str = "", version: int | None = None, label: str | None = None) -> Any:
        spec = pb.ModelSpec(name=model, signature_name=signature)
        if version is not None:
            spec.version.value = version
        if label is not None:
            spec.version_label = label
        return spec

    def predict(self, model: str, inputs: Mapping[str, Any], signature: str = "", **which: Any) -> dict[str, Any]:
        request = pb.PredictRequest(model_spec=self._spec(model, signature, **which))
        for alias, array in inputs.items():
            tensors.fill(request.inputs[alias], np.asarray(array))
        answer = self._call(self.prediction.Predict, request)
        return {alias: tensors.to_array(proto).tolist() for alias, proto in answer.outputs.items()}

    def _examples(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        given = pb.Input()
        for row in rows:
            features = given.example_list.examples.add().features.feature
            for name, values in row.items():
                kind = {int: "int64_list", float: "float_list", bytes: "bytes_list"}[type(values[0])]
                getattr(features[name], kind).value.extend(values)
        return given

    def classify(self, model: str, rows: Sequence[Mapping[str, Any]], signature: str = "") -> list[Any]:
        request = pb.ClassificationRequest(model_spec=self._spec(model, signature), input=self._examples(rows))
        answer = self._call(self.prediction.Classify, request)
        return [[[c.label, c.score] for c in one.classes] for one in answer.result.classifications]

    def regress(self, model: str, rows: Sequence[Mapping[str, Any]], signature: str = "") -> list[float]:
        request = pb.RegressionRequest(model_spec=self._spec(model, signature), input=self._examples(rows))
        return [one.value for one in self._call(self.prediction.Regress, request).result.regressions]

    def status(self, model: str, version: int | None = None) -> dict[int, tuple[str, str, str]]:
        """State, code and message by version, in the order of the answer."""
        request = pb.GetModelStatusRequest(model_spec=self._spec(model, version=version))
        answer = self._call(self.model.GetModelStatus, request)
        return {
            v.version: (pb.State.Name(v.state), pb.ErrorCode.Name(v.status.error_code), v.status.error_message)
            for v in answer.model_version_status
        }

    def metadata(self, model: str) -> dict[str, Any]:
        """Version, and dtype, shape and tensor name of each input of each signature."""
        request = pb.GetModelMetadataRequest(model_spec=self._spec(model), metadata_field=["signature_def"])
        answer = self._call(self.prediction.GetModelMetadata, request)
        signatures = pb.SignatureDefMap()
        assert answer.metadata["signature_def"].Unpack(signatures)
        inputs = {
            name: {
                alias: (pb.DataType.Name(info.dtype), [dim.size for dim in info.tensor_shape.dim], info.name)
                for alias, info in signature.inputs.items()
            }
            for name, signature in signatures.signature_def.items()
        }
        return {"version": answer.model_spec.version.value, "inputs": inputs}


class RestAsker:
    protocol = "rest"

    def __init__(self, server: Any) -> None:
        self._server = server

    def close(self) -> None:
        pass

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self._server.send(method, path, None if body is None else json.dumps(body).encode())
        if status != 200:
            raise Refused(status, json.loads(answer)["error"] if answer else "")
        return json.loads(answer)

    def _path(self, model: str, version: int | None = None, label: str | None = None) -> str:
        path = f"/v1/models/{model}"
        if version is not None:
            path += f"/versions/{version}"
        return path if label is None else f"{path}/labels/{label}"

    def predict(self, model: str, inputs: Mapping[str, Any], signature: str = "", **which: Any) -> dict[str, Any]:
        columns = {alias: jsonable(np.asarray(array).tolist()) for alias, array in inputs.items()}
        body = {"inputs": columns, **({"signature_name": signature} if signature else {})}
        outputs = self._call("POST", f"{self._path(model, **which)}:predict", body)["outputs"]
        return dict(outputs) if isinstance(outputs, dict) else {"": outputs}

    def _examples(self, verb: str, model: str, rows: Sequence[Mapping[str, Any]], signature: str) -> Any:
        examples = [{name: jsonable(values) for name, values in row.items()} for row in rows]
        body = {"examples": examples, **({"signature_name": signature} if signature else {})}
        return self._call("POST", f"{self._path(model)}:{verb}", body)["results"]

    def classify(self, model: str, rows: Sequence[Mapping[str, Any]], signature: str = "") -> list[Any]:
        return list(self._examples("classify", model, rows, signature))

    def regress(self, model: str, rows: Sequence[Mapping[str, Any]], signature: str = "") -> list[float]:
        return list(self._examples("regress", model, rows, signature))

    def status(self, model: str, version: int | None = None) -> dict[int, tuple[str, str, str]]:
        answer = self._call("GET", self._path(model, version))
        return {
            int(v["version"]): (v["state"], v["status"]["error_code"], v["status"]["error_message"])
            for v in answer["model_version_status"]
        }

    def metadata(self, model: str) -> dict[str, Any]:
        answer = self._call("GET", f"{self._path(model)}/metadata")
        inputs = {
            name: {
                alias: (info["dtype"], [int(dim["size"]) for dim in info["tensor_shape"]["dim"]], info["name"])
                for alias, info in signature["inputs"].items()
            }
            for name, signature in answer["metadata"]["signature_def"]["signature_def"].items()
        }
        return {"version": int(answer["model_spec"]["version"]), "inputs": inputs}


def jsonable(value: Any) -> Any:
    if isinstance(value, list):
        return [jsonable(element) for element in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


ASKERS = {"grpc": GrpcAsker, "rest": RestAsker}
Asker = GrpcAsker | RestAsker


@pytest.fixture(params=["grpc", "rest"])
def ask(request: pytest.FixtureRequest, tiny_server: Any) -> Iterator[Asker]:
    """Asks the server of the tiny repository, over gRPC and over REST in turn."""
    asker = ASKERS[request.param](tiny_server)
    yield asker
    asker.close()


@pytest.fixture
def grpc_to(request: pytest.FixtureRequest) -> Any:
    """An asker over gRPC of any server."""

    def make(server: Any) -> GrpcAsker:
        asker = GrpcAsker(server)
        request.addfinalizer(asker.close)
        return asker

    return make


@pytest.fixture
def refused() -> type[Refused]:
    return Refused


@pytest.fixture
def one() -> Any:
    """float32 [1, 1]: a row for half_plus_two."""
    return np.ones((1, 1), np.float32)
