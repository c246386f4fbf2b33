"""Which flags start a server, which do not, and when it is ready."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ladle.serving import flags
from ladle.serving.errors import InvalidArgument
from ladle.serving.repository import assembly

ROOT = Path(__file__).resolve().parents[3]
MODEL = 'config {{ name: "{0}" base_path: "{1}/{0}" model_platform: "tensorflow" {2} }}'


def write_config(folder: Path, *entries: tuple[str, str]) -> Path:
    """A ModelServerConfig, replaced as a whole, of models below the folder."""
    (folder / ".new.config").write_text(
        "model_config_list { " + "\n".join(MODEL.format(name, folder, more) for name, more in entries) + " }"
    )
    return (folder / ".new.config").rename(folder / "models.config")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port=0"], "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."),
        (["--model_base_path="], "Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (
            ["--batching_parameters_file=x"],
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true.",
        ),
        (
            [f"--tensorflow_{kind}_parallelism=1" for kind in ("session", "intra_op", "inter_op")],
            "Either configure server_options.tensorflow_session_parallelism or",
        ),
        (["--repository=x"], "got --repository together with"),
        (["--version_transition_policy=none"], "expected availability or resource"),
        (["--allow_config_reload"], "--allow_config_reload needs --config_root=DIR"),
        (["--workers=2", "--grpc_socket_path=x"], "only one process can serve --grpc_socket_path"),
        (["--workers=0"], "got --workers=0; expected 1 or more"),
        (["--model_name_pattern=("], "got --model_name_pattern=(; expected a regular expression"),
    ],
    ids=["port", "model", "batching", "threads", "both", "policy", "root", "socket", "workers", "pattern"],
)
def test_flags_that_contradict_each_other_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        assembly.check(flags.parse(["--model_base_path=/m", *arguments]))
    assert message in str(error.value)


@pytest.fixture
def start(tiny: Any) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """Starts a server without waiting for it."""
    started = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], int]:
        rest_port = tiny.free_port()
        command = [sys.executable, "-m", "ladle.serving", f"--port={tiny.free_port()}", f"--rest_api_port={rest_port}"]
        command += ["--host=127.0.0.1", "--file_system_poll_wait_seconds=0.05", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process, rest_port

    yield start
    for process in started:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """The server's output up to the line with this text."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(said)


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_with_wait_for_models_ports_open_when_all_models_are_available(
    start: Any, tiny: Any, repository: Path, workers: int
) -> None:
    tiny.half_plus(1).write(repository / "a", 1)
    config = write_config(repository, ("a", ""), ("late", ""))
    process, port = start(f"--model_config_file={config}", "--wait_for_models", f"--workers={workers}")
    said = read_until(process, "a version 1: ONNX")
    assert "waiting for it" in said
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port)).close()
    tiny.half_plus(1).write(repository / "late", 1)
    read_until(process, "serv")
    socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_with_wait_for_models_one_failing_model_fails_the_start(
    start: Any, tiny: Any, repository: Path, workers: int
) -> None:
    tiny.half_plus(1).write(repository / "a", 1)
    (repository / "bad" / "1").mkdir(parents=True)
    config = write_config(repository, ("a", ""), ("bad", ""))
    arguments = [f"--model_config_file={config}", "--max_num_load_retries=0", f"--workers={workers}"]
    process, _ = start(*arguments, "--wait_for_models")
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 255
    assert "Error: UNKNOWN: 1 servable(s) did not become available: {{{name: bad version: 1} due to error: NOT" in said
    assert "Traceback" not in said


def test_workers_fail_to_start_as_one_process_does(start: Any, tiny: Any, tiny_server: Any, repository: Path) -> None:
    process, _ = start(f"--repository={repository}", "--workers=2", f"--port={tiny_server.grpc_port}")
    assert f"UNKNOWN: gRPC cannot listen on 127.0.0.1:{tiny_server.grpc_port}" in process.communicate(timeout=60)[0]
    assert process.returncode == 255


