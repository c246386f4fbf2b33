"""Inputs that no honest client sends: seeded, over both protocols and both gRPC servers.

Each gets an answer that blames the client, or a closed connection, within seconds; afterwards the server answers as
before. A small share runs always; `pytest -m slow` runs all 12,000.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from tests.stubs import grpc_stub

WAIT_S = 20.0
ONE = {"instances": [[1.0]]}
FLAGS = ("--max_request_bytes=1000000", "--max_header_bytes=8192", "--request_read_seconds=3", "--max_json_depth=40")
Make = Callable[[random.Random], bytes]


@pytest.fixture(scope="module", params=["native", "grpcio"])
def server(request: pytest.FixtureRequest, serve: Any, tiny_repository: Path) -> Any:
    models = sorted(path.name for path in tiny_repository.iterdir())
    return serve("--repository", tiny_repository, f"--grpc_backend={request.param}", *FLAGS, models=models)


@pytest.fixture(autouse=True)
def unharmed(server: Any) -> Iterator[None]:
    """After each test the server is the same process, still answers, and has not grown by 400 MB."""
    before, pid = memory(server), server.pid
    yield
    assert server.process.poll() is None, server.log.read_text()[-3000:]
    assert server.pid == pid, server.log.read_text()[-3000:]
    status, body = server.send("POST", "/v1/models/half_plus_two:predict", json.dumps(ONE).encode())
    assert (status, json.loads(body)) == (200, {"predictions": [[2.5]]})
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        answer = grpc_stub(channel, services.PREDICTION).Predict(predict_request(), timeout=WAIT_S)
    assert list(answer.outputs["y"].float_val) == [2.5]
    assert memory(server) - before < 400, "MB that the server has kept"
    assert b"Traceback" not in server.log.read_bytes()


def memory(server: Any) -> float:
    """Resident memory in MB; 0 where /proc is missing."""
    statm = Path(f"/proc/{server.pid}/statm")
    return int(statm.read_text().split()[1]) * 4096 / 1e6 if statm.exists() else 0.0


def predict_request() -> Any:
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="half_plus_two"))
    tensors.fill(request.inputs["x"], np.array([[1.0]], np.float32))
    return request


# JSON


def json_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(12 if depth < 6 else 8)
    if kind < 8:
        numbers = [0, -1, 1.5, 1e308, 2**63, -(2**64), 10**400, 255, 2**31, -0.0, float("nan"), float("inf")]
        values = [None, True, False, "a", "", "\ud800", "\0", "b64", {"b64": "?"}, {"b64": "AA"}, {"b64": 1}, {}]
        return rng.choice([*numbers, *values])
    if kind < 10:
        return [json_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    keys = ["instances", "inputs", "x", "b64", "signature_name", "examples", "context", "a", "b", ""]
    return {rng.choice(keys): json_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def json_body(rng: random.Random) -> bytes:
    key = rng.choice(["instances", "inputs", "examples", "instances"])
    names = ["", "float32", "uint8", "int64", "bool", "sum", "words", "float16", "classify_x", "serving_bytes", "no"]
    document = {"signature_name": rng.choice(names), key: json_value(rng)}
    if rng.random() < 0.2:
        document["context"] = json_value(rng)
    return json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def spoiled_body(rng: random.Random) -> bytes:
    body = bytearray(rng.choice([json.dumps(ONE).encode(), json_body(rng), b'{"instances": [[1,2],[3,4]]}']))
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(body) + 1)
        change = rng.randrange(3)
        if change == 0:
            body[at:at] = bytes([rng.choice(b'{}[]",:\\0e-.nIN\x00\xff \n')])
        elif change == 1:
            del body[at : at + rng.randrange(1, 9)]
        else:
            body[at:at] = body[: rng.randrange(len(body) + 1)]
    return bytes(body)


def extreme_body(rng: random.Random) -> bytes:
    size = rng.choice([10, 1000, 100_000, 400_000])
    return rng.choice(
        [
            lambda: b'{"instances": ' + b"[" * size,
            lambda: b'{"instances": ' + b"[" * size + b"]" * size + b"}",
            lambda: b'{"a":' * size + b"1" + b"}" * size,
            lambda: b'{"instances": [' + b"9" * size + b"]}",
            lambda: b'{"instances": [1e' + b"9" * size + b"]}",
            lambda: b'{"instances": [0.' + b"3" * size + b"]}",
            lambda: b'{"instances": ["' + b'\\"' * size,
            lambda: b'Inf "' + b'\\"' * size,
            lambda: b'{"Inf": "' + b"\\" * size,
            lambda: b"{" + b'"a": 1,' * size,
            lambda: b'{"instances": [' + b"1," * size + b"1]}",
            lambda: b'{"instances": [[1], ' + b"[1,1]," * size + b"1]}",
            lambda: b'{"context": {"x": "' + b"a" * size + b'"}, "examples": [' + b"{}," * size + b"{}]}",
            lambda: b" " * size,
            lambda: b"\xef\xbb\xbf" * size,
        ]
    )()


# HTTP


def http_request(rng: random.Random) -> bytes:
    """Well-formed HTTP around a hostile body, or to a hostile path."""
    body = rng.choice([json_body, spoiled_body, spoiled_body, extreme_body])(rng)
    headers = b""
    if rng.random() < 0.15:
        packed = rng.choice([gzip.compress(body), gzip.compress(b" " * 3_000_000), gzip.compress(body)[:-9], body])
        body, headers = packed, b"Content-Encoding: gzip\r\n"
    names = [b"half_plus_two", b"identities", b"classifier", b"nope", b"%2e%2e%2f", b"%ff", b"a" * 300]
    verbs = [b":predict", b":classify", b":regress", b":PREDICT", b"/metadata", b"", b":predict?x=1"]
    versions = [b"", b"", b"/versions/1", b"/versions/" + b"9" * rng.choice([1, 18, 19, 400]), b"/labels/%00"]
    path = b"/v1/models/" + rng.choice(names) + rng.choice(versions) + rng.choice(verbs)
    if rng.random() < 0.1:
        path = b"/" + bytes(rng.choice(b"/:%.?&#v1models~") for _ in range(rng.randrange(40)))
    method = rng.choice([b"POST"] * 6 + [b"GET", b"PUT", b"HEAD", b"OPTIONS", b"DELETE"])
    head = b"%b %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n%b\r\n" % (method, path, len(body), headers)
    return head + body


def broken_http(rng: random.Random) -> bytes:
    good = http_request(rng)[:5000]
    at = rng.randrange(len(good))
    line = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: h\r\n"
    size = rng.choice([10, 1000, 100_000])
    return rng.choice(
        [
            lambda: rng.randbytes(rng.randrange(1, 300)),
            lambda: good[:at] + rng.randbytes(3) + good[at:],
            lambda: good[:at],
            lambda: line + b"Content-Length: -5\r\n\r\n",
            lambda: line + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
            lambda: line + b"Content-Length: 99999999999999999999\r\n\r\n",
            lambda: line + b"Content-Length: 5000000\r\n\r\n" + b"x" * 1000,
            lambda: line + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            lambda: line + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * size,
            lambda: line + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            lambda: line + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"e" * size + b"\r\nabcde\r\n0\r\n\r\n",
            lambda: line + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"T: %b\r\n" % (b"t" * size) + b"\r\n",
            lambda: line + b"A: b\r\n" * size + b"\r\n",
            lambda: line + b"A: " + b"b" * size + b"\r\n\r\n",
            lambda: b"GET /" + b"a" * size + b" HTTP/1.1\r\n\r\n",
            lambda: b"GET / HTTP/9.9\r\n\r\n",
            lambda: b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\nabc",
            lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            lambda: line + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}",
            lambda: b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n" * min(size, 3000),
            lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200),
        ]
    )()


def exchange(port: int, data: bytes) -> bytes:
    """Everything that the server sends in return until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        with contextlib.suppress(OSError):  # closed before all was sent
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        return receive_all(connection)


