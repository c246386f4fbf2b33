"""Memory does not grow with the number of requests."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.serving.runtime import memory
from tests.stubs import grpc_stub

REQUESTS = int(os.environ.get("LADLE_MEMORY_REQUESTS", "100000"))
ALLOWED_MB = 8
CONNECTIONS = 8


def resident_mb(server: Any) -> float:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def bodies(number: int) -> tuple[bytes, Any]:
    """A REST request and a gRPC one: of every size, some with several inputs, some refused."""
    kind, rows = number % 10, number % 37 + 1
    if kind == 0:
        model, signature, inputs = f"unknown-{number}", "", {"x": np.ones((1, 1), np.float32)}
    elif kind == 1:
        model, signature, inputs = "identities", f"unknown-{number}", {"x": np.ones(1, np.float32)}
    elif kind == 2:
        values = np.arange(rows, dtype=np.float32) / 7
        model, signature, inputs = "identities", "sum", {"a": values, "b": values}
    else:
        model, signature, inputs = "half_plus_two", "", {"x": np.full((rows, 1), number / 3, np.float32)}
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name=model, signature_name=signature))
    for alias, array in inputs.items():
        tensors.fill(request.inputs[alias], array)
    columns = ", ".join(f'"{alias}": {array.tolist()}' for alias, array in inputs.items())
    body = f'{{"signature_name": "{signature}", "inputs": {{{columns}}}}}'.encode()
    head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return head + body, request


async def ask_rest(server: Any, numbers: range) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.rest_port)
    for number in numbers:
        writer.write(bodies(number)[0])
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1]))  # type: ignore[index]
        assert head.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400") if number % 10 < 2 else b"HTTP/1.1 200"), head
    writer.close()
    await writer.wait_closed()


async def ask_grpc(stub: Any, numbers: range) -> None:
    for number in numbers:
        request = bodies(number)[1]
        try:
            await stub.Predict(request, timeout=60)
            assert number % 10 > 1
        except grpc.RpcError as error:
            assert number % 10 < 2, error  # noqa: PT017


async def ask(server: Any, first: int, count: int) -> None:
    """`count` requests over each protocol, on several connections at once."""
    parts = [range(first + i, first + count, CONNECTIONS) for i in range(CONNECTIONS)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = grpc_stub(channel, services.PREDICTION)
        await asyncio.gather(*[ask_rest(server, part) for part in parts], *[ask_grpc(stub, part) for part in parts])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has /proc/self/status")
def test_memory_stays_flat_over_100000_requests(serve: Any, tiny_repository: Path) -> None:
    server = serve("--repository", tiny_repository, "--enable_metrics", models=["half_plus_two", "identities"])
    asyncio.run(ask(server, 0, max(2000, REQUESTS // 20)))
    before = resident_mb(server)
    asyncio.run(ask(server, REQUESTS, REQUESTS // 2))
    assert server.get("/monitoring/prometheus/metrics")[0] == 200
    grown = resident_mb(server) - before
    print(f"{before:.1f} MB, grown by {grown:.1f} MB over {REQUESTS} requests")
    assert grown < ALLOWED_MB
    assert server.stop() == 0


def test_what_comes_after_a_start_is_collected_as_ever() -> None:
    program = """
import gc, weakref
from ladle.serving.runtime.memory import spare_collections

class Node: pass

before = len(gc.get_objects())
spare_collections()
assert gc.get_freeze_count() >= before and len(gc.get_objects()) < before / 10
node = Node()
node.itself, seen = node, weakref.ref(node)
del node
kept = []
while seen() is not None and len(kept) < 1_000_000:
    kept.append([])
assert seen() is None
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_models_that_are_unloaded_at_once_share_a_trim() -> None:
    for _ in range(50):
        memory.trim_memory_soon()
    trims = [thread for thread in threading.enumerate() if thread.name == "trim"]
    assert len(trims) == 1
    trims[0].join()
    # The second trim is for what was asked for while the first one waited.
    for later in [thread for thread in threading.enumerate() if thread.name == "trim"]:
        later.join()
    assert "trim" not in [thread.name for thread in threading.enumerate()]
