"""The Open Inference Protocol over REST and gRPC: JSON, typed and raw tensors, errors, and what it says of models."""

from __future__ import annotations

import gzip
import http.client
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.serving.errors import InvalidArgument
from ladle.serving.open_inference import datatypes
from tests.stubs import grpc_stub

HALF = "/v2/models/half_plus_two"
LENGTH = "Inference-Header-Content-Length"
VALUES: dict[str, tuple[str, list[Any]]] = {
    "BOOL": ("bool", [True, False]),
    "INT8": ("int8", [-128, 127]),
    "INT16": ("int16", [-(2**15), 2**15 - 1]),
    "INT32": ("int32", [-(2**31), 2**31 - 1]),
    "INT64": ("int64", [-(2**63), 2**63 - 1]),
    "UINT8": ("uint8", [0, 255]),
    "UINT16": ("uint16", [0, 2**16 - 1]),
    "UINT32": ("uint32", [0, 2**32 - 1]),
    "UINT64": ("uint64", [0, 2**64 - 1]),
    "FP16": ("float16", [0.5, -65504.0]),
    "FP32": ("float32", [0.1, -3e38]),
    "FP64": ("float64", [0.1, 1e300]),
}
"""By datatype: the signature of `identities` that returns it, and values up to its limits."""
FIELDS = {"BOOL": "bool", "FP32": "fp32", "FP64": "fp64", "INT64": "int64", "UINT64": "uint64"}