def receive_all(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):  # TimeoutError when the server hangs
            parts.append(part)
    return b"".join(parts)


def check_rest(server: Any, make: Make, seed: int, count: int) -> None:
    for number in range(seed, seed + count):
        sent = make(random.Random(number))
        answer = exchange(server.rest_port, sent)
        for head in answer.split(b"HTTP/1.1 ")[1:]:
            assert head[:3] not in (b"500", b"502"), (number, sent[:300], answer[:600])
        if answer:
            assert answer.startswith(b"HTTP/1.1 "), (number, answer[:100])


REST = [pytest.param(http_request, id="bodies"), pytest.param(broken_http, id="broken HTTP")]


@pytest.mark.parametrize("server", ["native"], indirect=True)
@pytest.mark.parametrize("make", REST)
def test_rest_blames_the_client(server: Any, make: Make) -> None:
    check_rest(server, make, 0, 150)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["native"], indirect=True)
@pytest.mark.parametrize("make", REST)
def test_rest_blames_the_client_for_thousands_of_inputs(server: Any, make: Make) -> None:
    check_rest(server, make, 1000, 2500)


# gRPC


def message(rng: random.Random) -> bytes:
    """A request's bytes: noise, a PredictRequest that cannot be answered, or a damaged one."""
    request = predict_request()
    request.model_spec.name = rng.choice(["half_plus_two", "identities", "classifier", "nope", "", "\0" * 9])
    request.model_spec.signature_name = rng.choice(["", "float32", "int64", "bool", "words", "sum", "classify_x"])
    tensor = request.inputs[rng.choice(["x", "a", "id", "image_bytes", "inputs", ""])]
    tensor.dtype = rng.choice([*range(30), 101, 2**31 - 1])
    for _ in range(rng.choice([0, 1, 2, 4, 400])):
        tensor.tensor_shape.dim.add(size=rng.choice([0, 1, 2, -1, 2**31, 2**62, -(2**63), 1000]))
    tensor.tensor_shape.unknown_rank = rng.random() < 0.05
    tensor.tensor_content = rng.choice([b"", b"", b"1", b"12345678", rng.randbytes(4000)])
    tensor.float_val.extend([1.0] * rng.choice([0, 1, 3, 1000]))
    tensor.int64_val.extend([2**63 - 1] * rng.choice([0, 1]))
    tensor.string_val.extend([rng.randbytes(10)] * rng.choice([0, 1, 2]))
    if rng.random() < 0.2:
        request.output_filter.append(rng.choice(["y", "", "nope"]))
    if rng.random() < 0.3:
        request.model_spec.version.value = rng.choice([0, 1, -1, 2**63 - 1])
    data = bytearray(request.SerializeToString())
    for _ in range(rng.choice([0, 0, 1, 5])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return rng.choice([bytes(data), bytes(data), bytes(data), rng.randbytes(rng.randrange(200)), b"\x0a" * 3000])


PATHS = [f"/{method.service}/{method.name}" for method in services.METHODS if not method.streaming]
OURS = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "DEADLINE_EXCEEDED"}  # codes that blame the server


