"""Chooses and starts the gRPC server: our own (`native`) or grpcio."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ladle.clients.wire import services
from ladle.serving.errors import InvalidArgument, StartError
from ladle.serving.grpc import reflection
from ladle.serving.grpc.calls import Handler, StatusError
from ladle.serving.grpc.http2.application import Limits
from ladle.serving.runtime.listening import (
    Keep,
    listen,
    listen_unix,
    make_now,
    probe_socket,
    reason,
    remove_stale_socket,
    settle,
    show_address,
)
from ladle.serving.telemetry.access_log import HEADER
from ladle.serving.telemetry.observation import Observation
from ladle.serving.telemetry.observer import trace_context
from ladle.serving.telemetry.tracing import TraceContext

MAX_BYTES = 2**31 - 1
_INT32 = range(-(2**31), 2**31)
_NATIVE_ARGUMENTS = {
    "grpc.max_receive_message_length",
    "grpc.max_concurrent_streams",
    "grpc.max_metadata_size",
    "grpc.keepalive_time_ms",
}
Methods = Mapping[str, Mapping[str, Any]]
"""By service and name: coroutines (bytes, CallContext) -> bytes, or async generators of bytes where answers stream."""


@dataclass(frozen=True)
class Settings:
    """Settings of the gRPC server; each is a flag.

    backend             auto, grpcio or native
    host, port          "" listens on all addresses; port 0 on none
    socket_path         of a UNIX socket; "" for none
    ssl_file            an SSLConfig; "" for plain text
    arguments           channel arguments: `name=value,name=value`
    max_bytes           of one message
    max_buffered_bytes  of the requests that are arriving (native only)
    max_unread_s        for which a call may have waited to be read; 0: any time (native only)
    limits              of each connection
    share               lets other processes listen on the same port
    traces              reads the callers' trace contexts
    keep                makes listening sockets, or has those of an earlier server (native only)
    """

    backend: str = "auto"
    host: str = ""
    port: int = 0
    socket_path: str = ""
    ssl_file: str = ""
    arguments: str = ""
    max_bytes: int = 2**26
    max_buffered_bytes: int = 2**30
    max_unread_s: float = 0.0
    limits: Limits = field(default_factory=Limits)
    share: bool = False
    traces: bool = False
    keep: Keep = make_now


def choose(settings: Settings) -> tuple[str, str]:
    """`grpcio` or `native`, and the reason for the log.

    InvalidArgument for an unknown backend, and for native where it lacks what the other settings need.
    """
    if settings.backend not in ("auto", "grpcio", "native"):
        raise InvalidArgument(f"got --grpc_backend={settings.backend}; expected auto, grpcio or native")
    if settings.backend == "grpcio":
        return "grpcio", "set by --grpc_backend"
    missing = _missing_in_native(settings)
    if not missing:
        return "native", "set by --grpc_backend" if settings.backend == "native" else "no setting requires grpcio"
    if settings.backend == "native":
        raise InvalidArgument(f"--grpc_backend=native does not support {missing}; use --grpc_backend=grpcio")
    return "grpcio", f"native does not support {missing}"


def _missing_in_native(settings: Settings) -> str:
    if settings.ssl_file:
        return "TLS"
    other = [name for name, _ in parse_arguments(settings.arguments) if name not in _NATIVE_ARGUMENTS]
    return f"the channel argument {other[0]}" if other else ""


def parse_arguments(text: str) -> list[tuple[str, int | str]]:
    """`name=value,name=value` as channel arguments: integers where the value is an int32, else text."""
    found: list[tuple[str, int | str]] = []
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            continue
        digits = value.removeprefix("-")
        number = int(value) if digits.isascii() and digits.isdigit() and len(digits) < 11 else None
        found.append((name, number if number is not None and number in _INT32 else value))
    return found


async def start(settings: Settings, backend: str, methods: Methods, credentials: Any = None) -> Any:
    """Starts the chosen backend with these methods. Returns the server: it has `await stop(grace_s)`.

    credentials  for TLS on grpcio; None for plain text

    StartError when it cannot listen.
    """
    table = {service: _handlers(service, functions) for service, functions in methods.items()}
    if reflection.is_installed():
        info = reflection.Reflection(list(methods)).info
        handler = Handler(stream_stream=info)
        table |= {name: {"ServerReflectionInfo": handler} for name in reflection.NAMES}
    if backend == "native":
        return await _start_native(settings, table)
    if settings.socket_path:
        try:
            remove_stale_socket(Path(settings.socket_path))
        except OSError as error:
            raise _cannot_listen(settings.socket_path, error) from None
    return await _start_grpcio(settings, table, credentials)


def _handlers(service: str, functions: Mapping[str, Any]) -> dict[str, Any]:
    declared = services.methods(service)
    return {name: _handler(declared[name], function) for name, function in functions.items()}


def _handler(method: services.Method, function: Any) -> Handler:
    if method.client_streaming:
        return Handler(stream_stream=function)
    return Handler(unary_stream=function) if method.streaming else Handler(unary_unary=function)


async def _start_native(settings: Settings, table: Methods) -> Any:
    from ladle.serving.grpc.native import Server

    arguments = {name: value for name, value in parse_arguments(settings.arguments) if isinstance(value, int)}
    given = settings.limits
    limits = Limits(
        arguments.get("grpc.max_metadata_size", given.header_bytes),
        arguments.get("grpc.max_concurrent_streams", given.streams),
        given.connections,
        given.read_timeout_s,
        max(1.0, arguments.get("grpc.keepalive_time_ms", given.keepalive_s * 1000) / 1000),
    )
    max_bytes = arguments.get("grpc.max_receive_message_length", settings.max_bytes)
    handlers = {f"/{s}/{name}".encode(): handler for s, by_name in table.items() for name, handler in by_name.items()}
    most_bytes = max_bytes if max_bytes >= 0 else MAX_BYTES
    server = Server(handlers, limits, most_bytes, settings.max_buffered_bytes, settings.max_unread_s, settings.traces)
    where = settings.socket_path
    try:
        if settings.port:
            where = show_address(settings.host, settings.port)
            host = settings.host or "0.0.0.0"  # noqa: S104
            await server.listen(settings.keep(where, lambda: listen(host, settings.port, settings.share)))
        if settings.socket_path:
            where = settings.socket_path
            await server.listen(settings.keep(where, lambda: listen_unix(settings.socket_path)))
    except OSError as error:
        raise _cannot_listen(where, error) from None
    return server


def _cannot_listen(where: str, error: OSError) -> StartError:
    return StartError(f"UNKNOWN: gRPC cannot listen on {where}: {reason(error)}")


async def _start_grpcio(settings: Settings, table: Methods, credentials: Any) -> Any:
    import grpc.aio  # late: 20 MB that our own server does without

    limits = settings.limits
    arguments: dict[str, int | str] = {
        "grpc.max_receive_message_length": min(settings.max_bytes, MAX_BYTES),
        "grpc.max_send_message_length": MAX_BYTES,
        "grpc.max_metadata_size": limits.header_bytes,
        "grpc.absolute_max_metadata_size": limits.header_bytes,
        "grpc.max_concurrent_streams": limits.streams,
        "grpc.keepalive_time_ms": int(limits.keepalive_s * 1000),
        "grpc.server_handshake_timeout_ms": int(limits.read_timeout_s * 1000),
        "grpc.so_reuseport": int(settings.share),
    }
    if limits.connections:
        arguments["grpc.max_allowed_incoming_connections"] = limits.connections
    arguments.update(parse_arguments(settings.arguments))
    server = grpc.aio.server(options=list(arguments.items()))
    calls = _GrpcioCalls(settings.traces)
    for service, by_name in table.items():
        adapted = {name: calls.adapt(handler) for name, handler in by_name.items()}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, adapted)])
    for address in _addresses(settings):
        try:
            if credentials is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, credentials)
        except RuntimeError:  # without the system's reason
            raise _find_reason(address, settings) from None
    await server.start()
    return _Grpcio(server, calls)


def _find_reason(address: str, settings: Settings) -> StartError:
    """Why grpcio cannot listen: what the system answers to the same attempt."""
    path = address.removeprefix("unix:")
    try:
        if path != address:
            probe_socket(path)
        else:
            listen(settings.host or "0.0.0.0", settings.port, settings.share).close()  # noqa: S104
    except OSError as error:
        return _cannot_listen(path, error)
    return StartError(f"UNKNOWN: gRPC cannot listen on {path}; grpcio does not say why; try --grpc_backend=native")


@dataclass
class _GrpcioContext:
    """A CallContext."""

    deadline: float | None
    request_id: str
    trace_context: TraceContext | None = None
    is_large: bool = False
    observation: Observation | None = None


class _GrpcioCalls:
    """Adapts method handlers to grpcio's context; `begun` counts the unary calls, `traces` as in `Settings`."""

    def __init__(self, traces: bool = False) -> None:
        self.begun = 0
        self._traces = traces

    def adapt(self, handler: Handler) -> Any:
        import grpc

        if handler.unary_unary is None:
            return _adapt_stream(handler, self._traces)
        method = handler.unary_unary

        async def answer(payload: bytes, context: Any) -> bytes:
            self.begun += 1
            try:
                response: bytes = await method(payload, _read_context(context, self._traces))
            except StatusError as error:
                await context.abort(getattr(grpc.StatusCode, error.code), error.details)
            return response

        return grpc.unary_unary_rpc_method_handler(answer)


