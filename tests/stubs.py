"""Calls of gRPC methods with the messages of `ladle.clients.wire`, for tests that speak to a server directly."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ladle.clients.wire import services


def grpc_stub(channel: Any, service: str) -> SimpleNamespace:
    """The methods of a service as callables of a `grpc` or `grpc.aio` channel, by name."""
    calls = {}
    for method in services.methods(service).values():
        if method.client_streaming:
            kind = channel.stream_stream
        else:
            kind = channel.unary_stream if method.streaming else channel.unary_unary
        calls[method.name] = kind(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
    return SimpleNamespace(**calls)
