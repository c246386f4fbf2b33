"""The life of a server: versions that come and go, starts that fail, the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.wire import messages as pb
from clients.wire import tensors

ROOT = Path(__file__).resolve().parents[2]
X = np.array([[1.0]], np.float32)


def answer(server: Any, model: str = "m") -> Any:
    """What the latest version makes of 1: half of it plus the version's offset."""
    status, body = server.send("POST", f"/v1/models/{model}:predict", b'{"instances": [[1.0]]}')
    return json.loads(body)["predictions"][0][0] if status == 200 else None


def run_server(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_new_version_replaces_the_old_one(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, models=["m"])
    assert answer(server) == 1.5
    tiny.half_plus(2).write(repository / "m", 2)
    server.wait_for_state("m", 1, "END")
    assert server.states("m") == {2: "AVAILABLE", 1: "END"}
    assert answer(server) == 2.5


def test_models_come_and_go_in_a_repository(serve: Any, tiny: Any, repository: Path) -> None:
    server = serve("--repository", repository)
    assert server.get("/v2/health/ready")[0] == 200
    tiny.half_plus(1).write(repository / "late", 1)
    server.wait_for_state("late", 1, "AVAILABLE")
    shutil.rmtree(repository / "late")
    server.wait_for_state("late", 1, "END")
    assert answer(server, "late") is None


def test_a_version_that_goes_leaves_the_one_before(serve: Any, tiny: Any, repository: Path) -> None:
    for version in (1, 2):
        tiny.half_plus(version).write(repository / "m", version)
    server = serve("--repository", repository, models=["m"])
    assert answer(server) == 2.5
    (repository / "m" / "2").rename(repository / "m" / "withdrawn")
    server.wait_for(lambda: answer(server) == 1.5)


def test_a_broken_version_leaves_the_good_one(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, models=["m"])
    published = tiny.half_plus(2).write(repository / "other", 2)
    (published / "model.onnx").write_bytes(b"not what was verified")
    published.rename(repository / "m" / "2")
    server.wait_for_state("m", 2, "END")
    assert server.states("m") == {2: "END", 1: "AVAILABLE"}
    assert answer(server) == 1.5
    status = json.loads(server.get("/v1/models/m/versions/2")[1])["model_version_status"][0]["status"]
    assert status == {
        "error_code": "DATA_LOSS",
        "error_message": "model.onnx is not the graph that was verified (its sha256 differs); export the version again",
    }
    tiny.half_plus(3).write(repository / "m", 3)
    server.wait_for(lambda: answer(server) == 3.5)
    server.wait_for_state("m", 1, "END")


def test_a_version_that_is_copied_into_place_is_served_when_it_is_whole(
    serve: Any, tiny: Any, repository: Path
) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, models=["m"])
    whole = tiny.half_plus(2).write(repository / ".elsewhere", 2)
    copy = repository / "m" / "2"
    copy.mkdir()
    shutil.copytree(whole / "assets.extra", copy / "assets.extra")
    server.wait_for_state("m", 2, "END")
    assert answer(server) == 1.5
    for file in whole.iterdir():
        if file.is_file() and file.name != "saved_model.pb":
            shutil.copy(file, copy)
    shutil.copy(whole / "saved_model.pb", copy)
    server.wait_for(lambda: answer(server) == 2.5)
    server.wait_for_state("m", 1, "END")


def test_no_error_tells_a_path(serve: Any, tiny: Any, repository: Path) -> None:
    (repository / "empty" / "1").mkdir(parents=True)
    (repository / "file").mkdir()
    (repository / "file" / "1").write_text("no folder")
    (repository / "text" / "1").mkdir(parents=True)
    (repository / "text" / "1" / "saved_model.pb").write_bytes(b"\xff\xff")
    server = serve("--repository", repository)
    for model in ("empty", "file", "text"):
        server.wait_for_state(model, 1, "END")
        reason = server.get(f"/v1/models/{model}")[1].decode()
        assert str(repository) not in reason
        assert "saved_model.pb" in reason