def send(server: Any, path: str, document: Any, raw: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case and body of a POST; `raw` follows the JSON part."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    if raw:
        headers[LENGTH] = str(len(text))
    return post(server, path, text + raw, headers)


def post(server: Any, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def infer(server: Any, path: str, document: Any, raw: bytes = b"") -> Any:
    """The JSON answer of an infer."""
    status, _, body = send(server, f"{path}/infer", document, raw)
    assert status == 200, body
    return json.loads(body)


def tensor(data: Sequence[Any], datatype: str = "FP32", shape: Sequence[int] | None = None, name: str = "x") -> Any:
    return {"name": name, "datatype": datatype, "shape": list(shape or [len(data)]), "data": list(data)}


@pytest.fixture(scope="module")
def stub(tiny_server: Any) -> Iterator[SimpleNamespace]:
    with grpc.insecure_channel(f"127.0.0.1:{tiny_server.grpc_port}") as channel:
        yield grpc_stub(channel, services.INFERENCE)


def request_of(model: str, datatype: str, shape: Sequence[int], raw: bytes | None = None, **contents: Any) -> Any:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    if raw is not None:
        request.raw_input_contents.append(raw)
    for field, values in contents.items():
        getattr(request.inputs[0].contents, field).extend(values)
    return request


@pytest.mark.parametrize("datatype", VALUES)
def test_every_datatype_is_the_same_as_json_as_bytes_and_as_typed_contents(
    tiny_server: Any, stub: SimpleNamespace, datatype: str
) -> None:
    signature, values = VALUES[datatype]
    path, parameters = "/v2/models/identities", {"signature_name": signature}
    [output] = infer(tiny_server, path, {"parameters": parameters, "inputs": [tensor(values, datatype)]})["outputs"]
    dtype = datatypes.DTYPES[datatype]
    expected = np.array(values, dtype)
    assert (output["name"], output["datatype"], output["shape"]) == ("y", datatype, [2])
    assert np.array(output["data"], dtype).tolist() == expected.tolist()

    declared = {**tensor([], datatype, [2]), "parameters": {"binary_data_size": expected.nbytes}}
    del declared["data"]
    document = {"parameters": {**parameters, "binary_data_output": True}, "inputs": [declared]}
    for _ in range(2):  # the second request finds the JSON part and the checked call remembered
        status, headers, body = send(tiny_server, f"{path}/infer", document, expected.tobytes())
        assert status == 200, body
        start = int(headers[LENGTH.lower()])
        [output] = json.loads(body[:start])["outputs"]
        assert output["parameters"] == {"binary_data_size": expected.nbytes}
        assert body[start:] == expected.tobytes()
        assert headers["content-type"] == "application/octet-stream"

    forms: list[dict[str, Any]] = [{"raw": expected.tobytes()}]
    if datatype != "FP16":  # it has no typed contents
        default = "int" if datatype.startswith("INT") else "uint"
        forms.append({f"{FIELDS.get(datatype, default)}_contents": values})
    for form in forms:
        request = request_of("identities", datatype, [2], **form)
        request.parameters["signature_name"].string_param = signature
        response = stub.ModelInfer(request, timeout=30)
        assert response.raw_output_contents[0] == expected.tobytes()
        assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == (datatype, [2])


def test_merged_requests_get_the_bytes_that_they_get_alone(serve: Any, tiny_repository: Any, tiny_server: Any) -> None:
    server = serve("--repository", tiny_repository, "--enable_batching", models=["classifier"])
    images = np.random.default_rng(0).random((8, 1, 2, 2, 1)).astype(np.float32)
    declared = {"name": "image", "datatype": "FP32", "shape": [1, 2, 2, 1], "parameters": {"binary_data_size": 16}}
    text = json.dumps({"inputs": [declared], "parameters": {"binary_data_output": True}}).encode()
    path, bodies = "/v2/models/classifier/infer", [text + image.tobytes() for image in images]
    alone = [post(tiny_server, path, body, {LENGTH: str(len(text))}) for body in bodies]
    connections = [http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30) for _ in images]
    end, merged = time.monotonic() + 30, False
    while not merged and time.monotonic() < end:
        for connection, body in zip(connections, bodies, strict=True):
            connection.request("POST", path, body, {LENGTH: str(len(text))})
        for connection, (status, headers, expected) in zip(connections, alone, strict=True):
            response = connection.getresponse()
            assert (response.status, response.read()) == (status, expected)
            assert response.headers[LENGTH] == headers[LENGTH.lower()]
        [stats] = json.loads(server.get("/v2/models/classifier/stats")[1])["model_stats"]
        merged = any(int(each["batch_size"]) > 1 for each in stats["batch_stats"])
    assert merged
    for connection in connections:
        connection.close()


def test_strings_go_as_text_and_as_bytes_with_their_lengths(tiny_server: Any, stub: SimpleNamespace) -> None:
    path, inputs = "/v2/models/identities", [tensor([1, 0], "INT64", name="id")]
    answer = infer(tiny_server, path, {"parameters": {"signature_name": "words"}, "inputs": inputs})
    assert answer["outputs"] == [{"name": "word_bytes", "datatype": "BYTES", "shape": [2], "data": ["one", "zero"]}]
    outputs = [{"name": "word_bytes", "parameters": {"binary_data": True}}]
    document = {"parameters": {"signature_name": "words"}, "inputs": inputs, "outputs": outputs}
    _, headers, body = send(tiny_server, f"{path}/infer", document)
    assert body[int(headers[LENGTH.lower()]) :] == b"\3\0\0\0one\4\0\0\0zero"
    request = request_of("identities", "INT64", [1], int64_contents=[1])
    request.inputs[0].name = "id"
    request.parameters["signature_name"].string_param = "words"
    assert stub.ModelInfer(request, timeout=30).raw_output_contents[0] == b"\3\0\0\0one"


def test_an_answer_names_model_version_and_the_id_of_the_request(tiny_server: Any, stub: SimpleNamespace) -> None:
    answer = infer(tiny_server, HALF, {"id": "a 7", "inputs": [tensor([[1.0], [3.0]], shape=[2, 1])]})
    assert answer == {
        "model_name": "half_plus_two",
        "model_version": "1",
        "id": "a 7",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [2.5, 3.5]}],
    }
    request = request_of("half_plus_two", "FP32", [1, 1], fp32_contents=[1])
    request.id, request.model_version = "a 7", "1"
    response = stub.ModelInfer(request, timeout=30)
    assert (response.model_name, response.model_version, response.id) == ("half_plus_two", "1", "a 7")
    assert infer(tiny_server, f"{HALF}/versions/1", {"inputs": [tensor([1.0], shape=[1, 1])]})["model_version"] == "1"


