"""The life of a server: starts, failed starts, what it needs, shutdown."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from tests.stubs import grpc_stub

ROOT = Path(__file__).resolve().parents[2]
X = np.array([[1.0]], np.float32)


def answer(server: Any, model: str = "m") -> Any:
    """The latest version's answer to 1: half of it plus the version's offset."""
    status, body = server.send("POST", f"/v1/models/{model}:predict", b'{"instances": [[1.0]]}')
    return json.loads(body)["predictions"][0][0] if status == 200 else None


def run_server(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ladle.serving", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_server_waits_for_a_missing_base_path_with_open_ports(serve: Any, tiny: Any, repository: Path) -> None:
    server = serve("--model_name=m", "--model_base_path", repository / "m")
    assert server.get("/v2/health/ready")[0] == 503
    tiny.half_plus(1).write(repository / "m", 1)
    server.wait_for(lambda: answer(server) == 1.5)
    assert server.get("/v2/health/ready")[0] == 200


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--port=0"], "INVALID_ARGUMENT: At least one of server_options.grpc_port or"),
        ([], "INVALID_ARGUMENT: Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (
            ["--model_base_path=relative"],
            "INVALID_ARGUMENT: Expected model default to have an absolute path or URI; got base_path()=relative",
        ),
        (["--repository=/nowhere/at/all"], "INVALID_ARGUMENT: --repository=/nowhere/at/all is not a folder"),
        (["--model_config_file=/nowhere"], "INVALID_ARGUMENT: Invalid protobuf file: '/nowhere'"),
    ],
    ids=["port", "no model", "relative", "no repository", "no config"],
)
def test_a_failed_start_says_why(flags: list[str], reason: str) -> None:
    done = run_server(*flags)
    assert done.returncode == 255
    assert f"Failed to start server. Error: {reason}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_single_model_that_does_not_load_fails_the_start(repository: Path) -> None:
    (repository / "m" / "1").mkdir(parents=True)
    done = run_server("--model_name=m", f"--model_base_path={repository}/m", "--max_num_load_retries=0")
    assert done.returncode == 255
    assert "UNKNOWN: 1 servable(s) did not become available: {{{name: m version: 1} due to error: NOT_FOUND: " in (
        done.stdout
    )


def test_a_bad_config_file_is_reported_on_stderr(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text("model_config_list {\n  config { nome: 3 }\n}")
    done = run_server(f"--model_config_file={config}")
    assert done.returncode == 255
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig: 2:12: " in done.stderr


def test_the_port_of_another_server_is_refused(serve: Any, tiny_repository: Path, tiny_server: Any) -> None:
    done = run_server(f"--repository={tiny_repository}", f"--port={tiny_server.grpc_port}", "--host=127.0.0.1")
    assert done.returncode == 255
    assert f"cannot listen on 127.0.0.1:{tiny_server.grpc_port}" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_server_with_status_0(serve: Any, tiny_repository: Path, number: int) -> None:
    server = serve("--repository", tiny_repository, models=["classifier"])
    assert server.stop(number) == 0
    assert "stopped" in server.log.read_text()


def test_requests_in_flight_are_answered_before_the_server_ends(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.looping().write(repository / "slow", 1)
    server = serve("--repository", repository, models=["slow"])
    answers: list[tuple[int, bytes]] = []
    body = json.dumps({"instances": [1_000_000]}).encode()
    caller = threading.Thread(target=lambda: answers.append(server.send("POST", "/v1/models/slow:predict", body)))
    busy = server.cpu_seconds() + 0.2
    caller.start()
    server.wait_for(lambda: server.cpu_seconds() > busy)
    assert not answers
    assert server.stop(signal.SIGTERM) == 0
    caller.join()
    assert answers[0][0] == 200


@pytest.fixture
def serve_briefly(serve: Any) -> Iterator[Callable[..., Any]]:
    """Starts servers that end with the test: a load that takes hours would keep a core from the tests that follow."""
    started = []

    def start(*flags: str | Path, **more: Any) -> Any:
        started.append(serve(*flags, **more))
        return started[-1]

    yield start
    for server in started:
        server.stop(signal.SIGKILL)


def loading(tiny: Any) -> Any:
    """A model whose warm-up takes hours."""
    log = pb.PredictionLog()
    tensors.fill(log.predict_log.request.inputs["x"], np.array([10**9]))
    model = tiny.looping()
    model.warm_up = [log]
    return model


def refusal(server: Any, model: str) -> tuple[str, tuple[int, str | None]]:
    """The gRPC code and the HTTP status and Retry-After with which a request for the model is refused."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as error:
            predict(pb.PredictRequest(model_spec=pb.ModelSpec(name=model)).SerializeToString(), timeout=30)
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    connection.request("POST", f"/v1/models/{model}:predict", b'{"instances": [1]}')
    answer = connection.getresponse()
    connection.close()
    return error.value.code().name, (answer.status, answer.headers["retry-after"])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_loads_at_the_start_is_unavailable_and_an_unknown_one_not_found(
    serve_briefly: Any, tiny: Any, repository: Path, workers: int
) -> None:
    loading(tiny).write(repository / "m", 1)
    server = serve_briefly("--repository", repository, f"--workers={workers}")
    assert refusal(server, "m") == ("UNAVAILABLE", (503, "1"))
    assert refusal(server, "nope") == ("NOT_FOUND", (404, None))


