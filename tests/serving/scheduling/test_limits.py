"""The limits of one request, over both protocols."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from tests.stubs import grpc_stub

FLAGS = ("--max_request_bytes=200000", "--max_image_pixels=1000", "--max_json_depth=20")


@pytest.fixture(scope="module")
def server(serve: Any, tiny_repository: Path) -> Any:
    return serve("--repository", tiny_repository, *FLAGS, models=["half_plus_two", "classifier", "identities"])


@pytest.fixture
def prediction(server: Any) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield grpc_stub(channel, services.PREDICTION)


def refusal(method: Any, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=30)
    return caught.value.code().name, caught.value.details()


def post(server: Any, path: str, body: bytes, **headers: str) -> tuple[int, str]:
    status, answer = server.send("POST", f"/v1/models/{path}", body, **headers)
    return status, json.loads(answer)["error"] if status != 200 else ""


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "body",
    [b'{"instances": ' + b"[" * 20 + b"]" * 20 + b"}", b'{"a":' * 21 + b"1" + b"}" * 21, b'{"a": ' + b"[" * 500_00],
    ids=["lists", "objects", "no end"],
)
def test_json_nested_deeper_than_the_limit_is_refused(server: Any, body: bytes) -> None:
    depth = min(body.count(b"[") + body.count(b"{"), 10**6)
    status, text = post(server, "half_plus_two:predict", body)
    assert status == 400
    assert text == f"JSON Parse error: lists and objects are nested {depth} deep; at most 20 are read here"


def test_brackets_in_strings_do_not_count_as_nesting(server: Any) -> None:
    body = json.dumps({"note": "[" * 1000 + '\\"' + "{" * 1000, "instances": [[1.0]] * 50}).encode()
    assert post(server, "half_plus_two:predict", body) == (200, "")


def test_a_gzipped_body_is_limited_once_unpacked(server: Any) -> None:
    packed = {"Content-Encoding": "gzip"}
    large = gzip.compress(b'{"instances": [[1.0]]' + b" " * 300_000 + b"}")
    assert post(server, "half_plus_two:predict", large, **packed) == (
        413,
        "the request's body is larger than 200000 bytes",
    )
    assert post(server, "half_plus_two:predict", b"no gzip", **packed) == (
        400,
        "JSON Parse error: The document is empty",
    )


@pytest.mark.parametrize(
    "shape",
    [[2**32, 2**32], [2**62, 4], [-1], [2**31, 0, -5], [10**6]],
    ids=["64 bits", "63 bits", "negative", "zero", "large"],
)
def test_a_shape_larger_than_the_sent_values_is_refused(prediction: Any, shape: list[int]) -> None:
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="half_plus_two"))
    request.inputs["x"].dtype = 1
    request.inputs["x"].float_val.append(1.0)
    for size in shape:
        request.inputs["x"].tensor_shape.dim.add(size=size)
    assert refusal(prediction.Predict, request) == ("INVALID_ARGUMENT", "tensor parsing error: x")


IMAGES = {
    "one": ([png(40, 30)], "image 0 has 40×30 pixels; at most 1000 are decoded"),
    "many": ([png(30, 30)] * 9, "9 images of more than 8000 pixels in all; send fewer at once"),
    "neither PNG nor JPEG": ([b"GIF89a" + bytes(50)], "is not a readable PNG or JPEG image"),
}


@pytest.mark.parametrize(("images", "text"), IMAGES.values(), ids=IMAGES)
def test_images_are_limited(server: Any, prediction: Any, images: list[bytes], text: str) -> None:
    import base64

    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="classifier", signature_name="serving_bytes"))
    tensors.fill(request.inputs["image_bytes"], np.array(images, object))
    code, details = refusal(prediction.Predict, request)
    rows = [{"b64": base64.b64encode(image).decode()} for image in images]
    body = json.dumps({"signature_name": "serving_bytes", "instances": rows}).encode()
    status, error = post(server, "classifier:predict", body)
    assert (code, status) == ("INVALID_ARGUMENT", 400)
    assert text in details
    assert text in error


def test_a_context_merged_into_examples_stays_within_the_request_limit(server: Any, prediction: Any) -> None:
    request = pb.RegressionRequest(model_spec=pb.ModelSpec(name="half_plus_two", signature_name="regress_x"))
    given = request.input.example_list_with_context
    given.context.features.feature["note"].bytes_list.value.append(b"a" * 50_000)
    for _ in range(100):
        given.examples.add()
    text = "The context, merged into 100 examples, makes more than 200000 bytes; send fewer examples"
    assert refusal(prediction.Regress, request) == ("INVALID_ARGUMENT", text)
    body = {"signature_name": "regress_x", "context": {"note": "a" * 50_000}, "examples": [{"x": 1.0}] * 100}
    assert post(server, "half_plus_two:regress", json.dumps(body).encode()) == (400, text)
