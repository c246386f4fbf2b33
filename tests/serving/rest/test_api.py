"""REST only: routes, JSON formats, statuses."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import threading
from typing import Any, cast

import numpy as np
import pytest

from ladle.serving.rest import routes
from ladle.serving.rest.api import RestApi
from ladle.serving.rest.http.messages import Request

PREDICT = "/v1/models/half_plus_two:predict"


def post(server: Any, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, answer = server.send("POST", path, data, **headers)
    return status, json.loads(answer) if answer else None


def predict(server: Any, signature: str, body: dict[str, Any], model: str = "identities") -> Any:
    status, answer = post(server, f"/v1/models/{model}:predict", {"signature_name": signature, **body})
    assert status == 200, answer
    return answer


@pytest.mark.parametrize(
    ("signature", "body", "answer"),
    [
        ("float32", {"instances": [1, 2.5]}, {"predictions": [1.0, 2.5]}),
        ("float32", {"inputs": [1, 2.5]}, {"outputs": [1.0, 2.5]}),
        ("float32", {"inputs": {"x": [1]}}, {"outputs": [1.0]}),
        ("float32", {"instances": [{"x": 1}, {"x": 2}]}, {"predictions": [1.0, 2.0]}),
        ("float32", {"inputs": {"x": [1], "surplus": 0}}, {"outputs": [1.0]}),
        (
            "sum",
            {"instances": [{"a": 1, "b": 2}, {"a": 3, "b": 5}]},
            {"predictions": [{"difference": -1.0, "total": 3.0}, {"difference": -2.0, "total": 8.0}]},
        ),
        ("sum", {"inputs": {"a": [1], "b": [2]}}, {"outputs": {"difference": [-1.0], "total": [3.0]}}),
        ("words", {"instances": [1, 0]}, {"predictions": [{"b64": "b25l"}, {"b64": "emVybw=="}]}),
        ("int64", {"instances": [9223372036854775807]}, {"predictions": [9223372036854775807]}),
    ],
    ids=["row", "column", "named column", "named rows", "surplus", "two rows", "two columns", "bytes", "int64"],
)
def test_predict_answers_in_the_format_of_the_request(tiny_server: Any, signature: str, body: Any, answer: Any) -> None:
    assert predict(tiny_server, signature, body) == answer


def test_numbers_that_are_not_finite_are_read_and_written(tiny_server: Any) -> None:
    body = b'{"signature_name": "float32", "instances": [NaN, Infinity, -Infinity, Inf, -Inf, 1.5]}'
    status, answer = tiny_server.send("POST", "/v1/models/identities:predict", body)
    assert status == 200
    assert answer.replace(b" ", b"").strip() == b'{"predictions":[NaN,Infinity,-Infinity,Infinity,-Infinity,1.5]}'


def test_floats_beyond_their_dtype_become_infinite(tiny_server: Any) -> None:
    assert predict(tiny_server, "float32", {"instances": [1e39, -1e39, 1e-60]}) == {
        "predictions": [float("inf"), float("-inf"), 0.0]
    }


def test_every_float_reads_back_to_the_same_value(tiny_server: Any) -> None:
    numbers = np.random.default_rng(3).standard_normal(200).astype(np.float32)
    answer = predict(tiny_server, "float32", {"instances": [float(n) for n in numbers]})
    assert np.array(answer["predictions"], np.float32).tolist() == numbers.tolist()


def test_text_after_the_object_is_ignored(tiny_server: Any) -> None:
    assert post(tiny_server, PREDICT, b'{"instances": [[1.0]]} and more') == (200, {"predictions": [[2.5]]})


def test_a_gzip_body_is_decompressed(tiny_server: Any) -> None:
    body = gzip.compress(b'{"instances": [[1.0]]}')
    assert post(tiny_server, PREDICT, body, **{"Content-Encoding": "gzip"}) == (200, {"predictions": [[2.5]]})


FAULTS = {
    "empty body": (b"", "JSON Parse error: The document is empty"),
    "no JSON": (b"{", "JSON Parse error: Missing a name for object member. at offset: 1"),
    "no value": (b'{"instances": [1,]}', "JSON Parse error: Invalid value. at offset: 17"),
    "no object": (b"[1]", "JSON Value: [1] Is not object"),
    "neither key": (b"{}", "Missing 'inputs' or 'instances' key"),
    "both keys": (
        b'{"instances": [1], "inputs": [1]}',
        'JSON Value: {"instances":[1],"inputs":[1]} Not formatted correctly expecting only one of '
        "'inputs' or 'instances' keys to exist ",
    ),
    "no rows": (b'{"instances": []}', "JSON Value: [] No values in 'instances' array"),
    "no list": (b'{"instances": 1}', "JSON Value: 1 Expecting 'instances' to be an list/array"),
    "signature name": (
        b'{"signature_name": 1}',
        "JSON Value: {\"signature_name\":1} not formatted correctly. 'signature_name' key must be a string value.",
    ),
    "unknown signature": (
        b'{"signature_name": "nope", "instances": [1]}',
        'Serving signature name: "nope" not found in signature def',
    ),
    "string for a number": (
        b'{"instances": [["a"]]}',
        "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
        'JSON Value: "a" Type: String is not of expected type: float',
    ),
    "uneven rows": (
        b'{"instances": [[1], [1, 2]]}',
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
        "Expecting tensor size: 1 but got: 2",
    ),
    "uneven depth": (
        b'{"instances": [[1], [[1]]]}',
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [1] but got: [1,1]",
    ),
    "uneven column": (
        b'{"inputs": [[1], [1, 2]]}',
        "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
    ),
    "list for a value": (b'{"inputs": [1, [1]]}', "Encountered list at unexpected level: 1 expected < 1"),
    "value for a list": (
        b'{"inputs": [[1], 1]}',
        "JSON Value: 1 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
    ),
    "unknown name": (
        b'{"instances": [{"z": 1}]}',
        "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: "
        "JSON object: does not have named input: z",
    ),
    "list after objects": (
        b'{"instances": [{"x": 1}, 1]}',
        "Expecting object but got list at item 1 of input list",
    ),
    "object after lists": (
        b'{"instances": [1, {"x": 1}]}',
        "Expecting value/list but got object at item 1 of input list",
    ),
    "missing column": (b'{"inputs": {"z": 1}}', "Missing named input: x in 'inputs' object."),
}


@pytest.mark.parametrize(("body", "message"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_body_is_refused(tiny_server: Any, body: bytes, message: str) -> None:
    assert post(tiny_server, PREDICT, body) == (400, {"error": message})


@pytest.mark.parametrize(
    ("signature", "value", "message"),
    [
        ("int64", "1.0", "JSON Value: 1.0 Type: Number is not of expected type: int64"),
        (
            "int64",
            "9223372036854775808",
            "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64",
        ),
        ("int32", "2147483648", "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        ("uint64", "-1", "JSON Value: -1 Type: Number is not of expected type: uint64"),
        ("bool", "1", "JSON Value: 1 Type: Number is not of expected type: bool"),
        ("float32", "true", "JSON Value: true Type: True is not of expected type: float"),
        ("float32", "null", "JSON Value: null Type: Null is not of expected type: float"),
        ("float16", "1.0", "Conversion of JSON Value: 1.0 to type: half"),
    ],
)
def test_a_value_of_another_type_is_refused(tiny_server: Any, signature: str, value: str, message: str) -> None:
    body = f'{{"signature_name": "{signature}", "inputs": [{value}]}}'.encode()
    status, answer = post(tiny_server, "/v1/models/identities:predict", body)
    assert answer == {"error": message}
    assert status == (501 if signature == "float16" else 400)


def test_narrow_integers_wrap(tiny_server: Any) -> None:
    assert predict(tiny_server, "uint8", {"instances": [300, -1]}) == {"predictions": [44, 255]}


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/models/m/", 400, "Malformed request: GET /v1/models/m/"),
        ("GET", "/v1/models/m/versions/-1", 400, "Malformed request: GET /v1/models/m/versions/-1"),
        ("GET", "/v1/models/m/versions/1/labels/a", 400, "Malformed request: GET /v1/models/m/versions/1/labels/a"),
        ("POST", "/v1/models/m:PREDICT", 400, "Malformed request: POST /v1/models/m:PREDICT"),
        ("POST", "/v1/models/m:predict?x=1", 400, "Malformed request: POST /v1/models/m:predict?x=1"),
        ("PUT", "/v1/models/m", 400, "Malformed request: PUT /v1/models/m"),
        ("GET", "/v1/models/m?x=1", 404, "Could not find any versions of model m?x=1"),
        ("GET", "/v1/models/a%2Fb", 404, "Could not find any versions of model a/b"),
        ("GET", "/v1/models/nope/metadata", 404, "Servable not found for request: Latest(nope)"),
        ("POST", "/v1/models/nope:predict", 404, "Servable not found for request: Latest(nope)"),
        ("POST", "/v1/models/nope:classify", 400, "JSON Value: {} When method is classify, key 'examples' is expected"),
    ],
)
def test_a_wrong_path_gets_an_error(tiny_server: Any, method: str, path: str, status: int, message: str) -> None:
    found, answer = tiny_server.send(method, path, b"{}" if method == "POST" else None)
    assert found == status
    assert json.loads(answer)["error"].startswith(message)


def test_routes_of_long_paths_are_not_cached() -> None:
    path = "/v1/models/" + "m" * 1000
    before = routes.cached_route.cache_info()
    api = RestApi(cast(Any, None))
    assert asyncio.run(api(Request("PUT", path.encode(), {}, b"", 0.0)))[0] == 400
    assert routes.cached_route.cache_info() == before


@pytest.mark.parametrize("path", ["/v1/models/m:predict", "/v1/models/m:classify", "/v2/models/m/infer"])
def test_an_inference_that_the_server_read_too_late_is_refused(path: str) -> None:
    api = RestApi(cast(Any, None), max_unread_s=1.5)
    status, body, headers = asyncio.run(api(Request("POST", path.encode(), {}, b"{}", 0.0, 2.0)))
    assert (status, b"retry-after: 1" in headers) == (503, True)
    assert json.loads(body)["error"].startswith("the server is overloaded")


def test_paths_match_in_any_case_but_verbs_do_not(tiny_server: Any) -> None:
    assert tiny_server.get("/V1/Models/half_plus_two")[0] == 200
    status, body = tiny_server.get("/v1/models/half_plus_two/METADATA")
    assert status == 200
    assert "model_version_status" in json.loads(body)


def test_a_version_beyond_int64_gets_an_empty_400(tiny_server: Any) -> None:
    assert tiny_server.get(f"/v1/models/half_plus_two/versions/{2**63}") == (400, b"")


def test_paths_outside_v1_are_not_found(tiny_server: Any) -> None:
    for path in ("/v1", "/v3"):
        status, body = tiny_server.get(path)
        assert status == 404
        assert body.startswith(b"<html>")


def test_malformed_json_is_reported_before_an_unknown_model(tiny_server: Any) -> None:
    assert post(tiny_server, "/v1/models/nope:predict", b"{")[0] == 400


def test_health_and_index_answer(tiny_server: Any) -> None:
    assert tiny_server.get("/v2/health/live")[0] == 200
    assert tiny_server.get("/v2/health/ready")[0] == 200
    index = json.loads(tiny_server.send("POST", "/v2/repository/index")[1])
    assert {"name": "classifier", "version": "1", "state": "READY", "reason": ""} in index


def test_head_is_get_without_a_body_but_below_v1_upstream_refuses_it(tiny_server: Any) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2"):
        assert tiny_server.send("HEAD", path) == (200, b"")
    assert tiny_server.send("HEAD", "/v2/nothing")[0] == 404
    assert tiny_server.send("HEAD", "/v1/models/half_plus_two") == (400, b"")


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([1], "Example must be JSON object but got JSON Number"),
        ([{"x": [1.0, "a"]}], "Unexpected element type in feature: x expecting type: float"),
        ([{"x": None}], "Feature: x has element with unexpected JSON type: Null"),
        ([{"x": 2**63}], "Feature: x has uint64_t element. Only int64_t is supported."),
        ([], "JSON Value: [] 'examples' value is an empty array"),
    ],
)
def test_faulty_examples_are_refused(tiny_server: Any, examples: Any, message: str) -> None:
    body = {"signature_name": "regress_x", "examples": examples}
    assert post(tiny_server, "/v1/models/half_plus_two:regress", body) == (400, {"error": message})


def test_a_feature_name_that_is_not_text_is_an_invalid_argument(tiny_server: Any) -> None:
    body = b'{"signature_name": "regress_x", "examples": [{"\xff": 1.0}]}'
    answer = post(tiny_server, "/v1/models/half_plus_two:regress", body)
    assert answer == (400, {"error": "A feature's name is not UTF-8 text"})


def test_the_context_is_merged_into_each_example(tiny_server: Any) -> None:
    body = {"signature_name": "regress_x", "context": {"x": 6.0}, "examples": [{}, {"x": 8.0}]}
    assert post(tiny_server, "/v1/models/half_plus_two:regress", body) == (200, {"results": [5.0, 6.0]})


def test_only_two_large_bodies_are_read_at_once_even_when_their_clients_leave() -> None:
    core: Any = None
    go_on, running = threading.Event(), 0

    def read() -> None:
        nonlocal running
        running += 1
        assert go_on.wait(30)
        raise ValueError("no JSON")

    async def send() -> None:
        nonlocal running
        api, said = RestApi(core), []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
        sent = [asyncio.create_task(api._run_large(read)) for _ in range(4)]
        while running < 2:
            await asyncio.sleep(0)
        for task in sent[:2]:
            task.cancel()
        await asyncio.wait(sent, timeout=0.2)
        assert running == 2
        go_on.set()
        ends = await asyncio.gather(*sent, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError] * 2 + [ValueError] * 2
        assert running == 4
        del sent, ends
        gc.collect()
        assert not said

    asyncio.run(send())


def test_a_large_body_is_refused(serve: Any, tiny_repository: Any) -> None:
    server = serve("--repository", tiny_repository, "--max_request_bytes=1000", models=["half_plus_two"])
    bomb = gzip.compress(b'{"instances": [' + b" " * 100_000 + b"]}")
    assert len(bomb) < 1000
    for status, answer in (
        post(server, PREDICT, b" " * 1001),
        post(server, PREDICT, bomb, **{"Content-Encoding": "gzip"}),
    ):
        assert (status, answer) == (413, {"error": "the request's body is larger than 1000 bytes"})
    server.stop()
