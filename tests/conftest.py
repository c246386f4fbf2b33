"""A repository of tiny models whose answers are known, and live servers for it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from clients.wire import messages as pb

ROOT = Path(__file__).resolve().parent.parent
LABELS = ("boot", "coat", "shirt")
DEADLINE_S = 60.0

TYPES = {
    "float32": ("DT_FLOAT", TensorProto.FLOAT),
    "float64": ("DT_DOUBLE", TensorProto.DOUBLE),
    "int64": ("DT_INT64", TensorProto.INT64),
    "int32": ("DT_INT32", TensorProto.INT32),
    "int16": ("DT_INT16", TensorProto.INT16),
    "int8": ("DT_INT8", TensorProto.INT8),
    "uint8": ("DT_UINT8", TensorProto.UINT8),
    "uint16": ("DT_UINT16", TensorProto.UINT16),
    "uint32": ("DT_UINT32", TensorProto.UINT32),
    "uint64": ("DT_UINT64", TensorProto.UINT64),
    "bool": ("DT_BOOL", TensorProto.BOOL),
    "float16": ("DT_HALF", TensorProto.FLOAT16),
    "bfloat16": ("DT_BFLOAT16", TensorProto.BFLOAT16),
    "string": ("DT_STRING", 0),
}
Tensors = Mapping[str, tuple[str, Sequence[int]]]


@dataclass
class Signature:
    """A signature of a tiny model: dtype and shape of its tensors, its graph's file and the steps around it."""

    inputs: Tensors
    outputs: Tensors
    graph: str | None = "model.onnx"
    before: Sequence[Mapping[str, Any]] = ()
    after: Sequence[Mapping[str, Any]] = ()
    method: str = "predict"


