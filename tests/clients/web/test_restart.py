"""A gateway under gunicorn keeps working when the model server is killed and restarted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladle.clients.drawing.pictures import png

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60


class Gateway:
    """A gateway's process and where it answers."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.url = process, f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "image/png", **headers})
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def wait_for(self, status: int, path: str, body: bytes | None = None) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ask(path, body)[0] == status:
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise AssertionError(f"{path} never answered {status}")


COMMANDS = {
    "ladle": lambda port: [sys.executable, "-m", "ladle.clients.web", "--port", port, "--models", "classifier"],
    "gunicorn": lambda port: [
        *(
            sys.executable,
            "-m",
            "gunicorn",
            "--bind",
            f"127.0.0.1:{port}",
            "--worker-class",
            "ladle.clients.web.worker.Worker",
        ),
        *("--threads", "16", "ladle.clients.web:create_app()"),
    ],
    "workers": lambda port: [
        *(sys.executable, "-m", "ladle.clients.web", "--port", port, "--models", "classifier", "--workers", "2")
    ],
}


@pytest.fixture
def start(tmp_path: Path, tiny: Any) -> Iterator[Callable[[int], list[Gateway]]]:
    """Starts a gateway by each of COMMANDS in front of the model server at a port."""
    running: list[Gateway] = []

    def make(server_port: int) -> list[Gateway]:
        environment = {
            **os.environ,
            "LADLE_ADDRESS": f"grpc://127.0.0.1:{server_port}",
            "LADLE_GATEWAY_MODELS": "classifier",
        }
        for number, command in enumerate(COMMANDS.values()):
            port = tiny.free_port()
            with (tmp_path / f"gateway{number}.log").open("ab") as log:
                process = subprocess.Popen(command(str(port)), cwd=ROOT, env=environment, stdout=log, stderr=log)
            running.append(Gateway(process, port))
        for gateway in running:
            gateway.wait_for(200, "/healthz")
        return running

    yield make
    for gateway in running:
        gateway.process.send_signal(signal.SIGTERM)
    for gateway in running:
        gateway.process.wait(DEADLINE_S)


def test_a_caller_who_keeps_a_closed_connection_open_holds_up_nobody(
    start: Callable[[int], list[Gateway]], tiny: Any
) -> None:
    count = 8  # gunicorn alone would wait two seconds for each of them, one after another
    for gateway in start(tiny.free_port()):
        port = int(gateway.url.rpartition(":")[2])
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                caller = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
                assert caller.recv(12) == b"HTTP/1.1 200"
            began = time.monotonic()
            assert gateway.ask("/healthz")[0] == 200
            assert time.monotonic() - began < count


LIGHT = png(Image.fromarray(np.full((2, 2), 250, np.uint8)))
CLASSIFY = "/api/v1/models/classifier:classify"


def test_service_comes_back_when_the_model_server_does(
    start: Callable[[int], list[Gateway]], serve: Callable[..., Any], tiny: Any, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    tiny.image_classifier().write(repository / "classifier", 1)
    first = serve("--repository", repository, "--access_log", models=["classifier"])
    gateways = start(first.grpc_port)
    for number, gateway in enumerate(gateways):
        status, headers, body = gateway.ask(CLASSIFY, LIGHT, **{"X-Request-ID": f"trace-{number}"})
        assert status == 200, body
        assert json.loads(body)["results"][0]["label"] in ("boot", "coat", "shirt")
        sentence = f"request trace-{number}: gRPC predict classifier: OK"
        first.wait_for(lambda sentence=sentence: sentence in first.log.read_text())

    first.stop(signal.SIGKILL)
    for gateway in gateways:
        for path, data in ((CLASSIFY, LIGHT), ("/readyz", None), (CLASSIFY, LIGHT)):
            status, headers, body = gateway.ask(path, data)
            assert status == 503, body
            assert headers["Retry-After"] == "2"
            assert headers["Content-Type"] == "application/problem+json"
            assert b"127.0.0.1" not in body
            assert b"grpc" not in body.lower()
        assert gateway.ask("/healthz")[0] == 200
        assert json.loads(gateway.ask("/api/v1/models")[2])["ready"] is False

    # A later --port wins over the one that the fixture chose.
    serve("--repository", repository, f"--port={first.grpc_port}", models=["classifier"])
    for gateway in gateways:
        gateway.wait_for(200, "/readyz")
        gateway.wait_for(200, CLASSIFY, LIGHT)
    text = gateways[list(COMMANDS).index("workers")].ask("/metrics")[2].decode()
    assert 'ladle_gateway_model_duration_seconds_count{model="classifier",verb="classify"}' in text
