"""tensorflow.ProfilerService: captures of a real server, asked as TensorBoard asks and by TensorFlow's own client."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.serving.telemetry.xspace import Event, spread
from tests.stubs import grpc_stub


@pytest.fixture
def profiled(serve: Callable[..., Any], tiny_repository: Path, tmp_path: Path) -> Iterator[Any]:
    server = serve("--repository", tiny_repository, f"--profile_dir={tmp_path}", models=["half_plus_two"])
    yield server
    server.stop()


class Load:
    """Asks half_plus_two over both protocols until it ends."""

    def __init__(self, server: Any) -> None:
        self._server, self._stop, self._thread = server, threading.Event(), threading.Thread(target=self._ask)

    def _ask(self) -> None:
        request = pb.PredictRequest(model_spec=pb.ModelSpec(name="half_plus_two"))
        tensors.fill(request.inputs["x"], np.ones((2, 1), np.float32))
        with grpc.insecure_channel(f"127.0.0.1:{self._server.grpc_port}") as channel:
            predict = grpc_stub(channel, services.PREDICTION).Predict
            while not self._stop.is_set():
                predict(request, timeout=60)
                self._server.send("POST", "/v1/models/half_plus_two:predict", b'{"instances": [[1.0]]}')

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        self._thread.join()


def read(path: Path) -> dict[str, list[tuple[str, int, int]]]:
    """Of each line the events: name, start and end in picoseconds since 1970."""
    space = pb.get("tensorflow.profiler.XSpace").FromString(path.read_bytes())
    [plane] = space.planes
    found: dict[str, list[tuple[str, int, int]]] = {}
    for line in plane.lines:
        for event in line.events:
            start = line.timestamp_ns * 1000 + event.offset_ps
            name = plane.event_metadata[event.metadata_id].name
            found.setdefault(line.name, []).append((name, start, start + event.duration_ps))
    return found


def check(found: dict[str, list[tuple[str, int, int]]]) -> None:
    """A capture of `Load`: both protocols, each request with its parts inside it, and the operators of the graph."""
    requests = [event for name, events in found.items() if name.startswith("requests") for event in events]
    assert {name for name, _, _ in requests} >= {
        "gRPC predict half_plus_two",
        "REST predict half_plus_two",
        "read",
        "queue",
        "run",
        "write",
    }
    [operators] = [events for name, events in found.items() if name.startswith("operators of half_plus_two/1")]
    assert {name.split()[0] for name, _, _ in operators} == {"Mul", "Add"}
    for name, events in found.items():
        if name.startswith("requests"):
            whole = [event for event in events if " predict " in event[0]]
            assert all(before[2] <= after[1] for before, after in itertools.pairwise(whole))
            for _, start, end in events:
                assert any(begin <= start <= end <= stop for _, begin, stop in whole)


def test_a_capture_shows_requests_with_their_parts_and_the_operators_of_a_run(profiled: Any, tmp_path: Path) -> None:
    root = tmp_path / "plugins" / "profile"
    with grpc.insecure_channel(f"127.0.0.1:{profiled.grpc_port}") as channel, Load(profiled):
        stub = grpc_stub(channel, services.PROFILER)
        request = pb.ProfileRequest(duration_ms=300, repository_root=str(root), session_id="s", host_name="h:1")
        answer = stub.Profile(request, timeout=60)
        shown = stub.Monitor(pb.MonitorRequest(duration_ms=200, timestamp=True), timeout=60).data
        long = stub.Profile.future(
            pb.ProfileRequest(duration_ms=60_000, repository_root=str(root), session_id="long", host_name="h"),
            timeout=60,
        )
        profiled.wait_for(lambda: _code(stub.Monitor, pb.MonitorRequest(duration_ms=1)) == "UNAVAILABLE")
        stub.Terminate(pb.TerminateRequest(session_id="long"), timeout=60)
        assert not long.result().empty_trace
    assert not answer.empty_trace
    check(read(root / "s" / "h_1.xplane.pb"))
    assert shown.startswith("Timestamp: ")
    assert "half_plus_two: " in shown


def _code(method: Any, request: Any) -> str:
    try:
        method(request, timeout=60)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_a_capture_is_refused_outside_its_folder_and_without_the_flag(
    profiled: Any, tiny_server: Any, tmp_path: Path
) -> None:
    good = {"duration_ms": 1, "repository_root": str(tmp_path), "session_id": "s", "host_name": "h"}
    with grpc.insecure_channel(f"127.0.0.1:{profiled.grpc_port}") as channel:
        profile = grpc_stub(channel, services.PROFILER).Profile
        for change, code in (
            ({}, "OK"),
            ({"repository_root": "/etc"}, "PERMISSION_DENIED"),
            ({"repository_root": f"{tmp_path}/../other"}, "PERMISSION_DENIED"),
            ({"repository_root": "gs://bucket"}, "PERMISSION_DENIED"),
            ({"session_id": "../s"}, "INVALID_ARGUMENT"),
            ({"host_name": ""}, "INVALID_ARGUMENT"),
            ({"duration_ms": 0}, "INVALID_ARGUMENT"),
            ({"duration_ms": 3_600_000}, "INVALID_ARGUMENT"),
        ):
            assert _code(profile, pb.ProfileRequest(**{**good, **change})) == code, change
    with grpc.insecure_channel(f"127.0.0.1:{tiny_server.grpc_port}") as channel:
        assert _code(grpc_stub(channel, services.PROFILER).Profile, pb.ProfileRequest(**good)) == "FAILED_PRECONDITION"


def test_requests_at_the_same_time_stand_in_different_lines() -> None:
    events = [Event(str(i), began, ended, {}) for i, (began, ended) in enumerate([(0, 3), (1, 2), (2, 5), (3, 4)])]
    lanes = spread([(event, ()) for event in events], "requests")
    assert {name: [event.name for event in line] for name, line in lanes.items()} == {
        "requests 1": ["0", "3"],
        "requests 2": ["1", "2"],
    }


@pytest.mark.slow
def test_tensorflows_own_client_traces_the_server_and_monitors_it(profiled: Any, tmp_path: Path) -> None:
    import tensorflow as tf

    where = f"127.0.0.1:{profiled.grpc_port}"
    with Load(profiled):
        tf.profiler.experimental.client.trace(f"grpc://{where}", str(tmp_path), 500, num_tracing_attempts=1)
        shown = tf.profiler.experimental.client.monitor(where, 300)
    [path] = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    check(read(path))
    assert "half_plus_two" in shown
