"""The client by the Open Inference Protocol: the same answers as by TensorFlow Serving's, also from other servers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from ladle import AsyncClient, Client
from ladle.clients import errors
from ladle.clients.cli.__main__ import main
from ladle.clients.cli.options import resolve
from ladle.clients.transport.address import parse
from tests.conftest import Running

NUMBERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32")


@pytest.fixture(params=["oip+http", "oip+grpc"])
def client(request: pytest.FixtureRequest, tiny_server: Running) -> Iterator[Client]:
    port = tiny_server.rest_port if request.param == "oip+http" else tiny_server.grpc_port
    with Client(f"{request.param}://127.0.0.1:{port}") as client:
        yield client


def test_it_says_the_same_of_models_as_the_other_protocol(client: Client, tiny_server: Running) -> None:
    with Client(f"grpc://127.0.0.1:{tiny_server.grpc_port}") as other:
        assert client.models() == other.models()
        assert client.status("half_plus_two") == other.status("half_plus_two", 1)
        for name in ("half_plus_two", "classifier", "identities"):
            mine, theirs = client.metadata(name), other.metadata(name)
            assert (mine.name, mine.version) == (theirs.name, theirs.version)
            for key, signature in theirs.signatures.items():
                if any(info.dtype.startswith("complex") for info in signature.inputs.values()):
                    continue
                assert mine.signature(key).inputs == signature.inputs, key
                assert mine.signature(key).outputs == signature.outputs, key


def test_it_predicts_by_array_list_version_and_signature(client: Client) -> None:
    for inputs in (np.ones((2, 1), np.float32), [[1], [1]], {"x": [[1.0], [1.0]]}):
        assert client.predict("half_plus_two", inputs)["y"].tolist() == [[2.5], [2.5]]
    assert client.predict("half_plus_two", [[1.0]], version=1)["y"].tolist() == [[2.5]]
    pair = {"a": [5.0], "b": [3.0]}
    assert client.predict("identities", pair, "sum")["total"].tolist() == [8.0]
    assert client.predict("identities", pair, "sum", outputs=["difference"]).keys() == {"difference"}
    assert client.predict("identities", {"id": [1, 0]}, "words")["word_bytes"].tolist() == [b"one", b"zero"]
    assert len(client.predict("half_plus_two", np.ones((200_000, 1), np.float32))["y"]) == 200_000


@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_number_comes_back_as_it_went(client: Client, dtype: str) -> None:
    array = np.array([0, 1, 1], dtype)
    if dtype.startswith("float"):
        array = np.array([np.nan, np.inf, 0.1], dtype)
    found = client.predict("identities", {"x": array}, dtype)["y"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_tasks_work_as_ever(client: Client) -> None:
    image = np.array([[0, 250], [0, 0]], np.uint8)
    answer = client.classify("classifier", image)
    assert (answer.class_id, len(answer.probabilities)) == (1, 3)
    assert client.classify_many("classifier", image[None])[0].label == answer.label


def test_errors_are_those_of_the_client(client: Client) -> None:
    with pytest.raises(errors.NotFound, match="half_plus_tow is not served; did you mean half_plus_two"):
        client.predict("half_plus_tow", [[1.0]])
    with pytest.raises(errors.NotFound):
        client.status("half_plus_two", 9)
    with pytest.raises(errors.NotFound):
        client.predict("half_plus_two", [[1.0]], version=9)
    with pytest.raises(errors.InvalidArgument, match='half_plus_two: input "x": got float32'):
        client.predict("half_plus_two", np.ones(3, np.float32))
    with pytest.raises(errors.InvalidArgument, match='has no signature "z" that the Open Inference Protocol describes'):
        client.predict("half_plus_two", [[1.0]], "z")
    with pytest.raises(errors.InvalidArgument, match="Unrecognized servable version label: canary"):
        client.predict("half_plus_two", [[1.0]], label="canary")


def test_the_asynchronous_client_speaks_it_too(tiny_server: Running) -> None:
    async def ask(target: str) -> Any:
        async with AsyncClient(target) as client:
            answers = await asyncio.gather(*(client.predict("half_plus_two", [[float(i)]]) for i in range(8)))
            return [answer["y"].item() for answer in answers], (await client.status("half_plus_two"))[0].state

    for target in (f"oip+http://127.0.0.1:{tiny_server.rest_port}", f"oip+grpc://127.0.0.1:{tiny_server.grpc_port}"):
        assert asyncio.run(ask(target)) == ([i / 2 + 2 for i in range(8)], "AVAILABLE")


def test_the_command_line_speaks_it(tiny_server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    server = ["--server", f"oip+http://127.0.0.1:{tiny_server.rest_port}", "--json"]
    assert main(["status", "half_plus_two", *server]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "AVAILABLE"
    assert resolve("oip+http://localhost:8501", "grpc") == "oip+grpc://localhost:8500"
    assert parse("oip+https://host/prefix").is_secure
    with pytest.raises(errors.InvalidArgument, match="Open Inference Protocol: oip"):
        parse("oip+ftp://host")


# A server by somebody else


@dataclass
class Foreign:
    """A server with the protocol's required methods alone, as KServe has them: no binary tensors, no index.

    metadata, config  of its model `twice`; config: status and answer. seen: paths and bodies of its requests
    """

    address: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    config: tuple[int, Any] = (404, {"detail": "Not Found"})
    is_ready: bool = True
    lists: bool = True
    seen: list[tuple[str, Any]] = field(default_factory=list)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.seen.append((f"{method} {path}", json.loads(body) if body else None))
        if (method, path) == ("GET", "/v2"):
            return 200, {"name": "other", "version": "1", "extensions": ["model_repository_extension"]}
        if (method, path) == ("GET", "/v2/models") and self.lists:
            return 200, {"models": ["twice"]}
        if path == "/v2/repository/index":
            return 404, {"detail": "Not Found"}
        if not path.startswith("/v2/models/twice"):
            return 404, {"error": "Model with name other does not exist."}
        if path.endswith("/ready"):
            return (200, {"name": "twice", "ready": True}) if self.is_ready else (503, {"error": "Model is not ready"})
        if path.endswith("/infer"):
            given = self.seen[-1][1]["inputs"][0]
            text = given["datatype"] == "BYTES"
            data = [value * 2 for value in given["data"]]
            output = {**given, "name": "y", "data": data if text else [data]}
            return 200, {"model_name": "twice", "outputs": [output]}
        if path.endswith("/config"):
            return self.config
        return (200, self.metadata) if path.count("/") == 3 else (404, {"detail": "Not Found"})


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    state = Foreign()
    state.metadata = {
        "name": "twice",
        "platform": "",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, answer = state.answer(self.command, self.path, body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = respond  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        state.address = f"oip+http://127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()


def test_a_server_without_extensions_is_asked_in_json_on_the_paths_of_the_protocol(foreign: Foreign) -> None:
    with Client(foreign.address) as client:
        assert client.predict("twice", [[1.0, 2.0]])["y"].tolist() == [[2.0, 4.0]]
        assert client.models() == {"twice": client.status("twice")}
        assert client.status("twice")[0].state == "AVAILABLE"
        foreign.is_ready = False
        assert (client.status("twice")[0].state, client.status("twice")[0].error_message) == (
            "END",
            "the server says that it is not ready",
        )
        with pytest.raises(errors.NotFound):
            client.predict("other", [[1.0, 2.0]])
        foreign.lists = False
        with pytest.raises(errors.Unimplemented, match="need not have a method for it"):
            client.models()
    (sent,) = [body for path, body in foreign.seen if path.endswith("twice/infer")]
    assert sent == {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
    assert all(path.split()[1].startswith("/v2") for path, _ in foreign.seen)
    assert [path for path, _ in foreign.seen].count("POST /v2/repository/index") == 1


def test_a_configuration_that_fails_once_is_asked_for_again_and_one_that_is_missing_is_not(foreign: Foreign) -> None:
    named = {"signatures": "encode,serving_default", "signature.encode": json.dumps(foreign.metadata)}
    with Client(foreign.address) as client:
        foreign.config = 500, {"error": "out of memory"}
        assert client.metadata("twice").signatures.keys() == {"serving_default"}
        foreign.config = 200, {"parameters": {key: {"string_value": text} for key, text in named.items()}}
        assert "encode" in client.metadata("twice").signatures
    foreign.config = 404, {}
    with Client(foreign.address) as client:
        foreign.seen.clear()
        for _ in range(3):
            client.metadata("twice")
    assert [path for path, _ in foreign.seen].count("GET /v2/models/twice/config") == 1


def test_what_the_protocol_or_the_server_lacks_is_said_in_a_sentence(foreign: Foreign) -> None:
    with Client(foreign.address) as client:
        with pytest.raises(errors.InvalidArgument, match='has no signature "encode" that the Open Inference Protocol'):
            client.predict("twice", [[1.0, 2.0]], "encode")
        foreign.metadata |= {"inputs": [], "outputs": []}
    with Client(foreign.address) as client:  # a server that declares nothing checks by itself
        assert client.predict("twice", {"x": np.float32([[3, 4]])})["y"].tolist() == [[6.0, 8.0]]
        assert client.predict("twice", {"x": ["ab"]})["y"].tolist() == [b"abab"]
        with pytest.raises(errors.InvalidArgument, match="declares none; expected a mapping by name"):
            client.predict("twice", [[1.0, 2.0]])
        with pytest.raises(errors.InvalidArgument, match="holds bytes that are no text"):
            client.predict("twice", {"x": [b"\xff"]})
        with pytest.raises(
            errors.InvalidArgument, match="complex64, for which the Open Inference Protocol has no data"
        ):
            client.predict("twice", {"x": np.zeros(1, np.complex64)})
        with pytest.raises(errors.InvalidArgument, match="names one function a model"):
            client.predict("twice", {"x": [1.0]}, "encode")


@pytest.mark.parametrize(
    "answer",
    [
        {"inputs": "none"},
        {"inputs": [{"name": "x", "datatype": "FLOAT", "shape": [1]}]},
        {"inputs": [{"datatype": "FP32", "shape": [1]}]},
        {"versions": 3},
    ],
    ids=["no list", "an unknown datatype", "no name", "versions no list"],
)
def test_unreadable_metadata_are_an_error_of_the_server(foreign: Foreign, answer: dict[str, Any]) -> None:
    foreign.metadata |= answer
    with Client(foreign.address) as client, pytest.raises(errors.Internal, match="sent unreadable metadata of twice"):
        client.metadata("twice")
