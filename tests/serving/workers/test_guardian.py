"""A crash in native code does not end the server: it comes back, and what crashed it twice is refused."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.serving.errors import InvalidArgument, Unavailable
from ladle.serving.runtime.native_calls import NativeCalls, slots
from ladle.serving.workers.crashes import Crashes

needs_proc = pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="needs /proc to find the server")
LEAST = -(2**31)
REFUSED = "requests with inputs of these shapes crashed the server twice; they are refused until another version is "
REFUSED += "served"


def quotient(tiny: Any, warm_up: tuple[int, int] | None = None) -> Any:
    """z = x / y in int32. The least number divided by -1 does not fit: the processor stops ONNX Runtime's process."""
    given = {"x": ("int32", [-1]), "y": ("int32", [-1])}
    answer = {"z": ("int32", [-1])}
    graph = tiny.onnx_model([helper.make_node("Div", ["x", "y"], ["z"])], given, answer)
    model = tiny.Model({"serving_default": tiny.Signature(given, answer)}, {"model.onnx": graph})
    if warm_up is not None:
        log = pb.PredictionLog()
        for alias, value in zip(("x", "y"), warm_up, strict=True):
            tensors.fill(log.predict_log.request.inputs[alias], np.array([value], np.int32))
        model.warm_up = [log]
    return model


def divide(server: Any, x: list[int], y: list[int]) -> Any:
    """The quotients, or the HTTP status and the error; None when the server ends before it answers."""
    body = json.dumps({"inputs": {"x": x, "y": y}}).encode()
    try:
        status, answer = server.send("POST", "/v1/models/quotient:predict", body)
    except (OSError, http.client.HTTPException):
        return None
    found = json.loads(answer)
    return found["outputs"] if status == 200 else (status, found["error"])


@needs_proc
@pytest.mark.parametrize("workers", [1, 2])
def test_what_crashed_the_server_twice_is_refused_until_another_version(
    serve: Any, tiny: Any, repository: Path, grpc_to: Any, refused: Any, workers: int
) -> None:
    quotient(tiny).write(repository / "quotient", 1)
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, f"--workers={workers}", models=["quotient", "m"])
    for _ in range(2):
        assert divide(server, [LEAST], [-1]) is None
        server.wait_for(lambda: divide(server, [7, 9], [2, 3]) == [3, 3])
    server.wait_for(lambda: divide(server, [LEAST], [-1]) == (400, REFUSED))
    with pytest.raises(refused, match=REFUSED) as error:
        grpc_to(server).predict("quotient", {"x": np.array([7], np.int32), "y": np.array([2], np.int32)})
    assert error.value.is_code("INVALID_ARGUMENT")
    assert divide(server, [7, 9], [2, 3]) == [3, 3]
    status, answer = server.send("POST", "/v1/models/m:predict", b'{"instances": [[1.0]]}')
    assert (status, json.loads(answer)) == (200, {"predictions": [[1.5]]})
    quotient(tiny).write(repository / "quotient", 2)
    server.wait_for(lambda: divide(server, [7], [2]) == [3])
    assert server.log.read_text().count("(signal 8 (SIGFPE)): it ran 1 form of request") == 2
    assert server.stop() == 0


@needs_proc
def test_a_version_that_crashes_the_server_while_it_loads_fails_and_the_others_serve(
    serve: Any, tiny: Any, repository: Path
) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    quotient(tiny, warm_up=(LEAST, -1)).write(repository / "quotient", 1)
    server = serve("--repository", repository, models=["m"])
    server.wait_for_state("quotient", 1, "END")
    status = json.loads(server.get("/v1/models/quotient")[1])["model_version_status"][0]["status"]
    assert status["error_code"] == "UNAVAILABLE"
    assert status["error_message"].startswith("the server crashed twice while it loaded this version")
    quotient(tiny, warm_up=(8, 2)).write(repository / "quotient", 2)
    server.wait_for(lambda: divide(server, [8], [2]) == [4])
    assert server.stop() == 0


