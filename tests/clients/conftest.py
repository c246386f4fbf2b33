"""A model server of a few lines, over gRPC and REST, with models whose answers are known."""

from __future__ import annotations

import base64
import contextlib
import io
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
from PIL import Image

from clients.client import Client
from clients.wire import messages as pb
from clients.wire import services, tensors

LABELS = ("boot", "coat", "shirt")
HTTP = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503}
Arrays = dict[str, np.ndarray[Any, Any]]


class Refusal(Exception):  # noqa: N818
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Function:
    """A signature: declared inputs and outputs (dtype name, shape), and what it does."""

    inputs: dict[str, tuple[str, list[int] | None]]
    outputs: dict[str, tuple[str, list[int] | None]]
    run: Callable[..., Arrays]


def decode(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("L")) for data in images])[..., None] / 255


def classify(pixels: np.ndarray[Any, Any]) -> Arrays:
    """The class is the brightness in thirds."""
    class_id = np.minimum(pixels.mean((1, 2, 3)) * 3, 2).astype(np.int64)
    probabilities = np.full((len(pixels), 3), 0.1, np.float32)
    probabilities[np.arange(len(pixels)), class_id] = 0.8
    labels = np.array([LABELS[i].encode() for i in class_id], object)
    return {"probabilities": probabilities, "class_id": class_id, "label": labels}


def classify_examples(examples: np.ndarray[Any, Any]) -> Arrays:
    pixels = [pb.Example.FromString(data).features.feature["image"].float_list.value for data in examples]
    classes = np.array([[label.encode() for label in LABELS]] * len(pixels), object)
    return {"classes": classes, "scores": classify(np.array(pixels).reshape(-1, 4, 4, 1))["probabilities"]}


def mood(text: np.ndarray[Any, Any]) -> Arrays:
    probability = np.array([0.9 if b"good" in one else 0.2 for one in text], np.float32)
    labels = np.array([b"positive" if p > 0.5 else b"negative" for p in probability], object)
    return {"probability": probability, "label": labels}


def noise(n: np.ndarray[Any, Any], seed: np.ndarray[Any, Any]) -> Arrays:
    return {"images": np.random.default_rng(int(seed) % 2**64).integers(0, 256, (int(n), 4, 4, 3)).astype(np.uint8)}


def masks(pixels: np.ndarray[Any, Any]) -> Arrays:
    class_map = (pixels[..., 0] > 0.5).astype(np.int64)
    encoded = []
    for one in class_map:
        file = io.BytesIO()
        Image.fromarray(one.astype(np.uint8)).save(file, "PNG")
        encoded.append(file.getvalue())
    return {"class_map": class_map, "mask_png": np.array(encoded, object)}