def test_outputs_come_in_the_order_asked_and_each_in_its_form(tiny_server: Any) -> None:
    inputs = [tensor([5.0], name="a"), tensor([3.0], name="b")]
    names = [{"name": "total"}, {"name": "difference", "parameters": {"binary_data": True}}]
    document = {"parameters": {"signature_name": "sum"}, "inputs": inputs, "outputs": names}
    _, headers, body = send(tiny_server, "/v2/models/identities/infer", document)
    start = int(headers[LENGTH.lower()])
    total, difference = json.loads(body[:start])["outputs"]
    assert (total["name"], total["data"], difference["name"]) == ("total", [8.0], "difference")
    assert np.frombuffer(body[start:], np.float32).tolist() == [2.0]
    document["outputs"] = [{"name": "difference"}, {"name": "total"}]
    found = infer(tiny_server, "/v2/models/identities", document)["outputs"]
    assert [(output["name"], output["data"]) for output in found] == [("difference", [2.0]), ("total", [8.0])]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bodies_are_compressed_both_ways(tiny_server: Any, coding: str) -> None:
    rows = np.arange(3000, dtype=np.float32).reshape(-1, 1)
    declared = {"name": "x", "datatype": "FP32", "shape": [3000, 1], "parameters": {"binary_data_size": rows.nbytes}}
    text = json.dumps({"inputs": [declared], "parameters": {"binary_data_output": True}}).encode()
    pack = gzip.compress if coding == "gzip" else zlib.compress
    headers = {LENGTH: str(len(text)), "Content-Encoding": coding, "Accept-Encoding": f"br;q=1.0, {coding}"}
    status, answered, body = post(tiny_server, f"{HALF}/infer", pack(text + rows.tobytes()), headers)
    assert (status, answered["content-encoding"]) == (200, coding)
    body = (gzip.decompress if coding == "gzip" else zlib.decompress)(body)
    start = int(answered[LENGTH.lower()])
    assert np.frombuffer(body[start:], np.float32).tolist() == (rows.ravel() / 2 + 2).tolist()


def test_the_classification_extension_answers_scores_and_indices(tiny_server: Any, stub: SimpleNamespace) -> None:
    inputs = [tensor([5.0, 7.0], name="a"), tensor([3.0, 9.0], name="b")]
    outputs = [{"name": "total", "parameters": {"classification": 2}}]
    document = {"parameters": {"signature_name": "sum"}, "inputs": inputs, "outputs": outputs}
    [found] = infer(tiny_server, "/v2/models/identities", document)["outputs"]
    assert (found["datatype"], found["data"]) == ("BYTES", ["16.000000:1", "8.000000:0"])
    request = request_of("half_plus_two", "FP32", [2, 1], fp32_contents=[1, 3])
    request.outputs.add(name="y").parameters["classification"].int64_param = 3
    response = stub.ModelInfer(request, timeout=30)
    assert list(response.outputs[0].shape) == [2, 1]
    assert b"3.500000:0" in response.raw_output_contents[0]


