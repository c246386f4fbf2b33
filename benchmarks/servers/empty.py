"""Servers without a model: a transport whose handler sends fixed bytes.

python -m benchmarks.servers.empty http|uvicorn|http2|grpcio|pygrpc-native PORT FILE

FILE holds the answer. `http` and `http2` are our server's own transports; other servers build on the rest.
The difference between our server and its empty handler is the cost of the work on a request.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from benchmarks.requests.payloads import PREDICT

Serve = Callable[[int, bytes], Coroutine[Any, Any, None]]


async def http(port: int, answer: bytes) -> None:
    """Our HTTP/1.1 server."""
    from ladle.serving.rest.http.messages import Answer, Limits, Request
    from ladle.serving.rest.http.server import HttpServer

    fixed = Answer(200, answer)

    async def application(request: Request) -> Answer:
        return fixed

    await HttpServer(application, Limits()).start([_listen(port)])
    await asyncio.Event().wait()


async def uvicorn(port: int, answer: bytes) -> None:
    """ASGI on uvicorn, uvloop and httptools."""
    import uvicorn as server

    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))],
    }
    end = {"type": "http.response.body", "body": answer}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send(start)
        await send(end)

    config = server.Config(
        application,
        host="127.0.0.1",
        port=port,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    await server.Server(config).serve()


async def http2(port: int, answer: bytes) -> None:
    """Our HTTP/2 server; requests are not parsed."""
    from ladle.serving.grpc.http2.application import Limits
    from ladle.serving.grpc.native import Server

    await Server({PREDICT.encode(): _handler(answer)}, Limits(), 2**26, 2**30).listen(_listen(port))
    await asyncio.Event().wait()


async def grpcio(port: int, answer: bytes) -> None:
    """grpc.aio; requests are not parsed."""
    await _aio(importlib.import_module("grpc.aio"), port, answer)


async def pygrpc_native(port: int, answer: bytes) -> None:
    """pygrpc-native, which has the interface of grpc.aio and handles HTTP/2 in Rust."""
    await _aio(importlib.import_module("pygrpc_native.aio"), port, answer)


async def _aio(backend: Any, port: int, answer: bytes) -> None:
    server = backend.server()
    service, method = PREDICT.strip("/").split("/")
    server.add_registered_method_handlers(service, {method: _handler(answer)})
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def _handler(answer: bytes) -> Any:
    from grpc import unary_unary_rpc_method_handler

    async def predict(request: bytes, context: Any) -> bytes:
        return answer

    return unary_unary_rpc_method_handler(predict)


def _listen(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=2048)


SERVERS: dict[str, tuple[bool, str, Serve]] = {
    "http": (False, "ours", http),
    "uvicorn": (False, "uvicorn", uvicorn),
    "http2": (True, "ours", http2),
    "pygrpc-native": (True, "pygrpc-native", pygrpc_native),
    "grpcio": (True, "grpcio", grpcio),
}
"""For each kind: whether it speaks gRPC, its name in the report, and its coroutine."""


def main() -> None:
    kind, port, file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    serving = SERVERS[kind][2](port, file.read_bytes())
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(serving)
    else:
        uvloop.run(serving)


if __name__ == "__main__":
    main()
