"""gRPC channels: one an address, opened when first used, in this process or this event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import grpc

from ladle.clients.transport.access import Access
from ladle.clients.transport.address import Address
from ladle.clients.transport.base import AsyncTransport, Transport
from ladle.clients.transport.exchange import ClosedError, Send
from ladle.clients.transport.grpc_protocol import GrpcProtocol, GrpcRequest
from ladle.clients.transport.protocol import MAX_MESSAGE_BYTES

OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),  # so that each of our own tries really connects
    ("grpc.max_reconnect_backoff_ms", 1000),  # a server that comes back is found at once
    ("grpc.min_reconnect_backoff_ms", 3000),  # this is gRPC's name for the time that a connection may take
    ("grpc.keepalive_time_ms", 300_000),  # as often as servers allow
    # A name with several addresses, such as a headless service, is balanced too.
    ("grpc.service_config", '{"loadBalancingConfig":[{"round_robin":{}}]}'),
    ("grpc.enable_retries", 0),  # ours say what was safe
]


class _Channels:
    """What both kinds of client open a channel with."""

    def __init__(self, address: Address, access: Access, max_message_bytes: int) -> None:
        self.hosts = address.hosts
        self.credentials = access.grpc_credentials() if address.is_secure else None
        self.options = [
            *OPTIONS,
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
        ]

    def open(self, module: Any, target: int) -> Any:
        """A channel of `grpc` or `grpc.aio`."""
        if self.credentials is None:
            return module.insecure_channel(self.hosts[target], self.options)
        return module.secure_channel(self.hosts[target], self.credentials, self.options)


class GrpcClient(Transport):
    """A client of one or more hosts, in turn."""

    def __init__(self, address: Address, access: Access, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.protocol = GrpcProtocol(",".join(address.hosts), address.hosts, access, max_message_bytes)
        self._channels = _Channels(address, access, max_message_bytes)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._open: dict[int, Any] = {}
        self._methods: dict[tuple[int, str], Any] = {}
        self._closed = False

    def send(self, step: Send) -> Any:
        request: GrpcRequest = step.request
        if self._pid != os.getpid():
            self._after_fork()
        method = self._methods.get((step.target, request.path)) or self._method(step.target, request)
        try:
            return method(request.data, timeout=step.timeout_s, metadata=step.headers)
        except (grpc.RpcError, ValueError) as error:
            if self._closed and (isinstance(error, ValueError) or error.code() is grpc.StatusCode.CANCELLED):
                raise ClosedError from None
            raise

    def close(self) -> None:
        with self._lock:
            self._closed = True
            channels, self._open, self._methods = list(self._open.values()), {}, {}
        for channel in channels:
            channel.close()

    def _method(self, target: int, request: GrpcRequest) -> Any:
        with self._lock:
            if self._closed:
                raise ClosedError
            channel = self._open.get(target)
            if channel is None:
                channel = self._open[target] = self._channels.open(grpc, target)
            method = channel.unary_unary(request.path, None, request.response.FromString)
            self._methods[target, request.path] = method
            return method

    def _after_fork(self) -> None:
        # A channel does not survive a fork, and a lock may be held by a thread that is not here.
        self._lock, self._open, self._methods = threading.Lock(), {}, {}
        self._pid = os.getpid()


class AsyncGrpcClient(AsyncTransport):
    """The same on `grpc.aio`."""

    def __init__(self, address: Address, access: Access, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.protocol = GrpcProtocol(",".join(address.hosts), address.hosts, access, max_message_bytes)
        self._channels = _Channels(address, access, max_message_bytes)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: dict[int, Any] = {}
        self._closed = False

    async def send(self, step: Send) -> Any:
        request: GrpcRequest = step.request
        if self._closed:
            raise ClosedError
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the channels of a loop that has ended are of no use
            self._loop, self._open = loop, {}
        channel = self._open.get(step.target)
        if channel is None:
            import grpc.aio

            channel = self._open[step.target] = self._channels.open(grpc.aio, step.target)
        method = channel.unary_unary(request.path, None, request.response.FromString)
        try:
            return await method(request.data, timeout=step.timeout_s, metadata=step.headers)
        except asyncio.CancelledError:
            if self._closed:
                raise ClosedError from None
            raise

    async def close(self) -> None:
        self._closed = True
        channels, self._open = list(self._open.values()), {}
        if self._loop is asyncio.get_running_loop():  # a loop that has ended has let go of its connections
            for channel in channels:
                await channel.close()
