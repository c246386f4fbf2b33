"""Where a server listens, and what it says when it cannot."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services
from tests.conftest import ROOT
from tests.stubs import grpc_stub

BACKENDS = pytest.mark.parametrize("backend", ["grpcio", "native"])


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return socket.has_dualstack_ipv6()
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("flags", [["--grpc_backend=grpcio"], ["--grpc_backend=native"]], ids=["grpcio", "native"])
def test_two_colons_listen_on_ipv6_and_ipv4(serve: Any, tiny_repository: Path, flags: list[str]) -> None:
    server = serve("--repository", tiny_repository, "--host=::", *flags)
    for host in ("127.0.0.1", "[::1]"):
        with grpc.insecure_channel(f"{host}:{server.grpc_port}") as channel:
            answer = grpc_stub(channel, services.HEALTH).Check(pb.HealthCheckRequest(), timeout=30, wait_for_ready=True)
            assert answer.status
        with socket.create_connection((host.strip("[]"), server.rest_port), timeout=30) as connection:
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    server.stop()


def refusal(repository: Path, *flags: str) -> str:
    command = [sys.executable, "-m", "ladle.serving", f"--repository={repository}", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 255, done
    return done.stdout.strip().splitlines()[-1]


@BACKENDS
def test_the_systems_reason_is_given(tmp_path: Path, tiny_server: Any, backend: str) -> None:
    flags = (f"--grpc_backend={backend}",)
    failed = "Failed to start server. Error: UNKNOWN: gRPC cannot listen on "
    port = tiny_server.grpc_port
    assert refusal(tmp_path, f"--port={port}", "--host=127.0.0.1", *flags) == (
        f"{failed}127.0.0.1:{port}: Address already in use"
    )
    assert refusal(tmp_path, "--port=1", "--host=192.0.2.1", *flags) == (
        f"{failed}192.0.2.1:1: Cannot assign requested address"
    )
    path = tmp_path / "missing" / "socket"
    assert refusal(tmp_path, "--port=0", f"--grpc_socket_path={path}", *flags) == (
        f"{failed}{path}: No such file or directory"
    )
    long = f"/tmp/{'x' * 120}"
    assert refusal(tmp_path, "--port=0", f"--grpc_socket_path={long}", *flags) == (
        f"{failed}{long}: AF_UNIX path too long"
    )


def test_workers_give_the_systems_reason(tmp_path: Path) -> None:
    assert refusal(tmp_path, "--port=1", "--host=192.0.2.1", "--workers=2").endswith(
        "192.0.2.1:1: Cannot assign requested address"
    )


@pytest.mark.parametrize("workers", [1, 2], ids=["one-process", "two-workers"])
def test_a_taken_rest_port_ends_the_server(tmp_path: Path, tiny_server: Any, tiny: Any, workers: int) -> None:
    port, taken = tiny.free_port(), tiny_server.rest_port
    said = refusal(tmp_path, f"--port={port}", f"--rest_api_port={taken}", "--host=127.0.0.1", f"--workers={workers}")
    assert said == (
        f"Failed to start server. Error: UNKNOWN: no REST: it cannot listen on 127.0.0.1:{taken}: "
        "Address already in use; choose another --rest_api_port, or give --allow_missing_rest_api"
    )


def test_rest_on_the_grpc_port_ends_the_server(tmp_path: Path, tiny: Any) -> None:
    port = tiny.free_port()
    said = refusal(tmp_path, f"--port={port}", f"--rest_api_port={port}", "--host=127.0.0.1")
    assert f"no REST: port {port} is the gRPC port; choose another --rest_api_port" in said


@pytest.mark.parametrize(("workers", "is_same"), [(1, False), (2, True)], ids=["one-taken", "two-the-grpc-port"])
def test_a_server_may_go_on_without_rest(
    tiny_repository: Path, tiny_server: Any, tiny: Any, tmp_path: Path, workers: int, is_same: bool
) -> None:
    port, log = tiny.free_port(), tmp_path / "log"
    rest = port if is_same else tiny_server.rest_port
    flags = [f"--port={port}", f"--rest_api_port={rest}", "--host=127.0.0.1", f"--workers={workers}"]
    command = [sys.executable, "-m", "ladle.serving", f"--repository={tiny_repository}", "--allow_missing_rest_api"]
    with (
        log.open("wb") as file,
        subprocess.Popen([*command, *flags], cwd=ROOT, stdout=file, stderr=file) as running,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        try:
            request = pb.GetModelStatusRequest()
            request.model_spec.name = "half_plus_two"
            status = grpc_stub(channel, services.MODEL).GetModelStatus(request, timeout=60, wait_for_ready=True)
            assert len(status.model_version_status) == 1
        finally:
            running.terminate()
        assert running.wait(60) == 0
    taken = f"it cannot listen on 127.0.0.1:{rest}: Address already in use"
    assert f"REST is off: {f'port {port} is the gRPC port' if is_same else taken}\n" in log.read_text()


@BACKENDS
def test_the_unix_socket_of_a_running_server_is_not_taken_over(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "socket"
    flags = ("--port=0", f"--grpc_socket_path={path}", f"--grpc_backend={backend}")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        assert refusal(tmp_path, *flags).endswith(f"gRPC cannot listen on {path}: Address already in use")
        assert path.exists()