X = tensor([1.0], shape=[1, 1])
RAW = {"name": "x", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": 4}}
WRONG: dict[str, tuple[Any, bytes, str]] = {
    "no JSON": (b"{", b"", "JSON Parse error"),
    "no object": (b"[1]", b"", "Is not object"),
    "no inputs": ({}, b"", "got inputs None; expected a list of objects"),
    "inputs no list": ({"inputs": {"x": 1}}, b"", "expected a list of objects"),
    "an input no object": ({"inputs": [1]}, b"", "got int among the inputs; expected objects"),
    "no name": ({"inputs": [{"datatype": "FP32"}]}, b"", "an input: got name None; expected a string"),
    "no data": ({"inputs": [{k: v for k, v in X.items() if k != "data"}]}, b"", 'input "x" has no data'),
    "an unknown datatype": (
        {"inputs": [{**X, "datatype": "FLOAT"}]},
        b"",
        "got datatype 'FLOAT'; expected one of BOOL,",
    ),
    "shape no list": ({"inputs": [{**X, "shape": 1}]}, b"", "got shape 1; expected a list of integers"),
    "a negative size": ({"inputs": [{**X, "shape": [-1, 1]}]}, b"", "got shape [-1, 1]; expected its real sizes"),
    "too many elements": ({"inputs": [{**X, "shape": [2**40, 2**40]}]}, b"", "more elements than can be counted"),
    "too few values": ({"inputs": [{**X, "shape": [2, 1]}]}, b"", "got 1 values; shape [2, 1] has 2"),
    "a ragged list": ({"inputs": [{**X, "data": [[1.0], 2.0]}]}, b"", "mixes lists and values"),
    "text for a number": ({"inputs": [{**X, "data": ["1"]}]}, b"", "got '1'; expected a value of FP32"),
    "true for a number": ({"inputs": [{**X, "data": [True]}]}, b"", "got True; expected a value of FP32"),
    "another datatype": ({"inputs": [{**X, "datatype": "FP64"}]}, b"", 'got input "x" of FP64; expected FP32 [-1, 1]'),
    "another shape": ({"inputs": [{**X, "shape": [1]}]}, b"", 'got input "x" FP32 [1]; expected FP32 [-1, 1]'),
    "another input": ({"inputs": [{**X, "name": "z"}]}, b"", 'got an input "z"; expected x FP32 [-1, 1]'),
    "a missing input": ({"inputs": []}, b"", 'the input "x" is missing; expected x FP32 [-1, 1]'),
    "an input twice": ({"inputs": [X, X]}, b"", "an input is given twice"),
    "another output": ({"inputs": [X], "outputs": [{"name": "z"}]}, b"", 'got the requested output "z"; expected y'),
    "an output twice": (
        {"inputs": [X], "outputs": [{"name": "y"}, {"name": "y"}]},
        b"",
        'output "y" is requested twice',
    ),
    "another signature": (
        {"inputs": [X], "parameters": {"signature_name": "z"}},
        b"",
        'got signature "z"; expected one of classify_x, regress_x, serving_default',
    ),
    "a sequence": ({"inputs": [X], "parameters": {"sequence_id": 3}}, b"", "does not support a sequence of requests"),
    "shared memory": (
        {"inputs": [{**RAW, "parameters": {"shared_memory_region": "r"}}]},
        b"",
        "does not support shared memory",
    ),
    "too few bytes": (
        {"inputs": [RAW]},
        b"\0\0\0",
        "got 3 bytes after the JSON part; the inputs' binary_data_size are 4",
    ),
    "bytes that nothing declares": ({"inputs": [X]}, b"\0", "got 1 bytes after the JSON part"),
    "bytes of another size": (
        {"inputs": [{**RAW, "parameters": {"binary_data_size": 8}}]},
        b"\0" * 8,
        "got 8 bytes; FP32 [1, 1] has 4",
    ),
    "data and bytes": ({"inputs": [{**RAW, "data": [1.0]}]}, b"\0" * 4, "both data and binary_data_size"),
    "a size that is no number": (
        {"inputs": [{**RAW, "parameters": {"binary_data_size": "4"}}]},
        b"\0" * 4,
        "got binary_data_size '4'",
    ),
    "strings cut off": (
        {"inputs": [{**RAW, "datatype": "BYTES", "shape": [1]}]},
        b"\5\0\0\0",
        "element 0 of BYTES ends beyond",
    ),
    "a timeout that is no number": ({"inputs": [X], "parameters": {"timeout": "1"}}, b"", "expected microseconds"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_gets_400_and_one_sentence(tiny_server: Any, case: str) -> None:
    document, raw, sentence = WRONG[case]
    status, headers, body = send(tiny_server, f"{HALF}/infer", document, raw)
    assert (status, headers["content-type"]) == (400, "application/json"), body
    assert sentence in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("headers", "status", "sentence"),
    [
        ({LENGTH: "x"}, 400, "got Inference-Header-Content-Length 'x'"),
        ({LENGTH: "-1"}, 400, "got Inference-Header-Content-Length '-1'"),
        ({LENGTH: "999"}, 400, "got Inference-Header-Content-Length 999; the body has"),
        ({LENGTH: "9" * 30}, 400, "expected the bytes of the JSON part"),
        ({"Content-Encoding": "br"}, 400, "got Content-Encoding 'br'; expected gzip, deflate or identity"),
        ({"Content-Encoding": "gzip"}, 400, "JSON Parse error"),
    ],
)
def test_headers_that_lie_are_refused(tiny_server: Any, headers: dict[str, str], status: int, sentence: str) -> None:
    found, _, body = post(tiny_server, f"{HALF}/infer", json.dumps({"inputs": [X]}).encode(), headers)
    assert found == status
    assert sentence in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/nope/ready", 404),
        ("POST", "/v2/models/nope/infer", 404),
        ("POST", "/v2/models/half_plus_two/versions/9/infer", 404),
        ("GET", "/v2/models/half_plus_two/versions/9223372036854775808", 400),
        ("GET", "/v2/models/half_plus_two/versions/canary", 400),
        ("GET", "/v2/models/half_plus_two/infer", 405),
        ("POST", "/v2/health/ready", 405),
        ("GET", "/v2/repository/models/half_plus_two/load", 405),
        ("GET", "/v2/models/half_plus_two/nothing", 404),
        ("GET", "/v2/nothing", 404),
        ("PUT", "/v2/models/half_plus_two", 405),
    ],
)
def test_every_error_below_v2_is_json(tiny_server: Any, method: str, path: str, status: int) -> None:
    body = json.dumps({"inputs": [X]}).encode() if method == "POST" else None
    found, answer = tiny_server.send(method, path, body)
    assert found == status
    assert json.loads(answer)["error"]