def test_one_failing_model_leaves_the_others_served(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.half_plus(1).write(repository / "a", 1)
    (repository / "bad" / "1").mkdir(parents=True)
    config = write_config(repository, ("a", ""), ("bad", ""))
    server = serve("--model_config_file", config, "--max_num_load_retries=0", models=["a"])
    assert server.states("bad") == {1: "END"}
    assert server.get("/v2/health/ready")[0] == 503
    server.stop()


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_a_repository_is_ready_once_a_version_of_its_models_answers(
    serve: Any, tiny: Any, repository: Path, workers: int
) -> None:
    (repository / "m" / "1").mkdir(parents=True)
    server = serve("--repository", repository, f"--workers={workers}")
    server.wait_for_state("m", 1, "END")
    assert server.get("/v2/health/ready")[0] == 503
    tiny.half_plus(1).write(repository / "m", 2)
    server.wait_for(lambda: server.get("/v2/health/ready")[0] == 200)
    # A version is reachable, and the server ready, a moment before its status says so.
    server.wait_for(lambda: server.states("m") == {2: "AVAILABLE", 1: "END"})
    repository.rename(repository.parent / "away")  # its versions are in memory and go on answering
    server.wait_for(lambda: "cannot be read" in server.log.read_text())
    assert server.get("/v2/health/ready")[0] == 200
    (repository.parent / "away").rename(repository)
    server.stop()


def test_a_repository_that_cannot_be_read_and_served_nothing_is_not_ready(serve: Any, repository: Path) -> None:
    server = serve("--repository", repository)
    server.wait_for(lambda: server.get("/v2/health/ready")[0] == 200)
    repository.rename(repository.parent / "away")
    server.wait_for(lambda: server.get("/v2/health/ready")[0] == 503)
    (repository.parent / "away").rename(repository)
    server.wait_for(lambda: server.get("/v2/health/ready")[0] == 200)
    server.stop()


def test_an_emptied_config_file_changes_nothing(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.half_plus(1).write(repository / "a", 1)
    config = write_config(repository, ("a", ""))
    server = serve("--model_config_file", config, "--model_config_file_poll_wait_seconds=0.05", models=["a"])
    config.write_text("")
    server.wait_for(lambda: "Cannot transition to requested config." in server.log.read_text())
    assert server.states("a") == {1: "AVAILABLE"}
    write_config(repository)
    server.wait_for_state("a", 1, "END")
    server.stop()


def test_a_server_that_polls_once_finds_new_versions_only_at_a_new_config(
    serve: Any, tiny: Any, repository: Path
) -> None:
    tiny.half_plus(1).write(repository / "a", 1)
    config = write_config(repository, ("a", ""))
    flags = ["--file_system_poll_wait_seconds=0", "--model_config_file_poll_wait_seconds=0.05"]
    server = serve("--model_config_file", config, *flags, models=["a"])
    tiny.half_plus(2).write(repository / "a", 2)
    tiny.half_plus(1).write(repository / "b", 1)
    assert server.states("a") == {1: "AVAILABLE"}
    write_config(repository, ("a", ""), ("b", ""))
    server.wait_for_state("b", 1, "AVAILABLE")
    server.wait_for_state("a", 1, "END")
    assert server.states("a") == {2: "AVAILABLE", 1: "END"}
    server.stop()


def test_a_later_model_leaves_the_server_ready(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.half_plus(1).write(repository / "a", 1)
    server = serve("--repository", repository, "--max_num_load_retries=5", models=["a"])
    server.wait_for(lambda: server.get("/v2/health/ready")[0] == 200)
    (repository / "b" / "1").mkdir(parents=True)

    def first_attempt_failed() -> bool:  # the state says LOADING before it and after it; the next one comes in a minute
        statuses = json.loads(server.get("/v1/models/b")[1]).get("model_version_status", [])
        return [(each["state"], each["status"]["error_code"]) for each in statuses] == [("LOADING", "NOT_FOUND")]

    server.wait_for(first_attempt_failed)
    assert server.get("/v2/health/ready")[0] == 200
    server.stop()


@pytest.mark.slow
def test_memory_is_flat_over_200_versions(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.half_plus(0).write(repository / "m", 1)
    server = serve("--repository", repository, models=["m"])

    def memory() -> int:
        lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024

    early = 0
    for version in range(2, 202):
        tiny.half_plus(version).write(repository / "m", version)
        server.wait_for_state("m", version - 1, "END")
        shutil.rmtree(repository / "m" / str(version - 1))
        if version == 20:
            early = memory()
    assert memory() < early + 10 * 2**20
    server.stop()
