"""What requests leave in the server's log: nothing, unless `--access_log` asks for a line each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from tests.stubs import grpc_stub


def ask(server: Any, model: str, request_id: str, rows: Any) -> None:
    """Asks a model over both protocols, whatever it answers."""
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name=model))
    tensors.fill(request.inputs["x"], rows)
    metadata = [("x-request-id", f"{request_id}-grpc")] if request_id else []
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = grpc_stub(channel, services.PREDICTION).Predict.future(request, metadata=metadata, timeout=60)
        call.exception()
    headers = {"X-Request-ID": f"{request_id}-rest"} if request_id else {}
    body = b'{"instances": %b}' % str(rows.tolist()).encode()
    server.send("POST", f"/v1/models/{model}:predict", body, **headers)


@pytest.mark.parametrize("backend", ["grpcio", "native"])
def test_the_access_log_has_the_same_line_for_each_protocol(
    serve: Callable[..., Any], tiny_repository: Path, backend: str, one: Any
) -> None:
    flags = ("--access_log", f"--grpc_backend={backend}")
    server = serve("--repository", tiny_repository, *flags, models=["half_plus_two"])
    ask(server, "half_plus_two", "good", one)
    ask(server, "nobody", "bad", one)
    ask(server, "half_plus_two", "", one)
    ask(server, "half_plus_two", "x" * 200, one)
    lines = [line for line in server.log.read_text().splitlines() if " predict " in line]
    found = [line.split(" request ")[1].split(" in ")[0] for line in lines]
    assert found == [
        "good-grpc: gRPC predict half_plus_two: OK",
        "good-rest: REST predict half_plus_two: OK",
        "bad-grpc: gRPC predict nobody: NOT_FOUND",
        "bad-rest: REST predict nobody: NOT_FOUND",
        *["-: gRPC predict half_plus_two: OK", "-: REST predict half_plus_two: OK"] * 2,
    ]
    server.stop()


def test_requests_leave_no_lines_in_the_log(tiny_server: Any, one: Any) -> None:
    ask(tiny_server, "half_plus_two", "warm", one)
    before = tiny_server.log.read_text()
    for i in range(5):
        ask(tiny_server, "half_plus_two", f"id{i}", one)
        ask(tiny_server, "nobody", f"id{i}", one)
    assert tiny_server.log.read_text() == before


def test_errors_of_callers_are_counted_in_the_log_not_listed(tiny_server: Any, one: Any) -> None:
    before = len(tiny_server.log.read_text().splitlines())
    for _ in range(10):
        ask(tiny_server, "classifier", "", one)  # it takes images
        tiny_server.get(f"/v1/models/half_plus_two/versions/{10**20}")
    after = tiny_server.log.read_text().splitlines()
    assert len(after) - before <= 4, after[before:]