def test_a_model_that_appears_later_is_not_found_until_it_is_loaded(
    serve_briefly: Any, tiny: Any, repository: Path
) -> None:
    tiny.half_plus(1).write(repository / "first", 1)
    server = serve_briefly("--repository", repository, models=["first"])
    loading(tiny).write(repository / "m", 1)
    server.wait_for_state("m", 1, "LOADING")
    assert refusal(server, "m") == ("NOT_FOUND", (404, None))


def test_small_requests_are_answered_while_a_long_one_runs(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.looping().write(repository / "slow", 1)
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, models=["slow", "m"])
    body = json.dumps({"instances": [1_000_000]}).encode()
    ended: list[float] = []

    def long() -> None:
        assert server.send("POST", "/v1/models/slow:predict", body)[0] == 200
        ended.append(time.monotonic())

    caller = threading.Thread(target=long)
    busy = server.cpu_seconds() + 0.2
    caller.start()
    server.wait_for(lambda: server.cpu_seconds() > busy)
    assert answer(server) == 1.5
    answered = time.monotonic()
    caller.join()
    assert answered < ended[0]


def test_tensorflow_is_never_loaded_for_onnx_models(tiny_server: Any, ask: Any) -> None:
    ask.predict("classifier", {"image": np.zeros((1, 2, 2, 1), np.float32)})
    maps = Path(f"/proc/{tiny_server.pid}/maps")
    if not maps.exists():
        pytest.skip("this system does not show a process's libraries")
    assert "onnxruntime" in maps.read_text()
    assert "tensorflow" not in maps.read_text()


def test_only_a_signature_without_graph_needs_tensorflow(serve: Any, tiny_repository: Path, tmp_path: Path) -> None:
    server = serve("--repository", tiny_repository, models=["half_plus_two"], env=without_tensorflow(tmp_path))
    body = b'{"signature_name": "ungraphed", "instances": [[1.0]]}'
    status, refusal = server.send("POST", "/v1/models/half_plus_two:predict", body)
    assert status == 400
    assert json.loads(refusal)["error"].startswith('Serving signature key "ungraphed" of half_plus_two has no verified')
    assert answer(server, "half_plus_two") == 2.5


def test_without_tensorflow_models_with_graphs_go_on(serve: Any, tiny: Any, repository: Path, tmp_path: Path) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    published = tiny.half_plus(1).write(repository / "bare", 1)
    (published / "assets.extra" / "card.json").unlink()
    server = serve("--repository", repository, models=["m"], env=without_tensorflow(tmp_path))
    server.wait_for_state("bare", 1, "END")
    status = json.loads(server.get("/v1/models/bare")[1])["model_version_status"][0]["status"]
    assert status["error_code"] == "FAILED_PRECONDITION"
    assert "TensorFlow is not installed" in status["error_message"]
    assert answer(server) == 1.5


def test_a_server_with_models_is_ready_within_seconds(serve: Any, tiny_repository: Path) -> None:
    start = time.monotonic()
    server = serve("--repository", tiny_repository, models=["classifier", "half_plus_two"])
    # A second on an idle machine; tests share theirs.
    assert time.monotonic() - start < 10
    server.stop()


def test_a_unix_socket_serves_grpc(serve: Any, tiny_repository: Path, tmp_path: Path) -> None:
    from ladle.clients.wire import services

    path = tmp_path / "socket"
    for _ in range(2):  # the second finds the socket file of the first, which was killed
        server = serve("--repository", tiny_repository, f"--grpc_socket_path={path}", models=["half_plus_two"])
        with grpc.insecure_channel(f"unix:{path}") as channel:
            request = pb.PredictRequest(model_spec=pb.ModelSpec(name="half_plus_two"))
            tensors.fill(request.inputs["x"], X)
            answered = grpc_stub(channel, services.PREDICTION).Predict(request, timeout=30)
        assert list(answered.outputs["y"].float_val) == [2.5]
        server.stop(signal.SIGKILL)


def without_tensorflow(folder: Path) -> dict[str, str]:
    """The environment of a Python that cannot find TensorFlow."""
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('tensorflow', 'keras'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "import importlib.util\n"
        "find_spec = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'tensorflow' else find_spec(name, *rest)\n"
    )
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