def test_millions_of_tiny_strings_are_refused_before_they_are_made(serve: Any, tiny_repository: Any) -> None:
    server = serve("--repository", tiny_repository, "--max_request_bytes=3200000", models=["half_plus_two"])
    count = 100_001
    declared = {"name": "x", "datatype": "BYTES", "shape": [count]}
    sentence = f"got {count} elements of BYTES; expected at most 100000 in a request"
    binary = {"inputs": [{**declared, "parameters": {"binary_data_size": 4 * count}}]}
    status, _, body = send(server, f"{HALF}/infer", binary, b"\0" * (4 * count))
    assert (status, sentence in body.decode()) == (400, True), body
    status, _, body = send(server, f"{HALF}/infer", {"inputs": [{**declared, "data": [""] * count}]})
    assert (status, sentence in body.decode()) == (400, True), body
    status, _, body = send(server, f"{HALF}/infer", {"inputs": [{**declared, "data": [""] * 3 * count}]})
    assert (status, "got about 300" in body.decode()) == (400, True), body
    status, _, body = send(server, "/v1/models/half_plus_two:predict", {"instances": [""] * 3 * count})
    assert (status, "got about 300" in body.decode()) == (400, True), body
    fewer = {"inputs": [{**declared, "shape": [1000], "data": ['"' * 600] * 1000}]}  # quotes inside texts do not count
    status, _, body = send(server, f"{HALF}/infer", fewer)
    assert (status, "got input" in body.decode()) == (400, True), body
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = grpc_stub(channel, services.INFERENCE)
        for form in ({"raw": b"\0" * (4 * count)}, {"bytes_contents": [b""] * count}):
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(request_of("half_plus_two", "BYTES", [count], **form), timeout=30)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert sentence in caught.value.details()
        request = request_of("half_plus_two", "BYTES", [count], bytes_contents=[b""] * count)
        request.inputs.add(name="y", datatype="BYTES", shape=[-count])
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request, timeout=30)
        assert sentence in caught.value.details()
        predict = pb.PredictRequest(model_spec={"name": "half_plus_two"})
        tensors.fill(predict.inputs["x"], np.full(count, b"", object))
        with pytest.raises(grpc.RpcError) as caught:
            grpc_stub(channel, services.PREDICTION).Predict(predict, timeout=30)
        assert f"got {count} strings; expected at most 100000" in caught.value.details()


WRONG_MESSAGES: dict[str, tuple[Any, str, str]] = {
    "an unknown model": (request_of("nope", "FP32", [1, 1], fp32_contents=[1]), "NOT_FOUND", "nope"),
    "an unknown datatype": (request_of("half_plus_two", "F", [1, 1], fp32_contents=[1]), "INVALID_ARGUMENT", "'F'"),
    "a negative size": (request_of("half_plus_two", "FP32", [-1, 1], raw=b""), "INVALID_ARGUMENT", "real sizes"),
    "too few values": (request_of("half_plus_two", "FP32", [2, 1], fp32_contents=[1]), "INVALID_ARGUMENT", "has 2"),
    "another field": (request_of("half_plus_two", "FP32", [1, 1], int_contents=[1]), "INVALID_ARGUMENT", "got 0 fp32"),
    "both forms": (
        request_of("half_plus_two", "FP32", [1, 1], raw=b"\0" * 4, fp32_contents=[1]),
        "INVALID_ARGUMENT",
        "beside",
    ),
    "too few bytes": (request_of("half_plus_two", "FP32", [1, 1], raw=b"\0"), "INVALID_ARGUMENT", "got 1 bytes"),
    "an integer too large": (
        request_of("half_plus_two", "INT8", [1], int_contents=[300]),
        "INVALID_ARGUMENT",
        "got 300",
    ),
    "half precision without bytes": (
        request_of("half_plus_two", "FP16", [1, 1]),
        "INVALID_ARGUMENT",
        "raw_input_contents",
    ),
}


