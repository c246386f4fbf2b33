"""Models loaded and unloaded by request, as the Open Inference Protocol has it, over REST and gRPC."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services
from ladle.serving.repository.demand import estimate
from tests.conftest import Running
from tests.stubs import grpc_stub

ALLOWED = "--allow_model_control"


def control(server: Running, model: str, verb: str, document: Any = None) -> tuple[int, Any]:
    body = json.dumps(document).encode() if document is not None else b""
    status, answer = server.send("POST", f"/v2/repository/models/{model}/{verb}", body)
    return status, json.loads(answer)


def ask(server: Running, model: str) -> tuple[int, Any]:
    status, answer = server.send("POST", f"/v1/models/{model}:predict", b'{"instances": [1.0]}')
    return status, json.loads(answer).get("predictions")


def index(server: Running) -> dict[str, tuple[str, str]]:
    """State and reason of every version by MODEL/VERSION."""
    rows = json.loads(server.send("POST", "/v2/repository/index", b"{}")[1])
    return {f"{row['name']}/{row['version']}": (row["state"], row["reason"]) for row in rows}


@pytest.fixture
def stub_of() -> Iterator[Callable[[Running], SimpleNamespace]]:
    channels = []

    def make(server: Running) -> SimpleNamespace:
        channels.append(grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}"))
        return grpc_stub(channels[-1], services.INFERENCE)

    yield make
    for channel in channels:
        channel.close()


def test_it_is_refused_unless_the_server_allows_it(
    tiny_server: Running, stub_of: Callable[[Running], SimpleNamespace]
) -> None:
    sentence = "Loading and unloading models by request is off; start the server with --allow_model_control."
    for verb in ("load", "unload"):
        assert control(tiny_server, "half_plus_two", verb) == (403, {"error": sentence})
    stub = stub_of(tiny_server)
    with pytest.raises(grpc.RpcError) as caught:
        stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="half_plus_two"), timeout=30)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, sentence)
    assert ask(tiny_server, "half_plus_two") == (200, [2.5])


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_an_unloaded_model_stays_away_until_it_is_loaded_again_with_what_came_meanwhile(
    serve: Callable[..., Running], tiny: Any, repository: Path, stub_of: Any, workers: int
) -> None:
    tiny.half_plus(1).write(repository / "a", 1)
    tiny.half_plus(2).write(repository / "b", 1)
    server = serve("--repository", repository, ALLOWED, f"--workers={workers}", models=["a", "b"])
    assert control(server, "a", "unload", {"parameters": {"unload_dependents": True}}) == (
        200,
        {"name": "a", "unload": True},
    )
    assert ask(server, "a")[0] == server.get("/v2/models/a")[0] == 404
    server.wait_for(lambda: index(server)["a/1"] == ("UNAVAILABLE", "unloaded"))
    assert json.loads(server.get("/v2/models/a/ready")[1]) == {"name": "a", "ready": False}
    assert ask(server, "b") == (200, [2.5])
    assert server.get("/v2/health/ready")[0] == 200
    tiny.half_plus(5).write(repository / "a", 2)
    tiny.half_plus(3).write(repository / "b", 2)
    server.wait_for_state("b", 2, "AVAILABLE")  # the repository was looked at, and `a` let alone
    assert ask(server, "a")[0] == 404
    assert control(server, "a", "load") == (200, {"name": "a", "load": True})
    assert ask(server, "a") == (200, [5.5])

    stub = stub_of(server)
    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="a"), timeout=30)
    assert not stub.ModelReady(pb.ModelReadyRequest(name="a"), timeout=30).ready
    stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="a"), timeout=30)
    assert stub.ModelReady(pb.ModelReadyRequest(name="a"), timeout=30).ready


def test_a_model_on_demand_that_is_unloaded_by_request_is_not_loaded_by_requests_for_it(
    serve: Callable[..., Running], tiny: Any, repository: Path
) -> None:
    tiny.half_plus(1).write(repository / "a", 1)
    limit = 2 * estimate(repository / "a" / "1")
    server = serve("--repository", repository, ALLOWED, f"--max_resident_bytes={limit}")
    server.wait_for_state("a", 1, "START")
    assert control(server, "a", "load")[0] == 200
    assert server.states("a") == {1: "AVAILABLE"}
    assert control(server, "a", "unload")[0] == 200
    assert ask(server, "a")[0] == 404
    assert control(server, "a", "load")[0] == 200
    assert ask(server, "a") == (200, [1.5])


def test_a_failed_load_says_why_and_is_tried_again_by_the_next_request(
    serve: Callable[..., Running], tiny: Any, repository: Path, tmp_path: Path
) -> None:
    tiny.half_plus(1).write(repository / "a", 1)
    broken = repository / "b" / "1"
    broken.mkdir(parents=True)
    (broken / "saved_model.pb").write_bytes(b"broken")
    config = tmp_path / "models.config"
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{repository / name}" model_platform: "tensorflow" }} ' for name in "abc"
    )
    config.write_text(f"model_config_list {{ {entries} }}")
    flags = ["--max_num_load_retries=0", "--retry_changed_versions=false"]
    server = serve(f"--model_config_file={config}", ALLOWED, *flags, models=["a"])
    status, answer = control(server, "b", "load")
    assert status == 400
    assert answer["error"].startswith("b version 1 was not loaded: ")
    (broken / "saved_model.pb").unlink()
    broken.rmdir()
    tiny.half_plus(2).write(repository / "b", 1)
    assert control(server, "b", "load")[0] == 200
    assert ask(server, "b") == (200, [2.5])

    assert control(server, "c", "load") == (
        404,
        {"error": "c has no version that could be loaded; put one into its folder"},
    )
    assert server.get("/v2/health/ready")[0] == 503  # c is configured, and missing
    assert control(server, "c", "unload")[0] == 200
    assert server.get("/v2/health/ready")[0] == 200


@pytest.mark.parametrize(
    ("model", "verb", "document", "status", "sentence"),
    [
        ("nope", "load", None, 404, "got the model 'nope', which the repository does not have; check its name"),
        ("nope", "unload", None, 404, "got the model 'nope', which the repository does not have; check its name"),
        ("a", "load", {"parameters": {"config": "{}"}}, 400, "got the parameter config; this server loads what its"),
        ("a", "load", {"parameters": [1]}, 400, "expected an object"),
        ("a", "load", [], 400, "Is not object"),
    ],
)
def test_a_wrong_request_is_refused_with_one_sentence(
    controlled: Running, model: str, verb: str, document: Any, status: int, sentence: str
) -> None:
    found, answer = control(controlled, model, verb, document)
    assert found == status, answer
    assert sentence in answer["error"]


@pytest.fixture(scope="module")
def controlled(serve: Callable[..., Running], tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Running:
    folder = tmp_path_factory.mktemp("controlled")
    tiny.half_plus(1).write(folder / "a", 1)
    return serve("--repository", folder, ALLOWED, models=["a"])


def test_over_grpc_files_and_repository_names_are_refused(controlled: Running, stub_of: Any) -> None:
    stub = stub_of(controlled)
    request = pb.RepositoryModelLoadRequest(model_name="a")
    request.parameters["file:1/model.onnx"].bytes_param = b"0"
    for wrong, sentence in (
        (request, "got the parameter file:1/model.onnx; this server loads what its repository holds"),
        (pb.RepositoryModelLoadRequest(model_name="a", repository_name="other"), "got the repository 'other'"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            stub.RepositoryModelLoad(wrong, timeout=30)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert sentence in caught.value.details()
