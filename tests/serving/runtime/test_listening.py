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
