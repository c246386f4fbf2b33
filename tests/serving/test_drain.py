"""Shutdown: after one signal the server answers the requests in flight; after a second it exits at once."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from benchmarks.chaos import floods
from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from tests.stubs import grpc_stub

CALLS = 250  # over each protocol
CHANNELS = 5
ITERATIONS = 800  # a few milliseconds


def request_of(iterations: int) -> Any:
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="m"))
    tensors.fill(request.inputs["x"], np.array([iterations]))
    return request


@pytest.mark.parametrize("backend", ["native", "grpcio"])
def test_requests_in_flight_are_all_answered(serve: Any, tiny: Any, repository: Path, backend: str) -> None:
    tiny.looping().write(repository / "m", 1)
    flags = [f"--grpc_backend={backend}", "--max_queued_requests=1000", "--max_queued_seconds=0"]
    flags.append("--file_system_poll_wait_seconds=1")
    server = serve("--repository", repository, *flags, models=["m"])
    begun = threading.Semaphore(0)
    answers: list[Any] = []

    def ask_rest(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
        connection.request("POST", "/v1/models/m:predict", json.dumps({"instances": [ITERATIONS + number]}))
        begun.release()
        response = connection.getresponse()
        found = json.loads(response.read())
        answers.append(found["predictions"] == [ITERATIONS + number] if response.status == 200 else found)

    threads = [threading.Thread(target=ask_rest, args=(number,)) for number in range(CALLS)]
    with contextlib.ExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        target = f"127.0.0.1:{server.grpc_port}"
        channels = [stack.enter_context(grpc.insecure_channel(target, options)) for _ in range(CHANNELS)]
        for channel in channels:
            grpc.channel_ready_future(channel).result(30)
        futures = []
        for number in range(CALLS):
            stub = grpc_stub(channels[number % CHANNELS], services.PREDICTION)
            futures.append(stub.Predict.future(request_of(ITERATIONS + number), timeout=60))
        for thread in threads:
            thread.start()
        for _ in range(CALLS):
            assert begun.acquire(timeout=60)
        futures[0].result()
        server.process.send_signal(signal.SIGTERM)
        for number, future in enumerate(futures):
            found = future.exception() or future.result().outputs["y"].int64_val[0]
            answers.append(found if found != ITERATIONS + number else True)
        for thread in threads:
            thread.join()
        assert answers == [True] * (2 * CALLS), [answer for answer in answers if answer is not True][:5]
        assert server.process.wait(60) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can stop new connections before it closes a port")
@pytest.mark.parametrize("workers", [1, 2])
def test_clients_that_reconnect_lose_no_request(serve: Any, tiny_repository: Path, workers: int) -> None:
    server = serve("--repository", tiny_repository, f"--workers={workers}", models=["half_plus_two"])
    body = b'{"instances": [[1.0]]}'
    request = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
    request += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    answered = {port: threading.Semaphore(0) for port in (server.rest_port, server.grpc_port)}
    lost: list[Any] = []

    def ask_rest() -> None:
        connection = socket.create_connection(("127.0.0.1", server.rest_port), timeout=60)
        with connection, connection.makefile("rb") as answers:
            connection.sendall(request)
            answer = answers.read()
        if not answer.startswith(b"HTTP/1.1 200"):
            lost.append(answer)

    def ask_grpc() -> None:
        with floods.grpc_health(server.grpc_port) as ask:
            ask()

    def ask_again_and_again(ask: Callable[[], None], port: int) -> None:
        while True:
            try:
                ask()
            except ConnectionRefusedError:
                return  # the server is gone, and the client knows that it got nothing
            except OSError as error:
                lost.append(error)
                return
            answered[port].release()

    asked = ((ask_rest, server.rest_port), (ask_grpc, server.grpc_port))
    clients = [threading.Thread(target=ask_again_and_again, args=one) for one in asked for _ in range(8)]
    for client in clients:
        client.start()
    for seen in answered.values():
        for _ in range(100):
            assert seen.acquire(timeout=60)
    assert server.stop() == 0
    for client in clients:
        client.join()
    assert not lost, (len(lost), lost[:3])


@pytest.mark.parametrize("backend", ["native", "grpcio"])
def test_a_second_signal_ends_the_server_at_once(serve: Any, tiny: Any, repository: Path, backend: str) -> None:
    tiny.looping().write(repository / "m", 1)
    server = serve("--repository", repository, f"--grpc_backend={backend}", models=["m"])
    ended = threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            server.send("POST", "/v1/models/m:predict", b'{"instances": [20000000]}')
        ended.set()

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        watched = grpc_stub(channel, services.HEALTH).Watch(pb.HealthCheckRequest(), timeout=60)
        assert pb.ServingStatus.Name(next(watched).status) == "SERVING"
        busy = server.cpu_seconds() + 0.2
        threading.Thread(target=ask).start()
        server.wait_for(lambda: server.cpu_seconds() > busy)
        server.process.send_signal(signal.SIGTERM)
        assert pb.ServingStatus.Name(next(watched).status) == "NOT_SERVING"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 1
    assert ended.wait(30)


def test_a_request_that_outlasts_the_grace_period_is_cut_off(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.looping().write(repository / "m", 1)
    server = serve("--repository", repository, "--shutdown_grace_seconds=1", models=["m"])
    failed = threading.Event()

    def ask() -> None:
        try:
            server.send("POST", "/v1/models/m:predict", b'{"instances": [20000000]}')
        except (OSError, http.client.HTTPException):
            failed.set()

    caller = threading.Thread(target=ask)
    busy = server.cpu_seconds() + 0.2
    caller.start()
    server.wait_for(lambda: server.cpu_seconds() > busy)
    assert server.stop() == 0
    caller.join()
    assert failed.is_set()