def check_grpc(server: Any, seed: int, count: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        for number in range(seed, seed + count):
            rng = random.Random(number)
            path = rng.choice([PATHS[0]] * 5 + [*PATHS, "/no.such/Method"])
            sent = message(rng)
            compression = rng.choice([None, None, None, grpc.Compression.Gzip])
            call = channel.unary_unary(path).future(sent, timeout=WAIT_S, compression=compression)
            error = call.exception()
            code = "OK" if error is None else error.code().name
            assert code not in OURS, (number, path, sent[:300], error)


def test_more_examples_features_and_strings_than_fit_are_refused_before_they_are_made(server: Any) -> None:
    count = 125_001  # each counts 8 bytes of the million
    sentence = r"got about \d+ examples, features and strings; expected at most 125000 in a request"
    examples_alone = "got 31251 examples; expected at most 31250 in a request"
    names, words = pb.Example(), pb.Example()
    for i in range(count // 2 + 1):  # an entry and its name
        names.features.feature[str(i)].SetInParent()
    words.features.feature["x"].bytes_list.value.extend([b""] * count)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = grpc_stub(channel, services.PREDICTION)
        few = [pb.Example()] * 31_251
        for examples, told in ((few, examples_alone), (4 * few, sentence), ([names], sentence), ([words], sentence)):
            for method, kind in (("Classify", pb.ClassificationRequest), ("Regress", pb.RegressionRequest)):
                spec = {"name": "half_plus_two", "signature_name": f"{method.lower()}_x"}
                request = kind(model_spec=spec)
                request.input.example_list.examples.extend(examples)
                with pytest.raises(grpc.RpcError) as caught:
                    getattr(stub, method)(request, timeout=WAIT_S)
                assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert re.match(told, caught.value.details()), caught.value.details()
        many = pb.RegressionRequest(model_spec={"name": "half_plus_two", "signature_name": "regress_x"})
        for i in range(20_000):  # so large that threads read it
            many.input.example_list.examples.add().features.feature["x"].float_list.value.append(i % 8)
        answer = stub.Regress(many, timeout=WAIT_S)
        assert [row.value for row in answer.result.regressions[:8]] == [2 + i / 2 for i in range(8)]
        assert len(answer.result.regressions) == 20_000
    for number, told in ((31_251, examples_alone), (count, sentence)):
        body = json.dumps({"signature_name": "regress_x", "examples": [{}] * number}).encode()
        status, answer = server.send("POST", "/v1/models/half_plus_two:regress", body)
        assert status == 400
        assert re.match(told, json.loads(answer)["error"])


def test_grpc_blames_the_client(server: Any) -> None:
    check_grpc(server, 0, 300)


@pytest.mark.slow
def test_grpc_blames_the_client_for_thousands_of_inputs(server: Any) -> None:
    check_grpc(server, 1000, 2000)


def frames(rng: random.Random) -> bytes:
    """HTTP/2 that breaks the rules."""

    def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload

    settings = frame(4, 0, 0)
    path = b"/tensorflow.serving.PredictionService/Predict"
    block = b"\x83\x86\x04" + bytes([len(path)]) + path + b"\x41\x01h\x5f\x10application/grpc"
    payload = predict_request().SerializeToString()
    body = struct.pack(">BI", 0, len(payload)) + payload
    size = rng.choice([10, 1000, 20_000])
    good = frame(1, 4, 1, block) + frame(0, 1, 1, body)
    at = rng.randrange(len(good))
    choice = rng.choice(
        [
            lambda: good[:at] + rng.randbytes(2) + good[at + 2 :],
            lambda: b"".join(
                frame(rng.randrange(12), rng.randrange(256), rng.randrange(9), rng.randbytes(rng.randrange(40)))
                for _ in range(30)
            ),
            lambda: frame(6, 0, 0, b"12345678") * size,
            lambda: frame(4, 0, 0, struct.pack(">HI", 4, 2**31 - 1)) * size,
            lambda: frame(1, 0, 1, block) + frame(9, 0, 1, b"") * size,
            lambda: frame(1, 0, 1, block) + frame(9, 0, 1, b"\x00\x01a\x01b" * 100) * min(size, 3000),
            lambda: b"".join(frame(1, 4, n, block) + frame(3, 0, n, b"\0\0\0\1") for n in range(1, 2 * size, 2)),
            lambda: b"".join(frame(1, 4, n, block) for n in range(1, 2 * min(size, 2000), 2)),
            lambda: frame(1, 4, 1, b"\x7f" + b"\xff" * size),
            lambda: frame(1, 4, 1, block + b"\x40\x01a\x7f\xf0\x20" + b"a" * 4000 + b"\xbe" * min(size, 10_000)),
            lambda: frame(1, 4, 1, block) + frame(0, 0, 1, struct.pack(">BI", 0, 2**32 - 1) + b"x" * 1000),
            lambda: frame(1, 4, 1, block) + frame(0, 0, 1, b"") * size + frame(0, 1, 1, body),
            lambda: frame(1, 4, 1, block) + b"".join(frame(0, 0, 1, bytes([b])) for b in body[:-1]),
            lambda: frame(8, 0, 0, struct.pack(">I", 2**31 - 1)) * 3,
            lambda: frame(8, 0, 1, struct.pack(">I", 0)) + good,
            lambda: frame(1, 5, 2, block),
            lambda: good + good,
            lambda: struct.pack(">IBI", (2**24 - 1) << 8, 0, 1) + b"x" * 100,
            lambda: rng.randbytes(300),
        ]
    )()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    return (preface if rng.random() < 0.97 else rng.randbytes(24)) + settings + choice


def check_frames(server: Any, seed: int, count: int) -> None:
    for number in range(seed, seed + count):
        try:
            exchange(server.grpc_port, frames(random.Random(number)))
        except TimeoutError:
            pytest.fail(f"frames of seed {number}: the connection was neither answered nor closed")


def test_http2_that_breaks_the_rules_ends_only_its_own_connection(server: Any) -> None:
    check_frames(server, 0, 100)


@pytest.mark.slow
def test_http2_that_breaks_the_rules_thousands_of_times(server: Any) -> None:
    check_frames(server, 1000, 1500)