def test_a_killed_writer_leaves_nothing_that_is_served(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, models=["m"])
    code = (
        "import pathlib, sys, time\n"
        "folder = pathlib.Path(sys.argv[1]); (folder / 'assets').mkdir(parents=True)\n"
        "(folder / 'saved_model.pb').write_bytes(b'half of it')\n"
        "print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, repository / "m" / ".tmp-2"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
    (repository / "m" / "2tmp").mkdir()
    (repository / "m" / "v3").mkdir()
    tiny.half_plus(4).write(repository / "m", 4)
    server.wait_for_state("m", 4, "AVAILABLE")
    assert set(server.states("m")) == {1, 4}


def test_versions_change_and_roll_back_under_load_without_an_error(
    serve: Any, tiny: Any, repository: Path, grpc_to: Any
) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, models=["m"])
    asker = grpc_to(server)
    wrong: list[Any] = []
    seen: set[Any] = set()
    done = threading.Event()

    def load(ask: Any) -> None:
        while not done.is_set():
            try:
                seen.add(ask())
            except Exception as error:
                wrong.append(error)

    asks = [lambda: answer(server), lambda: asker.predict("m", {"x": X})["y"][0][0]] * 2
    threads = [threading.Thread(target=load, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    for version in (2, 3, 4):
        tiny.half_plus(version).write(repository / "m", version)
        server.wait_for_state("m", version, "AVAILABLE")
        server.wait_for_state("m", version - 1, "END")
    for version in (4, 3):
        (repository / "m" / str(version)).rename(repository / "m" / f"withdrawn-{version}")
        server.wait_for_state("m", version, "END")
        server.wait_for_state("m", version - 1, "AVAILABLE")
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert {1.5, 4.5, 2.5} <= seen <= {1.5, 2.5, 3.5, 4.5}


def test_a_config_file_names_models_policies_and_labels(serve: Any, tiny: Any, repository: Path, grpc_to: Any) -> None:
    for version in (1, 2, 3):
        tiny.half_plus(version).write(repository / "a", version)
        tiny.half_plus(10 * version).write(repository / "b", version)
    config = repository / "models.config"
    entry = 'config {{ name: "{0}" base_path: "{1}" model_platform: "tensorflow" {2} }}'
    policy = "model_version_policy { specific { versions: 1 versions: 3 } }"
    labels = 'version_labels { key: "stable" value: 1 }'

    def write(*entries: str) -> None:
        new = repository / "new.config"
        new.write_text("model_config_list { " + "\n".join(entries) + " }")
        new.rename(config)

    write(entry.format("a", repository / "a", policy), entry.format("b", repository / "b", ""))
    server = serve("--model_config_file", config, "--model_config_file_poll_wait_seconds=0.05", models=["a", "b"])
    server.wait_for(lambda: server.states("a") == {1: "AVAILABLE", 3: "AVAILABLE"})
    assert server.states("b") == {3: "AVAILABLE"}
    grpc = grpc_to(server)
    write(entry.format("a", repository / "a", policy + labels))
    server.wait_for_state("b", 3, "END")
    assert grpc.predict("a", {"x": X}, label="stable") == {"y": [[1.5]]}
    assert grpc.predict("a", {"x": X}) == {"y": [[3.5]]}
    config.write_text("model_config_list { config { nonsense } }")
    server.wait_for(lambda: "Error parsing text-format" in server.log.read_text())
    assert grpc.predict("a", {"x": X}, label="stable") == {"y": [[1.5]]}


def test_a_missing_base_path_is_waited_for_with_open_ports(serve: Any, tiny: Any, repository: Path) -> None:
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
def test_a_start_that_cannot_be_says_why(flags: list[str], reason: str) -> None:
    done = run_server(*flags)
    assert done.returncode == 255
    assert f"Failed to start server. Error: {reason}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_single_model_that_fails_fails_the_start(repository: Path) -> None:
    (repository / "m" / "1").mkdir(parents=True)
    done = run_server("--model_name=m", f"--model_base_path={repository}/m", "--max_num_load_retries=0")
    assert done.returncode == 255
    assert "UNKNOWN: 1 servable(s) did not become available: {{{name: m version: 1} due to error: NOT_FOUND: " in (
        done.stdout
    )


def test_a_bad_config_file_is_told_on_stderr(tmp_path: Path) -> None:
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
def test_a_signal_ends_the_server_with_0(serve: Any, tiny_repository: Path, number: int) -> None:
    server = serve("--repository", tiny_repository, models=["classifier"])
    assert server.stop(number) == 0
    assert "stopped" in server.log.read_text()


def test_requests_in_flight_are_answered_before_the_end(serve: Any, tiny: Any, repository: Path) -> None:
    slow(tiny).write(repository / "slow", 1)
    server = serve("--repository", repository, models=["slow"])
    answers: list[tuple[int, bytes]] = []
    body = json.dumps({"instances": [600_000] * 4}).encode()
    caller = threading.Thread(target=lambda: answers.append(server.send("POST", "/v1/models/slow:predict", body)))
    busy = cpu_seconds(server) + 0.2
    caller.start()
    server.wait_for(lambda: cpu_seconds(server) > busy)
    assert not answers
    assert server.stop(signal.SIGTERM) == 0
    caller.join()
    assert answers[0][0] == 200


def test_small_requests_are_answered_beside_a_long_one(serve: Any, tiny: Any, repository: Path) -> None:
    slow(tiny).write(repository / "slow", 1)
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, models=["slow", "m"])
    body = json.dumps({"instances": [600_000] * 4}).encode()
    ended: list[float] = []

    def long() -> None:
        assert server.send("POST", "/v1/models/slow:predict", body)[0] == 200
        ended.append(time.monotonic())

    caller = threading.Thread(target=long)
    busy = cpu_seconds(server) + 0.2
    caller.start()
    server.wait_for(lambda: cpu_seconds(server) > busy)
    assert answer(server) == 1.5
    answered = time.monotonic()
    caller.join()
    assert answered < ended[0]


def test_tensorflow_is_never_loaded_for_onnx_models(tiny_server: Any, ask: Any) -> None:
    ask.predict("classifier", {"image": np.zeros((1, 2, 2, 1), np.float32)})
    maps = Path(f"/proc/{tiny_server.process.pid}/maps")
    if not maps.exists():
        pytest.skip("this system does not show a process's libraries")
    assert "onnxruntime" in maps.read_text()
    assert "tensorflow" not in maps.read_text()


def test_a_signature_without_graph_needs_tensorflow_alone(serve: Any, tiny_repository: Path, tmp_path: Path) -> None:
    server = serve("--repository", tiny_repository, models=["half_plus_two"], env=without_tensorflow(tmp_path))
    body = b'{"signature_name": "ungraphed", "instances": [[1.0]]}'
    status, refusal = server.send("POST", "/v1/models/half_plus_two:predict", body)
    assert status == 400
    assert json.loads(refusal)["error"].startswith('Serving signature key "ungraphed" of half_plus_two has no verified')
    assert answer(server, "half_plus_two") == 2.5


def test_without_tensorflow_the_others_go_on(serve: Any, tiny: Any, repository: Path, tmp_path: Path) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    published = tiny.half_plus(1).write(repository / "bare", 1)
    (published / "assets.extra" / "card.json").unlink()
    server = serve("--repository", repository, models=["m"], env=without_tensorflow(tmp_path))
    server.wait_for_state("bare", 1, "END")
    status = json.loads(server.get("/v1/models/bare")[1])["model_version_status"][0]["status"]
    assert status["error_code"] == "FAILED_PRECONDITION"
    assert "TensorFlow is not installed" in status["error_message"]
    assert answer(server) == 1.5


def test_warm_up_requests_are_answered_before_the_version(serve: Any, tiny: Any, repository: Path) -> None:
    good, bad = tiny.half_plus(1), tiny.half_plus(1)
    good.warm_up, bad.warm_up = [warm_up(X)], [warm_up(np.zeros((1, 1), np.int64))]
    good.write(repository / "good", 1)
    bad.write(repository / "bad", 1)
    damaged = tiny.half_plus(1).write(repository / "other", 1)
    (damaged / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no records")
    server = serve("--repository", repository, models=["good"])
    server.wait_for_state("bad", 1, "END")
    server.wait_for_state("other", 1, "END")
    assert b"Expects arg[0] to be float but int64 is provided" in server.get("/v1/models/bad")[1]
    assert b"Please verify your warmup data is in TFRecord format." in server.get("/v1/models/other")[1]


def test_a_server_with_models_is_ready_within_seconds(serve: Any, tiny_repository: Path) -> None:
    start = time.monotonic()
    server = serve("--repository", tiny_repository, models=["classifier", "half_plus_two"])
    # A second on an idle machine; tests share theirs.
    assert time.monotonic() - start < 10
    server.stop()


def test_a_unix_socket_serves_grpc(serve: Any, tiny_repository: Path, tmp_path: Path) -> None:
    import grpc

    from clients.wire import services

    path = tmp_path / "socket"
    for _ in range(2):  # the second finds the socket file of the first, which was killed
        server = serve("--repository", tiny_repository, f"--grpc_socket_path={path}", models=["half_plus_two"])
        with grpc.insecure_channel(f"unix:{path}") as channel:
            request = pb.PredictRequest(model_spec=pb.ModelSpec(name="half_plus_two"))
            tensors.fill(request.inputs["x"], X)
            answered = services.stub(channel, services.PREDICTION).Predict(request, timeout=30)
        assert list(answered.outputs["y"].float_val) == [2.5]
        server.stop(signal.SIGKILL)


def warm_up(x: np.ndarray[Any, Any]) -> Any:
    log = pb.PredictionLog()
    log.predict_log.request.model_spec.name = "of another name"
    tensors.fill(log.predict_log.request.inputs["x"], x)
    return log


def slow(tiny: Any) -> Any:
    """y = x after so many turns of a loop as the first x says."""
    from onnx import TensorProto, helper

    turn = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["go_on"]),
            helper.make_node("Add", ["state", "state"], ["next"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.INT64, [None]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.INT64, [None]),
        ],
    )
    inputs, outputs = {"x": ("int64", [-1])}, {"y": ("int64", [-1])}
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["turns"], keepdims=0),
            helper.make_node("Loop", ["turns", "", "x"], ["y"], body=turn),
        ],
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["b"])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["b"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return tiny.Model({"serving_default": tiny.Signature(inputs, outputs)}, {"model.onnx": model})


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


def cpu_seconds(server: Any) -> float:
    """What the server has computed so far; a running request shows in it."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