def _adapt_stream(handler: Handler, traces: bool) -> Any:
    import grpc

    method: Any = handler.unary_stream or handler.stream_stream

    async def answer(request: Any, context: Any) -> AsyncIterator[bytes]:
        try:
            async for response in method(request, _read_context(context, traces)):
                yield response
        except StatusError as error:
            await context.abort(getattr(grpc.StatusCode, error.code), error.details)

    make = grpc.stream_stream_rpc_method_handler if handler.stream_stream else grpc.unary_stream_rpc_method_handler
    return make(answer)


def _read_context(context: Any, traces: bool) -> _GrpcioContext:
    remaining = context.time_remaining()
    deadline = None if remaining is None else time.monotonic() + remaining
    request_id = next((value for key, value in context.invocation_metadata() or () if key == HEADER), "")
    found = None
    if traces:
        entries = [(key, value) for key, value in context.invocation_metadata() or () if isinstance(value, str)]
        found = trace_context({key.encode(): value.encode() for key, value in entries})
    return _GrpcioContext(deadline, request_id if isinstance(request_id, str) else "", found)


@dataclass(frozen=True)
class _Grpcio:
    """grpcio's server. Its own `stop` cancels calls that have not begun yet; `stop` here lets them begin first."""

    server: Any
    calls: _GrpcioCalls

    async def stop(self, grace_s: float) -> None:
        await settle(lambda: self.calls.begun, grace_s)
        await self.server.stop(grace_s)


def _addresses(settings: Settings) -> list[str]:
    found = []
    if settings.port:
        found.append(show_address(settings.host, settings.port))  # all addresses, as TensorFlow Serving, without --host
    if settings.socket_path:
        found.append(f"unix:{settings.socket_path}")
    return found
