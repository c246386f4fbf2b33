"""The ids of requests in the log of the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ladle.clients.library.client import Client
from ladle.clients.transport.access import sending
from ladle.clients.wire import messages as pb
from ladle.clients.wire import services
from tests.stubs import grpc_stub


@pytest.mark.parametrize("backend", ["grpcio", "native"])
def test_a_request_with_an_id_has_a_line_in_the_log(
    serve: Callable[..., Any], tiny_repository: Path, backend: str
) -> None:
    server = serve("--repository", tiny_repository, f"--grpc_backend={backend}", models=["half_plus_two"])
    with Client(f"grpc://127.0.0.1:{server.grpc_port}") as client:
        with sending({"X-Request-ID": "good-1"}):
            client.predict("half_plus_two", {"x": np.ones((1, 1), np.float32)})
        client.predict("half_plus_two", {"x": np.ones((1, 1), np.float32)})
    request = pb.PredictRequest()
    request.model_spec.name = "nobody"
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel, pytest.raises(grpc.RpcError):
        grpc_stub(channel, services.PREDICTION).Predict(request, metadata=[("x-request-id", "bad-2")], timeout=60)
    server.wait_for(lambda: "request bad-2" in server.log.read_text())
    lines = [line for line in server.log.read_text().splitlines() if " request " in line]
    assert any("request good-1: predict half_plus_two: OK in " in line for line in lines)
    assert any("request bad-2: predict nobody: NOT_FOUND in " in line for line in lines)
    assert all("good-1" in line or "bad-2" in line for line in lines)