@dataclass
class Model:
    """What a version's folder is made of."""

    signatures: Mapping[str, Signature]
    graphs: Mapping[str, onnx.ModelProto]
    assets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    warm_up: Sequence[Any] = ()

    def write(self, base_path: Path, version: int | str = 1) -> Path:
        """Publishes the version as exporters do: written under another name, then renamed."""
        folder = base_path / f".writing-{version}"
        (folder / "assets.extra").mkdir(parents=True)
        (folder / "assets").mkdir()
        saved = pb.SavedModel(saved_model_schema_version=1)
        graph = saved.meta_graphs.add()
        graph.meta_info_def.tags.append("serve")
        for name, signature in self.signatures.items():
            definition = graph.signature_def[name]
            definition.method_name = f"tensorflow/serving/{signature.method}"
            for tensors, infos in ((signature.inputs, definition.inputs), (signature.outputs, definition.outputs)):
                for alias, (dtype, shape) in tensors.items():
                    infos[alias].name = f"{name}_{alias}:0"
                    infos[alias].dtype = pb.DataType.Value(TYPES[dtype][0])
                    for size in shape:
                        infos[alias].tensor_shape.dim.add(size=size)
        (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
        card: dict[str, Any] = {"format": 1, "signatures": {}, "onnx": {}}
        for name, model in self.graphs.items():
            data = model.SerializeToString()
            (folder / name).write_bytes(data)
            card["onnx"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "parity": {"inputs": 64, "max_abs": 0.0}}
        for name, signature in self.signatures.items():
            entry = {"graph": signature.graph} if signature.graph else {"reason": "none was made"}
            card["signatures"][name] = {**entry, "before": list(signature.before), "after": list(signature.after)}
        if self.graphs:
            (folder / "assets.extra" / "card.json").write_text(json.dumps(card))
        for name, lines in self.assets.items():
            (folder / "assets" / name).write_text("".join(f"{line}\n" for line in lines))
        if self.warm_up:
            records = b"".join(record(log.SerializeToString()) for log in self.warm_up)
            (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(records)
        published = base_path / str(version)
        folder.rename(published)
        return published


def record(data: bytes) -> bytes:
    """A TFRecord."""

    def checksum(part: bytes) -> bytes:
        crc = 0xFFFFFFFF
        for byte in part:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        crc ^= 0xFFFFFFFF
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + checksum(length) + data + checksum(data)


def onnx_model(
    nodes: Sequence[Any], inputs: Tensors, outputs: Tensors, weights: Mapping[str, Any] | None = None
) -> onnx.ModelProto:
    """A graph of opset 18; -1 is a free axis."""

    def info(name: str, tensor: tuple[str, Sequence[int]]) -> Any:
        dtype, shape = tensor
        free = [f"{name}_{axis}" if size < 0 else size for axis, size in enumerate(shape)]
        return helper.make_tensor_value_info(name, TYPES[dtype][1], free)

    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [info(name, tensor) for name, tensor in inputs.items()],
        [info(name, tensor) for name, tensor in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def half_plus(offset: float) -> Model:
    """y = x / 2 + offset, as upstream's own test model: predict, classify and regress."""
    tensors: Tensors = {"x": ("float32", [-1, 1])}
    node = [helper.make_node("Mul", ["x", "half"], ["h"]), helper.make_node("Add", ["h", "offset"], ["y"])]
    weights = {"half": np.float32(0.5), "offset": np.float32(offset)}
    parse = {
        "op": "parse_example",
        "input": "inputs",
        "output": "x",
        "feature": "x",
        "dtype": "float32",
        "shape": [1],
    }
    examples: Tensors = {"inputs": ("string", [-1])}
    scores = onnx_model(
        [*node, helper.make_node("Identity", ["y"], ["scores"])], tensors, {"scores": ("float32", [-1, 1])}, weights
    )
    numbers = onnx_model(
        [*node, helper.make_node("Identity", ["y"], ["outputs"])], tensors, {"outputs": ("float32", [-1, 1])}, weights
    )
    return Model(
        {
            "serving_default": Signature(tensors, {"y": ("float32", [-1, 1])}),
            "classify_x": Signature(
                examples, {"scores": ("float32", [-1, 1])}, "scores.onnx", [parse], method="classify"
            ),
            "regress_x": Signature(
                examples, {"outputs": ("float32", [-1, 1])}, "numbers.onnx", [parse], method="regress"
            ),
            "ungraphed": Signature(tensors, {"y": ("float32", [-1, 1])}, graph=None),
        },
        {
            "model.onnx": onnx_model(node, tensors, {"y": ("float32", [-1, 1])}, weights),
            "scores.onnx": scores,
            "numbers.onnx": numbers,
        },
    )


def image_classifier() -> Model:
    """The class of a 2×2 image is its brightest pixel but the last; logits are the first three pixels."""
    tensors: Tensors = {"image": ("float32", [-1, 2, 2, 1])}
    core: Tensors = {
        "logits": ("float32", [-1, 3]),
        "probabilities": ("float32", [-1, 3]),
        "class_id": ("int64", [-1]),
    }
    graph = onnx_model(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "first"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
            helper.make_node("ArgMax", ["logits"], ["class_id"], axis=1, keepdims=0),
        ],
        tensors,
        core,
        {"first": np.eye(4, 3, dtype=np.float32)},
    )
    outputs: Tensors = {**core, "label": ("string", [-1])}
    label = {"op": "lookup_label", "input": "class_id", "output": "label", "labels": "labels.txt"}
    decode = {
        "op": "decode_image",
        "input": "image_bytes",
        "output": "image",
        "height": 2,
        "width": 2,
        "channels": 1,
    }
    parse = {
        "op": "parse_example",
        "input": "inputs",
        "output": "image",
        "feature": "image",
        "dtype": "float32",
        "shape": [2, 2, 1],
    }
    classes = {
        "op": "top_classes",
        "input": "probabilities",
        "classes": "classes",
        "scores": "scores",
        "labels": "labels.txt",
    }
    ranked: Tensors = {"classes": ("string", [-1, 3]), "scores": ("float32", [-1, 3])}
    return Model(
        {
            "serving_default": Signature(tensors, outputs, after=[label]),
            "serving_bytes": Signature({"image_bytes": ("string", [-1])}, outputs, before=[decode], after=[label]),
            "classify": Signature(
                {"inputs": ("string", [-1])}, ranked, before=[parse], after=[classes], method="classify"
            ),
        },
        {"model.onnx": graph},
        {"labels.txt": LABELS},
    )


def identities() -> Model:
    """One signature a dtype that answers what it is asked; `sum` adds two inputs."""
    signatures, graphs = {}, {}
    for dtype in TYPES:
        given: Tensors = {"x": (dtype, [-1])}
        answer: Tensors = {"y": (dtype, [-1])}
        if dtype in ("string", "bfloat16"):  # not for ONNX Runtime
            signatures[dtype] = Signature(given, answer, graph=None)
            continue
        graphs[f"{dtype}.onnx"] = onnx_model([helper.make_node("Identity", ["x"], ["y"])], given, answer)
        signatures[dtype] = Signature(given, answer, f"{dtype}.onnx")
    pair: Tensors = {"a": ("float32", [-1]), "b": ("float32", [-1])}
    total: Tensors = {"total": ("float32", [-1]), "difference": ("float32", [-1])}
    nodes = [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    graphs["sum.onnx"] = onnx_model(nodes, pair, total)
    signatures["sum"] = Signature(pair, total, "sum.onnx")
    words = {"op": "lookup_label", "input": "id", "output": "word_bytes", "labels": "words.txt"}
    given = {"id": ("int64", [-1])}
    graphs["words.onnx"] = onnx_model([helper.make_node("Identity", ["id"], ["same"])], given, {"same": given["id"]})
    signatures["words"] = Signature(given, {"word_bytes": ("string", [-1])}, "words.onnx", after=[words])
    return Model(signatures, graphs, {"words.txt": ("zero", "one")})


def looping() -> Model:
    """y = x after so many turns of a loop as the largest x says; a million takes about a second."""
    turn = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["go_on"]), helper.make_node("Identity", ["state"], ["next"])],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.INT64, [None]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.INT64, [None]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["turns"], keepdims=0),
        helper.make_node("Loop", ["turns", "", "x"], ["y"], body=turn),
    ]
    given: Tensors = {"x": ("int64", [-1])}
    answer: Tensors = {"y": ("int64", [-1])}
    return Model({"serving_default": Signature(given, answer)}, {"model.onnx": onnx_model(nodes, given, answer)})


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Running:
    """A server process and where it answers."""

    process: subprocess.Popen[bytes]
    grpc_port: int
    rest_port: int
    log: Path

    def get(self, path: str) -> tuple[int, bytes]:
        """HTTP status and body of a GET."""
        return self.send("GET", path)

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """HTTP status and body of a request."""
        url = f"http://127.0.0.1:{self.rest_port}{path}"
        request = urllib.request.Request(url, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def states(self, model: str) -> dict[int, str]:
        """The state of each known version."""
        status, body = self.get(f"/v1/models/{model}")
        if status == 404:
            return {}
        return {int(v["version"]): v["state"] for v in json.loads(body)["model_version_status"]}

    def wait_for(self, reached: Callable[[], Any]) -> Any:
        """Returns `reached()` once it is true; fails after a minute or when the server ends."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                found = reached()
            except OSError:
                found = None
            if found:
                return found
            time.sleep(0.01)
        raise AssertionError(f"not reached:\n{self.log.read_text()}")

    def wait_for_state(self, model: str, version: int, state: str) -> None:
        self.wait_for(lambda: self.states(model).get(version) == state)

    def cpu_seconds(self) -> float:
        """What the server has computed so far; a running request shows in it."""
        return cpu_seconds(self.process.pid)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the server; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts servers with more flags; waits until `models` are available. They end with the tests."""
    started: list[Running] = []

    def start(*flags: str | Path, models: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Running:
        grpc_port, rest_port = free_port(), free_port()
        log = tmp_path_factory.mktemp("server") / "log"
        command = [sys.executable, "-m", "serving", f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
        command += ["--host=127.0.0.1", "--file_system_poll_wait_seconds=0.05", *map(str, flags)]
        with log.open("wb") as file:
            environment = {**os.environ, **(env or {})}
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=environment)
        server = Running(process, grpc_port, rest_port, log)
        started.append(server)
        server.wait_for(lambda: server.get("/v2/health/live")[0] == 200)
        for model in models:
            server.wait_for(lambda model=model: "AVAILABLE" in server.states(model).values())
        return server

    yield start
    for server in started:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """half_plus_two, half_plus_three, classifier and identities."""
    folder = tmp_path_factory.mktemp("repository")
    half_plus(2).write(folder / "half_plus_two", 1)
    half_plus(3).write(folder / "half_plus_three", 1)
    image_classifier().write(folder / "classifier", 1)
    identities().write(folder / "identities", 1)
    return folder


@pytest.fixture(scope="session")
def tiny_server(serve: Callable[..., Running], tiny_repository: Path) -> Running:
    """One server of the tiny repository, for tests that change nothing."""
    models = sorted(path.name for path in tiny_repository.iterdir())
    return serve("--repository", tiny_repository, models=models)


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """Makers of tiny models, each with `write(base_path, version)`: half_plus(offset), image_classifier(), ..."""
    makers = (
        half_plus,
        image_classifier,
        identities,
        looping,
        onnx_model,
        record,
        free_port,
        cpu_seconds,
        Model,
        Signature,
    )
    return SimpleNamespace(**{maker.__name__: maker for maker in makers})


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    """An empty repository that a test may change."""
    folder = tmp_path / "repository"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


SHOWN = ("lenet5", "resnet18", "sentiment_lstm", "unet", "vae", "wgan_gp")


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the six networks of the showcase, trained at their tiny size on generated data."""
    import models as registry
    from training import session

    home = tmp_path_factory.mktemp("zoo")
    for name in SHOWN:
        overrides = dict(registry.get(name).tiny)
        session.run(name, overrides=overrides, synthetic=True, repository=home / "models", runs=home / "runs")
    return home / "models"
