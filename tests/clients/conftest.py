"""A small model server over gRPC and REST, with the models of `answering_models`."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
import numpy as np
import pytest
from google.protobuf import json_format

from ladle.clients.library.client import Client
from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from tests.clients.answering_models import MODELS, Arrays, signature_map

HTTP = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503}


class Refusal(Exception):  # noqa: N818
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Server:
    """Both ports of the running server, and what it saw.

    faults   raised first, one for each prediction
    listing  names of the models that it lists; None: it cannot list any, like TensorFlow Serving
    """

    grpc: str = ""
    rest: str = ""
    predictions: int = 0
    connections: int = 0
    hang_up: bool = False
    faults: list[Refusal] = field(default_factory=list)
    listing: list[str] | None = None
    release: threading.Event = field(default_factory=threading.Event)

    def refuse(self, code: str, message: str, times: int) -> None:
        self.faults = [Refusal(code, message) for _ in range(times)]

    def resolve(self, name: str, version: int, label: str) -> int:
        if name not in MODELS:
            raise Refusal("NOT_FOUND", f"Servable not found for request: Latest({name})")
        if label and label != "stable":
            raise Refusal("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
        if version not in (0, 3):
            raise Refusal("NOT_FOUND", f"Servable not found for request: Specific({name}, {version})")
        return 3

    def predict(self, name: str, key: str, version: int, label: str, inputs: Arrays) -> Arrays:
        self.predictions += 1
        if self.faults:
            raise self.faults.pop(0)
        if name == "slow":
            self.release.wait(60)
        self.resolve(name, version, label)
        if key not in MODELS[name]:
            raise Refusal("FAILED_PRECONDITION", f'Serving signature key "{key}" not found.')
        return MODELS[name][key].run(**inputs)


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    model_server: Server

    def setup(self) -> None:
        super().setup()
        self.model_server.connections += 1

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.reply(self.answer_get)

    def do_POST(self) -> None:
        self.reply(self.answer_post)

    def reply(self, function: Callable[[], Any]) -> None:
        if self.path == "/v2/repository/index" and self.model_server.listing is not None:
            self.rfile.read(int(self.headers["Content-Length"]))
            rows = [{"name": name, "version": "3", "state": "AVAILABLE"} for name in self.model_server.listing]
            function = lambda: rows  # noqa: E731
        elif not self.path.startswith("/v1/"):
            self.send_error(404)
            return
        try:
            status, answer = 200, function()
        except Refusal as refusal:
            status, answer = HTTP[refusal.code], {"error": str(refusal)}
        body = json.dumps(answer, ensure_ascii=False).encode("utf-8", "surrogateescape")
        # Read before the answer leaves: from then on the test may set it for its next request.
        self.close_connection |= self.model_server.hang_up
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that waited no longer
            self.wfile.write(body)

    def parts(self) -> tuple[str, int, str, str]:
        path, _, verb = self.path.removeprefix("/v1/models/").partition(":")
        name, *rest = path.split("/")
        version = int(rest[1]) if rest[:1] == ["versions"] else 0
        label = unquote(rest[1]) if rest[:1] == ["labels"] else ""
        return unquote(name), version, label, verb or ("metadata" if rest[-1:] == ["metadata"] else "")

    def answer_get(self) -> Any:
        name, version, label, what = self.parts()
        self.model_server.resolve(name, version, label)
        if what == "metadata":
            signatures = json_format.MessageToDict(
                signature_map(name), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            return {"model_spec": {"name": name, "version": "3"}, "metadata": {"signature_def": signatures}}
        status = {"error_code": "OK", "error_message": ""}
        return {"model_version_status": [{"version": "3", "state": "AVAILABLE", "status": status}]}

    def answer_post(self) -> Any:
        name, version, label, _ = self.parts()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = body["signature_name"]
        function = MODELS.get(name, {}).get(key)
        declared = function.inputs if function else {}
        inputs = {alias: self.tensor(body["inputs"][alias], dtype) for alias, (dtype, _) in declared.items()}
        outputs = self.model_server.predict(name, key, version, label, inputs)
        values = {alias: self.value(array) for alias, array in outputs.items()}
        return {"outputs": values if len(values) > 1 else next(iter(values.values()))}

    def tensor(self, value: Any, dtype: str) -> np.ndarray[Any, Any]:
        if dtype == "DT_STRING":
            return np.array(self.each(value, lambda item: base64.b64decode(item["b64"])), object)
        return np.array(value, tensors.DTYPES[pb.DataType.Value(dtype)].numpy)

    def value(self, array: np.ndarray[Any, Any]) -> Any:
        return self.each(
            array.tolist(), lambda item: item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else item
        )

    def each(self, value: Any, function: Callable[[Any], Any]) -> Any:
        return [self.each(item, function) for item in value] if isinstance(value, list) else function(value)


def grpc_server(server: Server) -> grpc.Server:
    def guarded(function: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        def call(request: Any, context: Any) -> Any:
            try:
                return function(request)
            except Refusal as refusal:
                context.abort(grpc.StatusCode[refusal.code], str(refusal))

        return call

    def spec(request: Any) -> tuple[str, int, str]:
        return request.model_spec.name, request.model_spec.version.value, request.model_spec.version_label

    def predict(request: Any) -> Any:
        name, version, label = spec(request)
        inputs = {alias: tensors.to_array(proto) for alias, proto in request.inputs.items()}
        outputs = server.predict(name, request.model_spec.signature_name, version, label, inputs)
        response = pb.PredictResponse()
        for alias in request.output_filter or outputs:
            tensors.fill(response.outputs[alias], outputs[alias])
        return response

    def metadata(request: Any) -> Any:
        response = pb.GetModelMetadataResponse()
        response.model_spec.version.value = server.resolve(*spec(request))
        response.metadata["signature_def"].Pack(signature_map(request.model_spec.name))
        return response

    def status(request: Any) -> Any:
        response = pb.GetModelStatusResponse()
        response.model_version_status.add(version=server.resolve(*spec(request)), state=30)
        return response

    def listing(request: Any) -> Any:
        if server.listing is None:
            raise Refusal("UNIMPLEMENTED", "Method not found!")
        return pb.HealthListResponse(statuses=[{"key": name} for name in ["", *server.listing]])

    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    unlimited.append(("grpc.so_reuseport", 0))  # no other server may share the port
    made = grpc.server(futures.ThreadPoolExecutor(8), options=unlimited)
    prediction = {"Predict": guarded(predict), "GetModelMetadata": guarded(metadata)}
    made.add_generic_rpc_handlers(
        [
            services.handler(services.PREDICTION, prediction),
            services.handler(services.MODEL, {"GetModelStatus": guarded(status)}),
            services.handler(services.HEALTH, {"List": guarded(listing)}),
        ]
    )
    return made


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    running = Server()
    over_grpc = grpc_server(running)
    running.grpc = f"127.0.0.1:{over_grpc.add_insecure_port('127.0.0.1:0')}"
    over_grpc.start()
    handler = type("Handler", (Http,), {"model_server": running})
    over_http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.rest = f"http://127.0.0.1:{over_http.server_port}"
    thread = threading.Thread(target=over_http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.release.set()
    over_http.shutdown()
    thread.join()
    over_http.server_close()
    over_grpc.stop(None).wait()


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def steady_server() -> Iterator[Server]:
    """One server for all tests of a module that leave its state alone."""
    with running_server() as running:
        yield running


@pytest.fixture(params=["grpc", "rest"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    target = f"grpc://{server.grpc}" if request.param == "grpc" else server.rest
    with Client(target) as made:
        yield made


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with .crt and .key of ca, server (for this machine) and client, and other.crt, which signed nothing."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    home = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=home, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("ca", "other"):
        openssl("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}")
    (home / "extensions").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
    return home