@pytest.mark.parametrize("case", WRONG_MESSAGES)
def test_a_wrong_message_gets_its_code_and_one_sentence(stub: SimpleNamespace, case: str) -> None:
    request, code, sentence = WRONG_MESSAGES[case]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request, timeout=30)
    assert caught.value.code().name == code
    assert sentence in caught.value.details()


@pytest.mark.parametrize("backend", ["native", "grpcio"])
def test_a_stream_answers_in_order_and_survives_an_error(
    tiny_server: Any, serve: Any, tiny_repository: Any, backend: str
) -> None:
    server = tiny_server
    if backend == "grpcio":
        server = serve("--repository", tiny_repository, "--grpc_backend=grpcio", models=["half_plus_two"])
    requests = [
        request_of(name, "FP32", [1, 1], fp32_contents=[1]) for name in ("half_plus_two", "no", "half_plus_two")
    ]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        answers = list(grpc_stub(channel, services.INFERENCE).ModelStreamInfer(iter(requests), timeout=30))
    assert [answer.error_message for answer in answers] == ["", "Servable not found for request: Latest(no)", ""]
    assert np.frombuffer(answers[2].infer_response.raw_output_contents[0], np.float32).tolist() == [2.5]


def test_what_the_server_says_of_itself_and_of_its_models(tiny_server: Any, stub: SimpleNamespace) -> None:
    def ask(path: str) -> Any:
        status, body = tiny_server.get(path)
        assert status == 200, body
        return json.loads(body)

    server = ask("/v2")
    assert server["name"] == "ladle"
    assert "binary_tensor_data" in server["extensions"]
    assert stub.ServerMetadata(pb.ServerMetadataRequest()).version == server["version"]
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert ask("/v2/models") == ask("/v1/models")
    assert "half_plus_two" in ask("/v2/models")["models"]
    assert ask("/") == {"status": "alive"}  # what KServe's V1 has
    assert ask(f"{HALF}/ready") == {"name": "half_plus_two", "ready": True}
    assert stub.ModelReady(pb.ModelReadyRequest(name="half_plus_two", version="1")).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="nope")).ready
    x, y = ({"name": name, "datatype": "FP32", "shape": [-1, 1]} for name in "xy")
    metadata = {
        "name": "half_plus_two",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [x],
        "outputs": [y],
    }
    assert ask(HALF) == ask(f"{HALF}/versions/1") == metadata
    assert stub.ModelMetadata(pb.ModelMetadataRequest(name="half_plus_two")) == pb.ModelMetadataResponse(**metadata)
    config = ask(f"{HALF}/config")
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 1], "optional": False}]
    assert "serving_default" in config["parameters"]["signatures"]["string_value"]
    message = stub.ModelConfig(pb.ModelConfigRequest(name="half_plus_two")).config
    assert (message.name, message.backend, message.input[0].dims) == ("half_plus_two", "onnxruntime", [-1, 1])
    index = json.loads(tiny_server.send("POST", "/v2/repository/index", b'{"ready": true}')[1])
    assert {"name": "half_plus_two", "version": "1", "state": "READY", "reason": ""} in index
    assert {row.name for row in stub.RepositoryIndex(pb.RepositoryIndexRequest()).models} >= {"half_plus_two"}


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_statistics_are_of_each_version_over_both_protocols(
    serve: Any, tiny: Any, repository: Any, tmp_path: Any, workers: int
) -> None:
    for version in (1, 2):
        tiny.half_plus(version).write(repository / "m", version)
    config = tmp_path / "models.config"
    policy = "model_version_policy { all {} }"
    base = f'name: "m" base_path: "{repository / "m"}" model_platform: "tensorflow" {policy}'
    config.write_text(f"model_config_list {{ config {{ {base} }} }}")
    server = serve(f"--model_config_file={config}", f"--workers={workers}", models=["m"])
    server.wait_for_state("m", 1, "AVAILABLE")
    before = time.time() * 1000
    infer(server, "/v2/models/m/versions/1", {"inputs": [tensor([1.0, 2.0], shape=[2, 1])]})
    assert server.send("POST", "/v1/models/m/versions/1:predict", b'{"instances": [1.0]}')[0] == 200
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = grpc_stub(channel, services.INFERENCE)
        stub.ModelInfer(request_of("m", "FP32", [1, 1], fp32_contents=[1]), timeout=30)
        for wrong in (request_of("m", "FP32", [1, 1], raw=b""), request_of("m", "FP64", [1], fp64_contents=[1])):
            with pytest.raises(grpc.RpcError):
                stub.ModelInfer(wrong, timeout=30)
        messages = stub.ModelStatistics(pb.ModelStatisticsRequest(name="m")).model_stats
        (second,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="m", version="2")).model_stats
    rows = {row["version"]: row for row in json.loads(server.get("/v2/models/m/stats")[1])["model_stats"]}
    assert {version: (row["inference_count"], row["execution_count"]) for version, row in rows.items()} == {
        "1": (3, 2),
        "2": (1, 1),
    }
    assert {
        v: (r["inference_stats"]["success"]["count"], r["inference_stats"]["fail"]["count"]) for v, r in rows.items()
    } == {
        "1": (2, 0),
        "2": (1, 2),
    }
    assert {v: [(b["batch_size"], b["compute_infer"]["count"]) for b in r["batch_stats"]] for v, r in rows.items()} == {
        "1": [(1, 1), (2, 1)],
        "2": [(1, 1)],
    }
    for row in rows.values():
        assert all(batch["compute_infer"]["ns"] > 0 for batch in row["batch_stats"])
        assert before - 1000 <= row["last_inference"] <= time.time() * 1000 + 1000
        stats = row["inference_stats"]
        parts = [stats[part]["count"] for part in ("compute_input", "compute_infer", "compute_output")]
        assert len(set(parts)) == 1  # perf_analyzer ends otherwise
        assert stats["success"]["ns"] >= stats["compute_infer"]["ns"] > 0
        assert stats["success"]["ns"] == pytest.approx(stats["queue"]["ns"] + stats["compute_infer"]["ns"], abs=10)
    assert [(m.version, m.inference_count) for m in messages] == [("2", 1), ("1", 3)]
    assert (second.version, second.inference_stats.fail.count) == ("2", 2)
    everything = json.loads(server.get("/v2/models/stats")[1])["model_stats"]
    assert sorted((row["name"], row["version"]) for row in everything) == [("m", "1"), ("m", "2")]


