"""Clients written by others: each asks the server directly, through nginx and HAProxy, and where a proxy is set."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from ladle import Client, LadleError
from tests.clients.recording_proxy import RecordingProxy
from tests.conftest import ROOT
from tests.interop.conftest import BUILD, HERE, Tools, Way

pytestmark = pytest.mark.interop

BARE = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
LARGE = 250_000
SERVICES = {
    "grpc.health.v1.Health",
    "inference.GRPCInferenceService",
    "tensorflow.serving.ModelService",
    "tensorflow.serving.PredictionService",
}
SYSTEM = ("Node", "nginx", "HAProxy", "curl")
NOT_FOUND = ["NOT_FOUND", "Servable not found for request: Latest(nope)"]
ANSWERS = {"predict": [2.5, 3.0], "large": LARGE, "status": [[1, "AVAILABLE"]], "unknown": NOT_FOUND}
Answers = dict[str, Any]
Environment = Mapping[str, str]


def run(*command: Any, env: Environment, given: str = "") -> subprocess.CompletedProcess[str]:
    words = [*map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env={**BARE, **env}, input=given)


def read(*command: Any, env: Environment, given: str = "") -> Any:
    done = run(*command, env=env, given=given)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def grpc_js(tools: Tools, way: Way, env: Environment) -> Answers:
    return read(
        "node", HERE / "grpc_js.js", way.grpc, BUILD / "descriptors", env={**env, "NODE_PATH": str(tools.modules)}
    )


def fetch(tools: Tools, way: Way, env: Environment) -> Answers:
    return read("node", HERE / "fetch.js", way.rest, env=env)


def buf(tools: Tools, way: Way, env: Environment) -> Answers:
    """Messages and services come from the server's reflection."""
    base, url = [tools.buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge"], f"http://{way.grpc}"

    def predict(values: list[float]) -> Any:
        shape = {"dim": [{"size": len(values)}, {"size": 1}]}
        x = {"dtype": "DT_FLOAT", "tensorShape": shape, "floatVal": values}
        request = json.dumps({"modelSpec": {"name": "half_plus_two"}, "inputs": {"x": x}})
        method = f"{url}/tensorflow.serving.PredictionService/Predict"
        return read(*base, "-d", "@-", method, env=env, given=request)["outputs"]["y"]["floatVal"]

    def model(method: str, name: str) -> subprocess.CompletedProcess[str]:
        return run(
            *base, "-d", json.dumps({"modelSpec": {"name": name}}), f"{url}/tensorflow.serving.{method}", env=env
        )

    listed = run(*base, url, "--list-services", env=env).stdout.split()
    assert set(listed) >= SERVICES
    status = json.loads(model("ModelService/GetModelStatus", "half_plus_two").stdout)["model_version_status"]
    refused = json.loads(model("PredictionService/Predict", "nope").stderr)
    return {
        "predict": predict([1, 2]),
        "large": len(predict([1.0] * LARGE)),
        "status": [[int(each["version"]), each["state"]] for each in status],
        "unknown": [refused["code"].upper(), refused["message"]],
    }


def triton(protocol: str) -> Callable[[Tools, Way, Environment], Answers]:
    def ask(tools: Tools, way: Way, env: Environment) -> Answers:
        answers: Answers = read(
            tools.python, HERE / "triton.py", protocol, getattr(way, "rest" if protocol == "http" else "grpc"), env=env
        )
        assert answers.pop("ready") == [True, True, True]
        (x,) = answers.pop("inputs")
        assert (x["name"], x["datatype"], [*map(int, x["shape"])]) == ("x", "FP32", [-1, 1])
        return answers

    return ask


def curl(tools: Tools, way: Way, env: Environment) -> Answers:
    url = f"http://{way.rest}/v1/models/"

    def ask(path: str, body: Any = None) -> Any:
        data = [] if body is None else ["--data-binary", "@-"]
        return read("curl", "-sS", *data, url + path, env=env, given=json.dumps(body))

    return {
        "predict": [row[0] for row in ask("half_plus_two:predict", {"instances": [[1], [2]]})["predictions"]],
        "large": len(ask("half_plus_two:predict", {"inputs": {"x": [[1]] * LARGE}})["outputs"]),
        "status": [[int(each["version"]), each["state"]] for each in ask("half_plus_two")["model_version_status"]],
        "unknown": ["NOT_FOUND", ask("nope:predict", {"instances": [[1]]})["error"]],
    }


def ladle(scheme: str) -> Callable[[Tools, Way, Environment], Answers]:
    def ask(tools: Tools, way: Way, env: Environment) -> Answers:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            client = Client(f"{scheme}://{way.rest if scheme.endswith('http') else way.grpc}")
        with client:
            try:
                client.predict("nope", {"x": [[1.0]]})
            except LadleError as error:
                unknown = [error.code, str(error)]
            return {
                "predict": client.predict("half_plus_two", [[1.0], [2.0]])["y"].ravel().tolist(),
                "large": len(client.predict("half_plus_two", np.ones((LARGE, 1), np.float32))["y"]),
                "status": [[each.version, each.state] for each in client.status("half_plus_two")],
                "unknown": unknown,
            }

    return ask


SERVED = "classifier, half_plus_three, half_plus_two, identities"
OURS = {"unknown": ["NOT_FOUND", f"nope is not served; the server has {SERVED}"]}
READY = {"status": [[1, "READY"]]}
# The client, whether it follows http_proxy to this machine, and the answers in which it differs from the others.
CLIENTS: dict[str, tuple[Callable[[Tools, Way, Environment], Answers], bool, Answers]] = {
    "grpc-js": (grpc_js, True, {}),
    "buf": (buf, False, {}),
    "tritonclient-grpc": (triton("grpc"), True, {**READY, "unknown": ["StatusCode.NOT_FOUND", NOT_FOUND[1]]}),
    "ladle-grpc": (ladle("grpc"), False, OURS),
    "fetch": (fetch, False, {}),
    "curl": (curl, True, {}),
    "tritonclient-http": (triton("http"), False, {**READY, "unknown": ["404", NOT_FOUND[1]]}),
    "ladle-rest": (ladle("http"), False, OURS),
    "ladle-oip-grpc": (ladle("oip+grpc"), False, OURS),
    "ladle-oip-rest": (ladle("oip+http"), False, OURS),
}


@pytest.fixture(scope="session", autouse=True)
def descriptors(ways: dict[str, Way]) -> None:
    """Every message and service of the server, as its reflection describes them, in a file for grpc-js."""
    with grpc.insecure_channel(ways["native"].grpc, [("grpc.enable_http_proxy", 0)]) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        files: dict[str, Any] = {}

        def add(file: Any) -> None:
            if file.name not in files:
                for name in file.dependency:
                    add(database.FindFileByName(name))
                files[file.name] = file

        for service in database.get_services():
            add(database.FindFileContainingSymbol(service))
    (BUILD / "descriptors").write_bytes(descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString())


@pytest.fixture
def proxy() -> Iterator[RecordingProxy]:
    made = RecordingProxy()
    yield made
    made.close()


@pytest.mark.parametrize("way", ["native", "grpcio", "nginx", "HAProxy"])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_gets_the_answers(tools: Tools, ways: dict[str, Way], name: str, way: str) -> None:
    ask, _, differences = CLIENTS[name]
    assert ask(tools, ways[way], {}) == ANSWERS | differences


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_gets_the_answers_where_http_proxy_is_set(
    tools: Tools, ways: dict[str, Way], proxy: RecordingProxy, name: str
) -> None:
    ask, follows, differences = CLIENTS[name]
    answers = ask(tools, ways["native"], {"http_proxy": proxy.url, "HTTP_PROXY": proxy.url})
    assert answers == ANSWERS | differences
    assert bool(proxy.asked) == follows


def test_the_page_names_the_versions_that_were_run(tools: Tools) -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text()
    said = page.partition("## Clients that were tried")[2].partition("\n## ")[0]
    print("of the system:", {name: version for name, version in tools.versions.items() if name in SYSTEM})
    wanted = [f"{name} {version}" for name, version in tools.versions.items() if name not in (*SYSTEM, "azurite")]
    assert [each for each in wanted if each not in said] == []