def bowl(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(x - 1)² + y²."""
    return ((x - [1, 0]) ** 2).sum(-1).astype("f4")


def descend(x: np.ndarray[Any, Any]) -> Arrays:
    """Two steps to (1, 0); from beyond 100 nowhere."""
    end = np.where(np.abs(x).max(-1, keepdims=True) > 100, np.nan, [1.0, 0.0]).astype("f4")
    return {"minimum": end, "value": bowl(end), "path": np.stack([x, (x + end) / 2, end], axis=1).astype("f4")}


IMAGE = {"image": ("DT_FLOAT", [-1, 4, 4, 1])}
BYTES = {"image_bytes": ("DT_STRING", [-1])}
CLASSES = {
    "probabilities": ("DT_FLOAT", [-1, 3]),
    "class_id": ("DT_INT64", [-1]),
    "label": ("DT_STRING", [-1]),
}
ANY_IMAGE = {"image": ("DT_FLOAT", [-1, -1, -1, 1])}
MASKS = {"class_map": ("DT_INT64", [-1, -1, -1]), "mask_png": ("DT_STRING", [-1])}
IMAGES = {"images": ("DT_UINT8", [-1, 4, 4, 3])}


def echo(dtype: str) -> dict[str, Function]:
    spec = {"x": (dtype, None)}
    return {"serving_default": Function(spec, {"y": spec["x"]}, lambda x: {"y": x})}


MODELS: dict[str, dict[str, Function]] = {
    "lenet5": {
        "serving_default": Function(IMAGE, CLASSES, lambda image: classify(image)),
        "serving_bytes": Function(BYTES, CLASSES, lambda image_bytes: classify(decode(image_bytes))),
        "classify": Function(
            {"inputs": ("DT_STRING", [-1])},
            {"classes": ("DT_STRING", [-1, 3]), "scores": ("DT_FLOAT", [-1, 3])},
            lambda inputs: classify_examples(inputs),
        ),
    },
    "nameless": {
        "serving_default": Function(
            IMAGE,
            {"probabilities": CLASSES["probabilities"]},
            lambda image: {"probabilities": classify(image)["probabilities"]},
        )
    },
    "sentiment_lstm": {
        "text": Function(
            {"text": ("DT_STRING", [-1])}, {"probability": ("DT_FLOAT", [-1]), "label": ("DT_STRING", [-1])}, mood
        )
    },
    "vae": {
        "serving_default": Function(
            IMAGE, {"reconstruction": IMAGE["image"]}, lambda image: {"reconstruction": image / 2}
        ),
        "reconstruct_bytes": Function(
            BYTES,
            {"reconstruction": IMAGE["image"]},
            lambda image_bytes: {"reconstruction": (decode(image_bytes) / 2).astype("f4")},
        ),
        "encode": Function(
            IMAGE,
            {"code": ("DT_FLOAT", [-1, 2]), "log_var": ("DT_FLOAT", [-1, 2])},
            lambda image: {"code": image[:, 0, :2, 0], "log_var": image[:, 1, :2, 0]},
        ),
        "decode": Function(
            {"code": ("DT_FLOAT", [-1, 2])},
            {"image": IMAGE["image"], "images": IMAGES["images"]},
            lambda code: {"image": np.zeros((len(code), 4, 4, 1), "f4"), "images": np.ones((len(code), 4, 4, 3), "u1")},
        ),
        "generate": Function({"n": ("DT_INT32", []), "seed": ("DT_INT64", [])}, IMAGES, noise),
    },
    "unet": {
        "serving_default": Function(ANY_IMAGE, MASKS, lambda image: masks(image)),
        "serving_bytes": Function(BYTES, MASKS, lambda image_bytes: masks(decode(image_bytes))),
    },
    "linear_regression": {
        "serving_default": Function(
            {"x": ("DT_FLOAT", [-1, 1])}, {"y": ("DT_FLOAT", [-1, 1])}, lambda x: {"y": 2 * x + 1}
        )
    },
    "bowl": {
        "serving_default": Function(
            {"x": ("DT_FLOAT", [-1, 2])},
            {"minimum": ("DT_FLOAT", [-1, 2]), "value": ("DT_FLOAT", [-1]), "path": ("DT_FLOAT", [-1, 3, 2])},
            lambda x: descend(x),
        ),
        "value": Function({"x": ("DT_FLOAT", [-1, 2])}, {"value": ("DT_FLOAT", [-1])}, lambda x: {"value": bowl(x)}),
    },
    "a/b:c ü": echo("DT_FLOAT"),
    "slow": echo("DT_FLOAT"),
} | {f"echo_{dtype.name}": echo(dtype.name) for dtype in tensors.DTYPES.values()}


def info(dtype: str, shape: list[int] | None) -> Any:
    proto = pb.TensorInfo(dtype=pb.DataType.Value(dtype))
    proto.tensor_shape.unknown_rank = shape is None
    for size in shape or []:
        proto.tensor_shape.dim.add(size=size)
    return proto


def signature_map(name: str) -> Any:
    answer = pb.SignatureDefMap()
    answer.signature_def["__saved_model_init_op"].outputs["o"].name = "NoOp"
    for key, function in MODELS[name].items():
        definition = answer.signature_def[key]
        definition.method_name = "tensorflow/serving/predict"
        for declared, target in ((function.inputs, definition.inputs), (function.outputs, definition.outputs)):
            for alias, (dtype, shape) in declared.items():
                target[alias].CopyFrom(info(dtype, shape))
    return answer


@dataclass
class Server:
    """Both ports of the running server, and what it saw. `faults` are raised first, one a request."""

    grpc: str = ""
    rest: str = ""
    predictions: int = 0
    connections: int = 0
    hang_up: bool = False
    faults: list[Refusal] = field(default_factory=list)
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
        if not self.path.startswith("/v1/"):
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

    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    unlimited.append(("grpc.so_reuseport", 0))  # a port is ours alone
    made = grpc.server(futures.ThreadPoolExecutor(8), options=unlimited)
    prediction = {"Predict": guarded(predict), "GetModelMetadata": guarded(metadata)}
    made.add_generic_rpc_handlers(
        [
            services.handler(services.PREDICTION, prediction),
            services.handler(services.MODEL, {"GetModelStatus": guarded(status)}),
        ]
    )
    return made


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    running = Server()
    over_grpc = grpc_server(running)
    running.grpc = f"localhost:{over_grpc.add_insecure_port('localhost:0')}"
    over_grpc.start()
    handler = type("Handler", (Http,), {"model_server": running})
    over_http = ThreadingHTTPServer(("localhost", 0), handler)
    running.rest = f"http://localhost:{over_http.server_port}"
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
    """For tests that change nothing of it."""
    with running_server() as running:
        yield running


@pytest.fixture(params=["grpc", "rest"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    target = f"grpc://{server.grpc}" if request.param == "grpc" else server.rest
    with Client(target) as made:
        yield made


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca, server (for localhost) and client: .crt and .key each; other.crt is of nobody."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    home = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=home, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("ca", "other"):
        openssl("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}")
    (home / "extensions").write_text("subjectAltName=DNS:localhost\n")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
    return home
