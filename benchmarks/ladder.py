"""How long one large image takes to a model server and back, by the form in which it goes.

python -m benchmarks.ladder                     float32 [1, 1024, 1024, 3], five rounds; a Markdown table
python -m benchmarks.ladder --size 512 --json

A tiny model answers the mean of each channel, so that what is measured is writing, sending and reading the image. Each
form asks once per round, in turn; the first round does not count. Times are those of `ladle.Client`, its writing
included, and medians.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper
from PIL import Image

from benchmarks import machine
from benchmarks.servers.processes import Child, StartError, free_port
from ladle import Client
from ladle.clients.transport.open_inference.rest import OpenInferenceRest
from tests.tiny_models import Model, Signature, Tensors, onnx_model

MODEL = "means"
_MAX_BYTES = 2**28


@dataclass(frozen=True)
class Rung:
    """A form of the request: bytes of its body, and milliseconds from the array to the answer, and of writing it."""

    protocol: str
    form: str
    size_bytes: int
    total_ms: float
    write_ms: float


@dataclass
class _Way:
    protocol: str
    form: str
    client: Client
    signature: str
    inputs: Callable[[], dict[str, Any]]

    def ask(self) -> tuple[int, float, float]:
        """Bytes, and seconds in all and of writing. The request is written a second time to time that alone."""
        start = time.perf_counter()
        answer = self.client.predict(MODEL, self.inputs(), self.signature)
        total_s = time.perf_counter() - start
        if not np.all(np.isfinite(answer["means"])):
            raise StartError(f"{self.protocol}, {self.form}: a wrong answer")
        start = time.perf_counter()
        arrays = {name: np.asarray(value) for name, value in self.inputs().items()}
        request = self.client.transport.protocol.predict_request(MODEL, arrays, self.signature, None, None, None)
        write_s = time.perf_counter() - start
        body: bytes = request.body if hasattr(request, "body") else request.data
        return len(body), total_s, write_s


def model(size: int) -> Model:
    """`serving_default` takes float32 [b, size, size, 3], `serving_bytes` PNG or JPEG; both answer means [b, 3]."""
    image: Tensors = {"image": ("float32", [-1, size, size, 3])}
    means: Tensors = {"means": ("float32", [-1, 3])}
    axes = np.array([1, 2], np.int64)
    node = helper.make_node("ReduceMean", ["image", "axes"], ["means"], keepdims=0)
    decode = {"op": "decode_image", "input": "image_bytes", "output": "image", "height": size, "width": size}
    return Model(
        {
            "serving_default": Signature(image, means),
            "serving_bytes": Signature({"image_bytes": ("string", [-1])}, means, before=[{**decode, "channels": 3}]),
        },
        {"model.onnx": onnx_model([node], image, means, {"axes": axes})},
    )


def picture(size: int) -> np.ndarray[Any, Any]:
    """uint8 [size, size, 3]: smooth colours with some noise, which a PNG stores in about half its pixels' bytes."""
    y, x = np.mgrid[0:size, 0:size] / size
    smooth = np.stack([x, y, (x + y) / 2], -1) * 220
    noise = np.random.default_rng(0).integers(0, 16, smooth.shape)
    found: np.ndarray[Any, Any] = (smooth + noise).astype(np.uint8)
    return found


def measure(size: int, rounds: int) -> list[Rung]:
    """The rungs, from JSON to gRPC."""
    with tempfile.TemporaryDirectory() as folder:
        model(size).write(Path(folder) / "models" / MODEL)
        grpc_port, rest_port = free_port(), free_port()
        command = [sys.executable, "-m", "ladle.serving", f"--repository={folder}/models", "--host=127.0.0.1"]
        command += [f"--port={grpc_port}", f"--rest_api_port={rest_port}", f"--max_request_bytes={_MAX_BYTES}"]
        child = Child(command, Path(folder) / "log")
        try:
            url = f"http://127.0.0.1:{rest_port}/v2/models/{MODEL}/ready"
            child.wait_until(lambda: bool(urllib.request.urlopen(url, timeout=5).status == 200))
            return _measure(_ways(size, grpc_port, rest_port), rounds)
        finally:
            child.stop()


def _ways(size: int, grpc_port: int, rest_port: int) -> list[_Way]:
    pixels = picture(size)
    image = pixels[None].astype(np.float32) / 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    rest, grpc = f"127.0.0.1:{rest_port}", f"127.0.0.1:{grpc_port}"
    in_json = Client(f"oip+http://{rest}")
    assert isinstance(in_json.transport.protocol, OpenInferenceRest)
    in_json.transport.protocol.has_binary = False

    def floats() -> dict[str, Any]:
        return {"image": image}

    def png() -> dict[str, Any]:
        return {"image_bytes": np.array([file.getvalue()], object)}

    default, encoded, theirs, open_ = "serving_default", "serving_bytes", "TensorFlow Serving", "Open Inference"
    return [
        _Way(f"{theirs}, REST", "JSON numbers", Client(f"http://{rest}"), default, floats),
        _Way(f"{open_}, REST", "JSON numbers", in_json, default, floats),
        _Way(f"{theirs}, REST", "PNG as base64", Client(f"http://{rest}"), encoded, png),
        _Way(f"{open_}, REST", "binary tensor", Client(f"oip+http://{rest}"), default, floats),
        _Way(f"{open_}, REST", "PNG as binary tensor", Client(f"oip+http://{rest}"), encoded, png),
        _Way(f"{theirs}, gRPC", "tensor_content", Client(f"grpc://{grpc}"), default, floats),
        _Way(f"{open_}, gRPC", "raw contents", Client(f"oip+grpc://{grpc}"), default, floats),
        _Way(f"{theirs}, gRPC", "PNG", Client(f"grpc://{grpc}"), encoded, png),
    ]


def _measure(ways: Sequence[_Way], rounds: int) -> list[Rung]:
    found: list[list[tuple[int, float, float]]] = [[] for _ in ways]
    for number in range(rounds + 1):
        for way, rows in zip(ways, found, strict=True):
            row = way.ask()
            if number:
                rows.append(row)
    return [
        Rung(
            way.protocol,
            way.form,
            rows[0][0],
            round(1000 * statistics.median(row[1] for row in rows), 1),
            round(1000 * statistics.median(row[2] for row in rows), 1),
        )
        for way, rows in zip(ways, found, strict=True)
    ]


def table(rungs: Sequence[Rung]) -> str:
    """The rungs as a Markdown table."""
    lines = ["| protocol | form | MB sent | ms in all | of it writing |", "|---|---|---:|---:|---:|"]
    lines += [
        f"| {rung.protocol} | {rung.form} | {rung.size_bytes / 1e6:.1f} | {rung.total_ms:g} | {rung.write_ms:g} |"
        for rung in rungs
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Exit code: 0 done, 1 failed, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ladder", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024, help="height and width in pixels (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="requests of each form (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    if options.size < 1 or options.rounds < 1:
        parser.error(f"got --size {options.size} --rounds {options.rounds}; expected 1 or more")
    try:
        rungs = measure(options.size, options.rounds)
    except (StartError, subprocess.SubprocessError) as error:
        print(f"python -m benchmarks.ladder: {error}", file=sys.stderr)
        return 1
    described = machine.describe()
    if options.json:
        print(json.dumps({"machine": described, "size": options.size, "rungs": [asdict(rung) for rung in rungs]}))
    else:
        print(f"float32 [1, {options.size}, {options.size}, 3]; {machine.in_words(described)}\n\n{table(rungs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