def test_the_timeout_of_a_request_is_its_deadline(serve: Any, tiny: Any, tmp_path: Any) -> None:
    tiny.looping().write(tmp_path / "looping", 1)
    server = serve("--repository", tmp_path, models=["looping"])
    document = {"parameters": {"timeout": 1000}, "inputs": [tensor([3_000_000], "INT64")]}
    status, _, body = send(server, "/v2/models/looping/infer", document)
    assert status == 504, body


@given(st.lists(st.binary(max_size=9)))
def test_strings_read_back_from_their_bytes(strings: list[bytes]) -> None:
    array = np.empty(len(strings), object)
    array[:] = strings
    raw = datatypes.pack(array)
    assert datatypes.unpack("x", "BYTES", [len(strings)], raw).tolist() == strings
    for wrong in (raw + b"\0", raw[:-1] if raw else b"\1", raw[:3] if raw else b"\1\0"):
        with pytest.raises(InvalidArgument):
            datatypes.unpack("x", "BYTES", [len(strings)], wrong)


@given(st.lists(st.floats(width=32), min_size=1, max_size=8))
def test_bfloat16_of_json_numbers_is_the_nearest(values: list[float]) -> None:
    import ml_dtypes

    from ladle.serving.rest.open_inference.request import Input, from_json

    found = tensors.widen(from_json(Input("x", "BF16", (len(values),), values)))
    expected = np.array(values, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(found, expected)
