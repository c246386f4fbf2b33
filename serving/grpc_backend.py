"""Which gRPC server carries the methods: grpcio, or pygrpc-native (HTTP/2 in Rust), and its settings."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from clients.wire import messages as pb
from clients.wire import services
from serving.errors import InvalidArgument
from serving.lifecycle import StartError
from serving.listening import remove_stale_socket

MAX_BYTES = 2**31 - 1
_INT32 = range(-(2**31), 2**31)
_REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
_NATIVE_ARGUMENTS = {
    "grpc.max_receive_message_length",
    "grpc.max_send_message_length",
    "grpc.max_concurrent_streams",
    "grpc.max_metadata_size",
    "grpc.absolute_max_metadata_size",
    "grpc.keepalive_time_ms",
    "grpc.keepalive_timeout_ms",
    "grpc.keepalive_permit_without_calls",
    "grpc.so_reuseport",
}
Methods = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Settings:
    """What the gRPC server is told.

    backend      auto, grpcio or native             host, port   "" for all addresses; port 0 for none
    socket_path  a UNIX socket, or ""               ssl_file     an SSLConfig, or ""
    arguments    more channel arguments: `name=value,name=value`
    max_bytes    of a message                       max_metadata  bytes of a request's headers
    max_streams  requests at once on a connection   max_connections  0: any number (grpcio only)
    handshake_s  for a new connection, TLS included
    share        other processes may listen on the port
    """

    backend: str = "auto"
    host: str = ""
    port: int = 0
    socket_path: str = ""
    ssl_file: str = ""
    arguments: str = ""
    max_bytes: int = 2**26
    max_metadata: int = 2**16
    max_streams: int = 256
    max_connections: int = 0
    handshake_s: float = 60.0
    share: bool = False


def choose(settings: Settings) -> tuple[str, str]:
    """`grpcio` or `native`, and why. InvalidArgument when native was asked for and cannot be."""
    if settings.backend not in ("auto", "grpcio", "native"):
        raise InvalidArgument(f"--grpc_backend={settings.backend}: wanted auto, grpcio or native")
    if settings.backend == "auto":
        return "grpcio", "it keeps the body limit while a message arrives; --grpc_backend=native is quicker"
    if settings.backend == "grpcio":
        return "grpcio", "as told"
    hindrance = _hindrance(settings)
    if hindrance:
        raise InvalidArgument(f"--grpc_backend=native: {hindrance}; use --grpc_backend=grpcio")
    return "native", "as told; only for networks whose clients are trusted"


def _hindrance(settings: Settings) -> str:
    if importlib.util.find_spec("pygrpc_native") is None:
        return "the package pygrpc-native is not installed"
    if settings.ssl_file:
        return "it has no TLS"
    if settings.socket_path:
        return "it has no UNIX socket"
    other = [name for name, _ in parse_arguments(settings.arguments) if name not in _NATIVE_ARGUMENTS]
    return f"it does not know the channel argument {other[0]}" if other else ""


def parse_arguments(text: str) -> list[tuple[str, int | str]]:
    """`name=value,name=value` as channel arguments: an integer where the value is an int32, else text."""
    found: list[tuple[str, int | str]] = []
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            continue
        digits = value.removeprefix("-")
        number = int(value) if digits.isascii() and digits.isdigit() and len(digits) < 11 else None
        found.append((name, number if number is not None and number in _INT32 else value))
    return found


def _channel_arguments(settings: Settings, backend: str) -> list[tuple[str, int | str]]:
    arguments: dict[str, int | str] = {
        "grpc.max_receive_message_length": min(settings.max_bytes, MAX_BYTES),
        "grpc.max_send_message_length": MAX_BYTES,
        "grpc.max_metadata_size": settings.max_metadata,
        "grpc.absolute_max_metadata_size": settings.max_metadata,
        "grpc.max_concurrent_streams": settings.max_streams,
        "grpc.keepalive_time_ms": 60_000,  # a peer that has vanished is noticed
        "grpc.so_reuseport": int(settings.share),
    }
    if backend == "grpcio":
        arguments["grpc.server_handshake_timeout_ms"] = int(settings.handshake_s * 1000)
        if settings.max_connections:
            arguments["grpc.max_allowed_incoming_connections"] = settings.max_connections
    arguments.update(parse_arguments(settings.arguments))
    return list(arguments.items())


async def start(settings: Settings, backend: str, methods: Methods, credentials: Any = None) -> Any:
    """A server with these methods (by service and name; bytes in, bytes out), listening. StartError when it cannot.

    credentials  of TLS; None for plain text
    """
    arguments = _channel_arguments(settings, backend)
    if backend == "native":
        import pygrpc_native.aio  # `from pygrpc_native import aio` recurses for ever in 0.5.0

        server: Any = pygrpc_native.aio.server(options=arguments)
    else:
        server = grpc.aio.server(options=arguments)
    for service, functions in methods.items():
        handlers = _handlers(service, functions)
        server.add_registered_method_handlers(service, handlers)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    _add_reflection(server, list(methods))
    for address in _addresses(settings):
        try:
            if credentials is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, credentials)
        except RuntimeError:
            raise StartError(f"UNKNOWN: gRPC cannot listen on {address}; is it in use?") from None
    await server.start()
    return server


def _handlers(service: str, functions: Mapping[str, Any]) -> dict[str, Any]:
    known = services.methods(service)
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    return {name: (stream if known[name].streaming else unary)(function) for name, function in functions.items()}


def _addresses(settings: Settings) -> list[str]:
    found = []
    if settings.port:
        host = settings.host or "0.0.0.0"  # noqa: S104 (as TensorFlow Serving; --host narrows it)
        found.append(f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}")
    if settings.socket_path:
        remove_stale_socket(Path(settings.socket_path))
        found.append(f"unix:{settings.socket_path}")
    return found


def _add_reflection(server: Any, names: list[str]) -> None:
    if importlib.util.find_spec("grpc_reflection") is None:
        return
    from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

    reflection.enable_server_reflection([*names, _REFLECTION], server, pool=pb.POOL)
