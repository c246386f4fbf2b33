"""Servers that do nothing: each transport of ours with a handler that answers fixed bytes.

python -m benchmarks.empty rest|grpcio|native PORT FILE

FILE holds the answer. The difference between such a server and ours is what ours does with a request.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

from benchmarks.payloads import PREDICT


async def rest(port: int, answer: bytes) -> None:
    """ASGI on uvicorn, uvloop and httptools, as ours."""
    import uvicorn

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

    config = uvicorn.Config(
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
    await uvicorn.Server(config).serve()


async def grpc(port: int, answer: bytes, native: bool) -> None:
    """grpc.aio, or pygrpc-native's server of the same interface; requests are not parsed."""
    from grpc import unary_unary_rpc_method_handler

    async def predict(request: bytes, context: Any) -> bytes:
        return answer

    backend = importlib.import_module("pygrpc_native.aio" if native else "grpc.aio")
    server = backend.server()
    service, method = PREDICT.strip("/").split("/")
    server.add_registered_method_handlers(service, {method: unary_unary_rpc_method_handler(predict)})
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    kind, port, file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    answer = file.read_bytes()
    serving = rest(port, answer) if kind == "rest" else grpc(port, answer, kind == "native")
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(serving)
    else:
        uvloop.run(serving)


if __name__ == "__main__":
    main()
