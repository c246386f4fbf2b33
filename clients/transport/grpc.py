"""Transports over gRPC: one channel for each host, opened when first used, in this process or this event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import grpc

from ladle.clients.transport.access import Access
from ladle.clients.transport.address import Address
from ladle.clients.transport.base import AsyncTransport, Transport
from ladle.clients.transport.grpc_protocol import GrpcProtocol, GrpcRequest
from ladle.clients.transport.operation import ClosedError, Send
from ladle.clients.transport.protocol import MAX_MESSAGE_BYTES
from ladle.clients.transport.proxies import route

OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),  # each of our own retries really connects again
    # Channels of a process would share connections, and the wait after a failure: a new client would fail because an
    # older one had asked the same address before its server listened.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_reconnect_backoff_ms", 1000),  # finds a server that comes back soon
    ("grpc.min_reconnect_backoff_ms", 3000),  # despite its name: the time that a connection attempt may take
    ("grpc.keepalive_time_ms", 300_000),  # servers close connections that ping more often
    # A name with several addresses, such as a headless Kubernetes service, is balanced too.
    ("grpc.service_config", '{"loadBalancingConfig":[{"round_robin":{}}]}'),
    ("grpc.enable_retries", 0),  # our own retries know what is safe
]


class _Channels:
    """Routes, credentials and options of a client's channels."""

    def __init__(self, protocol: GrpcProtocol, address: Address, access: Access, max_message_bytes: int) -> None:
        self._routes = list(protocol.routes.items())
        self.credentials = access.grpc_credentials() if address.is_secure else None
        self.options = [
            *OPTIONS,
            ("grpc.enable_http_proxy", 0),  # the routes say which hosts are asked through a proxy
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
        ]

    def open(self, module: Any, host: int) -> Any:
        """A channel to a host; `module` is `grpc` or `grpc.aio`."""
        target, options = self._routes[host][0], self.options
        proxy = self._routes[host][1].proxy
        if proxy is not None:
            # What gRPC makes of its own proxy variables. Its option `grpc.http_proxy` would follow no_proxy once more.
            options = [*options, ("grpc.http_connect_server", target), ("grpc.default_authority", target)]
            if proxy.authorization:
                options.append(("grpc.http_connect_headers", f"Proxy-Authorization:{proxy.authorization}"))
            if self.credentials is not None:
                options.append(("grpc.ssl_target_name_override", target.rpartition(":")[0].strip("[]")))
            target = proxy.address
        if self.credentials is None:
            return module.insecure_channel(target, options)
        return module.secure_channel(target, self.credentials, options)


def _protocol(
    kind: type[GrpcProtocol], address: Address, access: Access, max_message_bytes: int, proxy: str | None
) -> GrpcProtocol:
    routes = {host: route(address.transport, host, proxy) for host in address.hosts}
    return kind(",".join(address.hosts), routes, access, max_message_bytes)


class GrpcTransport(Transport):
    """gRPC for threads, to one host or to several in turn."""

    protocol: GrpcProtocol

    def __init__(
        self,
        address: Address,
        access: Access,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        proxy: str | None = None,
        protocol: type[GrpcProtocol] = GrpcProtocol,
    ) -> None:
        self.protocol = _protocol(protocol, address, access, max_message_bytes, proxy)
        self._channels = _Channels(self.protocol, address, access, max_message_bytes)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._open: dict[int, Any] = {}
        self._methods: dict[tuple[int, str], Any] = {}
        self._closed = False

    def send(self, step: Send) -> Any:
        request: GrpcRequest = step.request
        if self._pid != os.getpid():
            self._after_fork()
        method = self._methods.get((step.host, request.path)) or self._method(step.host, request)
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

    def _method(self, host: int, request: GrpcRequest) -> Any:
        with self._lock:
            if self._closed:
                raise ClosedError
            channel = self._open.get(host)
            if channel is None:
                channel = self._open[host] = self._channels.open(grpc, host)
            method = channel.unary_unary(request.path, None, request.response.FromString)
            self._methods[host, request.path] = method
            return method

    def _after_fork(self) -> None:
        # Channels do not survive a fork, and the lock may be held by a thread that exists only in the parent.
        self._lock, self._open, self._methods = threading.Lock(), {}, {}
        self._pid = os.getpid()


class AsyncGrpcTransport(AsyncTransport):
    """gRPC for an event loop."""

    protocol: GrpcProtocol

    def __init__(
        self,
        address: Address,
        access: Access,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        proxy: str | None = None,
        protocol: type[GrpcProtocol] = GrpcProtocol,
    ) -> None:
        self.protocol = _protocol(protocol, address, access, max_message_bytes, proxy)
        self._channels = _Channels(self.protocol, address, access, max_message_bytes)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: dict[int, Any] = {}
        self._closed = False

    async def send(self, step: Send) -> Any:
        request: GrpcRequest = step.request
        if self._closed:
            raise ClosedError
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # channels belong to the loop that opened them
            self._loop, self._open = loop, {}
        channel = self._open.get(step.host)
        if channel is None:
            import grpc.aio

            channel = self._open[step.host] = self._channels.open(grpc.aio, step.host)
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
        if self._loop is asyncio.get_running_loop():  # a loop that has ended has closed its connections
            for channel in channels:
                await channel.close()