@pytest.fixture(scope="module")
def shared(serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One worker with two models."""
    folder = tmp_path_factory.mktemp("guarded")
    tiny.half_plus(1).write(folder / "m", 1)
    tiny.looping().write(folder / "slow", 1)
    server = serve("--repository", folder, models=["m", "slow"])
    yield server
    assert server.stop() == 0


REQUEST = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\nContent-Length: 22\r\n\r\n" + b'{"instances": [[1.0]]}'


@needs_proc
def test_connections_made_while_the_server_starts_again_are_answered(shared: Any, grpc_to: Any) -> None:
    for _ in range(3):  # what an operator kills is never refused, whatever it ran
        killed = shared.pid
        os.kill(killed, signal.SIGKILL)
        answers = []
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", shared.rest_port), timeout=60) as connection:
                connection.sendall(REQUEST)
                answers.append(connection.recv(4096))
        assert [answer.startswith(b"HTTP/1.1 200") for answer in answers] == [True] * 8, answers
        assert shared.pid != killed
        assert grpc_to(shared).predict("m", {"x": np.ones((1, 1), np.float32)}) == {"y": [[1.5]]}
        shared.wait_for_state("slow", 1, "AVAILABLE")


@needs_proc
def test_a_stop_that_reaches_both_processes_still_drains(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.looping().write(repository / "slow", 1)
    server = serve("--repository", repository, models=["slow"])
    busy, found = server.cpu_seconds() + 0.2, []

    def ask() -> None:
        found.append(server.send("POST", "/v1/models/slow:predict", b'{"instances": [1500000]}'))

    caller = threading.Thread(target=ask)
    caller.start()
    server.wait_for(lambda: server.cpu_seconds() > busy)
    os.kill(server.pid, signal.SIGTERM)
    assert server.stop() == 0
    caller.join()
    status, answer = found[0]
    assert (status, json.loads(answer)) == (200, {"predictions": [1500000]})


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_the_server_ends_with_its_guardian(serve: Any, tiny: Any, repository: Path, number: int) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, models=["m"])
    pid = server.pid
    assert pid != server.process.pid
    server.process.send_signal(number)
    assert server.process.wait(60) == (-number if number == signal.SIGKILL else 0)
    ended = threading.Event()
    for _ in range(600):
        if not Path(f"/proc/{pid}/exe").exists():
            break
        ended.wait(0.05)
    with pytest.raises(OSError, match=r"refused|reset"):
        server.get("/v2/health/live")


@needs_proc
@pytest.mark.slow  # ten seconds without a sign of life
def test_a_server_that_hangs_is_replaced(shared: Any) -> None:
    stopped = shared.pid
    os.kill(stopped, signal.SIGSTOP)
    shared.wait_for(lambda: shared.pid != stopped)
    shared.wait_for(lambda: shared.get("/v2/health/ready")[0] == 200)
    assert "the server has not answered for 10 s; replacing it" in shared.log.read_text()


@needs_proc
def test_without_supervision_there_is_one_process(serve: Any, tiny_repository: Path) -> None:
    server = serve("--repository", tiny_repository, "--supervise=false", models=["half_plus_two"])
    assert server.pid == server.process.pid
    assert server.stop() == 0


A, B, C, D, LOAD = 11, 12, 13, 14, 99


@pytest.mark.parametrize(
    ("runs", "refused_at_the_end"),
    [
        ([[A]], set()),
        ([[A], [A]], {A}),
        ([[A, B], [A, C]], {A}),
        ([[A, B], [A, B]], set()),  # which of the two cannot be told yet
        ([[A, B], [A, B], [A]], {A}),
        ([[A, B], "B returns", [A, B]], {A}),
        ([[A], "A returns", [A]], {A}),  # the values count, too
        ([[A, B], "B returns", [C, B]], set()),
        ([[A, B], "B returns", [C, B], "B returns", [B, D]], {B}),
        ([[A], [A, LOAD], [B, LOAD]], {A}),  # a load that ran beside what did it is not blamed
        ([[LOAD], [LOAD]], {LOAD}),
        ([[A, LOAD], [A, LOAD]], {A}),
    ],
    ids=str,
)
def test_the_form_that_two_crashes_have_in_common_is_refused(runs: list[Any], refused_at_the_end: set[int]) -> None:
    crashes = Crashes(2)
    calls = NativeCalls()
    for number, run in enumerate(runs):
        worker = number % 2
        calls.attach(crashes.descriptor, worker)
        calls.refresh()
        if isinstance(run, str):
            assert calls.admit({"A": A, "B": B}[run[0]])
            calls.prove({"A": A, "B": B}[run[0]])
            continue
        requests, loads = slots(worker)
        for slot, form in zip(requests[1:], set(run) - {LOAD}, strict=False):
            calls.words[slot] = form
        calls.words[loads[0]] = LOAD if LOAD in run else 0
        assert crashes.ended(worker, signal.SIGSEGV)
        assert crashes.ended(worker, signal.SIGSEGV) == ""
    calls.attach(crashes.descriptor, 0)
    calls.refresh()
    for form in refused_at_the_end - {LOAD}:
        with pytest.raises(InvalidArgument, match="crashed the server twice"):
            calls.admit(form)
    if LOAD in refused_at_the_end:
        with pytest.raises(Unavailable, match="crashed twice while it loaded"), calls.loading(LOAD):
            pass
    others = {form for form in calls.watched if calls.words[calls.watched[form] + 2] == 2}
    assert others == refused_at_the_end


def test_a_kill_blames_nothing_that_ran() -> None:
    crashes, calls = Crashes(1), NativeCalls()
    calls.attach(crashes.descriptor, 0)
    for _ in range(3):
        calls.words[slots(0)[0][0]] = A
        assert crashes.ended(0, signal.SIGKILL) == ""
    calls.refresh()
    assert calls.watched == {}


def test_many_forms_that_crash_do_not_push_out_one_that_is_refused() -> None:
    crashes, calls = Crashes(1), NativeCalls()
    calls.attach(crashes.descriptor, 0)
    for form in (A, A, *range(1000, 1200)):
        calls.words[slots(0)[0][0]] = form
        assert crashes.ended(0, signal.SIGABRT)
    calls.refresh()
    with pytest.raises(InvalidArgument):
        calls.admit(A)
