"""Versions that appear, disappear and roll back while a server runs; broken and half-written versions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors

ROOT = Path(__file__).resolve().parents[2]
X = np.array([[1.0]], np.float32)


def answer(server: Any, model: str = "m") -> Any:
    """The latest version's answer to 1: half of it plus the version's offset."""
    status, body = server.send("POST", f"/v1/models/{model}:predict", b'{"instances": [[1.0]]}')
    return json.loads(body)["predictions"][0][0] if status == 200 else None


def test_a_new_version_replaces_the_old_one(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, models=["m"])
    assert answer(server) == 1.5
    tiny.half_plus(2).write(repository / "m", 2)
    server.wait_for_state("m", 1, "END")
    assert server.states("m") == {2: "AVAILABLE", 1: "END"}
    assert answer(server) == 2.5


def test_models_appear_and_disappear_in_a_repository(serve: Any, tiny: Any, repository: Path) -> None:
    server = serve("--repository", repository)
    assert server.get("/v2/health/ready")[0] == 200
    tiny.half_plus(1).write(repository / "late", 1)
    server.wait_for_state("late", 1, "AVAILABLE")
    shutil.rmtree(repository / "late")
    server.wait_for_state("late", 1, "END")
    assert answer(server, "late") is None


def test_when_a_version_disappears_the_one_before_answers(serve: Any, tiny: Any, repository: Path) -> None:
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


def test_a_version_copied_into_place_is_served_once_it_is_complete(serve: Any, tiny: Any, repository: Path) -> None:
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


def test_no_error_contains_a_path(serve: Any, tiny: Any, repository: Path) -> None:
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


# Root reads any file; without this capability it is as bound to permissions as any user.
WITHOUT_ROOTS_RIGHTS = """
import ctypes
header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(header, none) == 0
"""


def statuses(server: Any, model: str) -> tuple[str, str]:
    """Code and message of the model's only version."""
    (version,) = json.loads(server.get(f"/v1/models/{model}")[1])["model_version_status"]
    return version["status"]["error_code"], version["status"]["error_message"]


def test_what_cannot_be_read_is_said_and_served_after_chmod(
    serve: Any, tiny: Any, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_ROOTS_RIGHTS)
    folder, file, away = (tiny.half_plus(1).write(repository / name, 1) for name in ("folder", "file", "away"))
    folder.chmod(0)
    (file / "model.onnx").chmod(0)
    away.parent.chmod(0)
    server = serve("--repository", repository, env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    for model, name in (("folder", "the version's folder"), ("file", "model.onnx")):
        server.wait_for_state(model, 1, "END")
        message = f"{name} cannot be read: permission denied; allow the server's user to read it"
        assert statuses(server, model) == ("PERMISSION_DENIED", message)
        assert f"{model} version 1: not loaded: {message}" in server.log.read_text()
    assert (
        f"away: the folder {away.parent} cannot be read (Permission denied); waiting for it" in server.log.read_text()
    )
    assert "Traceback" not in server.log.read_text()
    for path, mode in ((folder, 0o755), (file / "model.onnx", 0o644), (away.parent, 0o755)):
        path.chmod(mode)
    for model in ("folder", "file", "away"):
        server.wait_for_state(model, 1, "AVAILABLE")


def test_a_fifo_in_place_of_a_file_is_refused(serve: Any, tiny: Any, repository: Path) -> None:
    for name in ("saved_model.pb", "model.onnx", "assets.extra/card.json"):
        version = tiny.half_plus(1).write(repository / Path(name).stem, 1)
        (version / name).unlink()
        os.mkfifo(version / name)
    server = serve("--repository", repository)
    for name in ("saved_model.pb", "model.onnx", "assets.extra/card.json"):
        server.wait_for_state(Path(name).stem, 1, "END")
        refusal = f"{name} is a FIFO; expected a regular file: replace it"
        assert statuses(server, Path(name).stem) == ("FAILED_PRECONDITION", refusal)


def test_the_half_written_version_of_a_killed_writer_is_not_served(serve: Any, tiny: Any, repository: Path) -> None:
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


def test_warm_up_requests_run_before_the_version_is_served(serve: Any, tiny: Any, repository: Path) -> None:
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


def warm_up(x: np.ndarray[Any, Any]) -> Any:
    log = pb.PredictionLog()
    log.predict_log.request.model_spec.name = "of another name"
    tensors.fill(log.predict_log.request.inputs["x"], x)
    return log


def test_cached_request_shapes_are_checked_again_for_each_version(
    serve: Any, tiny: Any, repository: Path, grpc_to: Any
) -> None:
    """The same bytes each time: right for version 1, a wrong dtype for 2, and 3 has one more output."""
    tiny.half_plus(1).write(repository / "m", 1)
    node, numbers = onnx.helper.make_node("Identity", ["x"], ["y"]), {"x": ("int64", [-1, 1])}
    graph = tiny.onnx_model([node], numbers, {"y": ("int64", [-1, 1])})
    whole = tiny.Model({"serving_default": tiny.Signature(numbers, {"y": ("int64", [-1, 1])})}, {"model.onnx": graph})
    row: dict[str, Any] = {"x": ("float32", [-1, 1])}
    both: dict[str, Any] = {name: ("float32", [-1, 1]) for name in ("y", "z")}
    nodes = [onnx.helper.make_node(op, ["x"], [name]) for op, name in (("Neg", "y"), ("Identity", "z"))]
    twice = tiny.Model(
        {"serving_default": tiny.Signature(row, both)}, {"model.onnx": tiny.onnx_model(nodes, row, both)}
    )
    server = serve("--repository", repository, models=["m"])
    stub = grpc_to(server).prediction
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="m"))
    tensors.fill(request.inputs["x"], X, content=True)

    def over_grpc() -> Any:
        try:
            found = stub.Predict(request, timeout=60).outputs
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return {alias: tensors.to_array(proto).tolist() for alias, proto in found.items()}

    def over_rest() -> Any:
        return json.loads(server.send("POST", "/v1/models/m:predict", b'{"instances": [[1.0]]}')[1])

    wrong = "JSON Value: 1.0 Type: Number is not of expected type: int64"
    expected: list[tuple[Any, Any]] = [
        ({"y": [[1.5]]}, {"predictions": [[1.5]]}),
        (
            ("INVALID_ARGUMENT", "Expects arg[0] to be int64 but float is provided"),
            {"error": f"Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: {wrong}"},
        ),
        ({"y": [[-1.0]], "z": [[1.0]]}, {"predictions": [{"y": [-1.0], "z": [1.0]}]}),
    ]
    for version, (by_grpc, by_rest) in enumerate(expected, 1):
        if version > 1:
            {2: whole, 3: twice}[version].write(repository / "m", version)
            server.wait_for_state("m", version, "AVAILABLE")
            server.wait_for_state("m", version - 1, "END")
        for _ in range(3):
            assert over_grpc() == by_grpc
            assert over_rest() == by_rest
