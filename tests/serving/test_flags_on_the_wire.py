"""What TensorFlow Serving's flags change in answers; and every dtype there and back."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from tests.stubs import grpc_stub

DTYPES = [
    "float32",
    "float64",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "float16",
]
FLAGS = (
    "--enable_serialization_as_tensor_content",
    "--enable_signature_method_name_check",
    "--rest_api_enable_cors_support",
)


@pytest.fixture(scope="module")
def strict(serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with these flags; the signature of `odd` has an unknown method_name."""
    folder: Path = tmp_path_factory.mktemp("strict")
    odd = tiny.half_plus(2)
    odd.signatures["serving_default"].method = "guess"
    odd.write(folder / "odd")
    tiny.half_plus(2).write(folder / "half_plus_two")
    tiny.identities().write(folder / "identities")
    server = serve("--repository", folder, *FLAGS, models=["odd", "half_plus_two", "identities"])
    yield server
    server.stop()


@pytest.fixture(scope="module")
def predict(strict: Any) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{strict.grpc_port}") as channel:
        yield grpc_stub(channel, services.PREDICTION).Predict


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), content=st.booleans())
def test_every_dtype_goes_there_and_back_in_either_encoding(predict: Any, dtype: str, content: bool, data: Any) -> None:
    kind = np.dtype(dtype)
    drawn = np.dtype(f"u{kind.itemsize}") if kind.kind == "f" else kind  # any bits, NaN among them
    array = data.draw(hnp.arrays(drawn, st.integers(0, 70))).view(kind)
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="identities", signature_name=dtype))
    tensors.fill(request.inputs["x"], array, content)
    output = predict(request, timeout=30).outputs["y"]
    assert bool(output.tensor_content) == (array.size > 0)
    found = tensors.to_array(output)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


def test_rest_answers_are_json_under_the_tensor_content_flag(strict: Any) -> None:
    status, body = strict.send("POST", "/v1/models/half_plus_two:predict", b'{"instances": [[1.0]]}')
    assert (status, json.loads(body)) == (200, {"predictions": [[2.5]]})


EXAMPLES = '{"signature_name": "%s", "examples": [{"x": 1.0}]}'


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (
            "half_plus_two:classify",
            EXAMPLES % "regress_x",
            400,
            "Expected classification signature method_name to be tensorflow/serving/classify. "
            "Was: tensorflow/serving/regress",
        ),
        (
            "half_plus_two:regress",
            EXAMPLES % "classify_x",
            400,
            "Expected regression signature method_name to be tensorflow/serving/regress. "
            "Was: tensorflow/serving/classify",
        ),
        (
            "odd:predict",
            '{"instances": [[1.0]]}',
            500,
            "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
            "tensorflow/serving/classify, tensorflow/serving/regress}. Was: tensorflow/serving/guess",
        ),
    ],
    ids=["classify", "regress", "predict"],
)
def test_method_names_are_checked(strict: Any, path: str, body: str, status: int, message: str) -> None:
    found, answer = strict.send("POST", f"/v1/models/{path}", body.encode())
    assert (found, json.loads(answer)) == (status, {"error": message})


def test_signatures_with_the_right_method_still_answer(strict: Any) -> None:
    for verb in ("classify", "regress"):
        body = (EXAMPLES % f"{verb}_x").encode()
        assert strict.send("POST", f"/v1/models/half_plus_two:{verb}", body)[0] == 200


@pytest.mark.parametrize(
    "path", ["/v1/models/half_plus_two", "/v1/models/nope", "/v1/nothing", "/v2", "/v2/health/ready", "/v2/nothing"]
)
def test_answers_carry_cors_headers(strict: Any, tiny_server: Any, path: str) -> None:
    for server, expected in ((strict, ["*", "POST, GET", "Content-Type"]), (tiny_server, [None, None, None])):
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        names = [f"Access-Control-Allow-{name}" for name in ("Origin", "Methods", "Headers")]
        assert [answer.getheader(name) for name in names] == expected
        connection.close()


HEAD = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: h\r\n"
REFUSED = {
    "bad head": (HEAD + b"no header\r\n\r\n", 400),
    "no Host": (b"GET /v1/models/m HTTP/1.1\r\n\r\n", 400),
    "slow": (HEAD + b"Content-Length: 10\r\n\r\n", 408),
    "large body": (HEAD + b"Content-Length: 5001\r\n\r\n", 413),
    "large head": (HEAD + b"X: " + b"x" * 5000 + b"\r\n\r\n", 431),
    "too many": (b"", 503),
}


@pytest.fixture(scope="module")
def small(serve: Any) -> Any:
    """A server with CORS headers that refuses early."""
    limits = (
        "--max_request_bytes=5000",
        "--max_header_bytes=4000",
        "--request_read_seconds=0.4",
        "--max_connections=1",
    )
    server = serve("--rest_api_enable_cors_support", "--model_base_path=/nowhere", *limits)
    yield server
    server.stop()


@pytest.mark.parametrize("name", REFUSED)
def test_answers_of_the_connection_itself_carry_cors_headers(small: Any, name: str) -> None:
    request, status = REFUSED[name]
    with contextlib.ExitStack() as opened:

        def connect() -> socket.socket:
            return opened.enter_context(socket.create_connection(("127.0.0.1", small.rest_port), timeout=30))

        connection = connect()
        if not request:  # the first connection takes the only place
            connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            connection = connect()
        connection.sendall(request)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"access-control-allow-origin: *\r\n" in answer


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://example.org", 200), ("https://example.org", 200), ("file:///x", 400), ("", 400)],
    ids=["http", "https", "file", "none"],
)
def test_options_requires_an_origin_with_or_without_the_flag(
    strict: Any, tiny_server: Any, origin: str, status: int
) -> None:
    for server in (strict, tiny_server):
        headers = {"Origin": origin} if origin else {}
        for path in ("/v1/models/half_plus_two:predict", "/v2/repository/index"):
            assert server.send("OPTIONS", path, **headers) == (status, b"")


def test_metadata_has_the_layout_of_upstream(strict: Any) -> None:
    def tensor(dtype: str, name: str, *sizes: str) -> dict[str, Any]:
        shape = {"dim": [{"size": size, "name": ""} for size in sizes], "unknown_rank": False}
        return {"dtype": dtype, "tensor_shape": shape, "name": name}

    def signature(name: str, given: dict[str, Any], answer: str, method: str) -> dict[str, Any]:
        return {
            "inputs": given,
            "outputs": {answer: tensor("DT_FLOAT", f"{name}_{answer}:0", "-1", "1")},
            "method_name": f"tensorflow/serving/{method}",
            "defaults": {},
        }

    x = {name: {"x": tensor("DT_FLOAT", f"{name}_x:0", "-1", "1")} for name in ("serving_default", "ungraphed")}
    examples = {name: {"inputs": tensor("DT_STRING", f"{name}_inputs:0", "-1")} for name in ("classify_x", "regress_x")}
    status, body = strict.get("/v1/models/half_plus_two/metadata")
    assert status == 200
    assert json.loads(body) == {
        "model_spec": {"name": "half_plus_two", "signature_name": "", "version": "1"},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    "serving_default": signature("serving_default", x["serving_default"], "y", "predict"),
                    "ungraphed": signature("ungraphed", x["ungraphed"], "y", "predict"),
                    "classify_x": signature("classify_x", examples["classify_x"], "scores", "classify"),
                    "regress_x": signature("regress_x", examples["regress_x"], "outputs", "regress"),
                }
            }
        },
    }
