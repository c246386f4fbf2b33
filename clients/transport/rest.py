"""The transport over REST: keep-alive connections of the standard library, one for each request under way."""

from __future__ import annotations

import http.client
import os
import selectors
import socket
import ssl
import threading
import time
from typing import Any

from ladle.clients.transport.access import Access
from ladle.clients.transport.address import Address
from ladle.clients.transport.base import Transport
from ladle.clients.transport.operation import ClosedError, Send
from ladle.clients.transport.protocol import MAX_MESSAGE_BYTES
from ladle.clients.transport.proxies import Proxy, RefusedByProxyError, tunnel
from ladle.clients.transport.rest_protocol import (
    HttpAnswer,
    HttpRequest,
    NoConnectionError,
    RestProtocol,
    TooLargeError,
)


class RestTransport(Transport):
    """REST for threads, to one host; connections are kept for later requests."""

    def __init__(
        self,
        address: Address,
        access: Access,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        proxy: str | None = None,
        protocol: type[RestProtocol] = RestProtocol,
    ) -> None:
        self.protocol = protocol(address, access, max_message_bytes, proxy)
        context = access.ssl_context() if address.is_secure else None
        self._pool = _Pool(address.hosts[0], context, self.protocol.proxy)

    def send(self, step: Send) -> HttpAnswer:
        return self._pool.exchange(step.request, step.headers, step.timeout_s, self.protocol.max_message_bytes)

    def close(self) -> None:
        self._pool.close()


class _Pool:
    """Idle connections to one server. A request takes one, or opens one, and puts it back."""

    def __init__(self, netloc: str, context: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        self._netloc, self._context, self._proxy = netloc, context, proxy
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False

    def exchange(
        self, request: HttpRequest, headers: tuple[tuple[str, str], ...], timeout_s: float, max_bytes: int
    ) -> HttpAnswer:
        """NoConnectionError: nothing was sent."""
        end = time.monotonic() + timeout_s
        connection = self._take(end)
        fields = dict(headers) if request.body is None else {**dict(request.headers), **dict(headers)}
        if self._proxy is not None:
            fields |= dict(forwarding_headers(self._proxy, self._context))
        try:
            connection.request(request.method, request.path, request.body, fields)
            response = connection.getresponse()
            body = _read(response, connection, end, max_bytes)
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._put(connection)
        return HttpAnswer(response.status, {key.lower(): value for key, value in response.getheaders()}, body)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self, end: float) -> http.client.HTTPConnection:
        # After a fork the connections are the parent's, and the lock may be held by a thread that exists only there.
        if self._pid != os.getpid():
            self._lock, self._idle, self._pid = threading.Lock(), [], os.getpid()
        while True:
            with self._lock:
                if self._closed:
                    raise ClosedError
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect(end)
            if connection.sock is not None and is_quiet(connection.sock):
                _set_timeout(connection, end)
                return connection
            connection.close()

    def _put(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self, end: float) -> http.client.HTTPConnection:
        timeout_s = max(end - time.monotonic(), 0.001)
        connection: http.client.HTTPConnection
        host, port = split(self._netloc)
        if self._context is None:
            host, port = (self._proxy.host, self._proxy.port) if self._proxy else (host, port)
            connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        else:
            connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._context)
        try:
            if self._proxy is not None and self._context is not None:
                raw = tunnel(self._proxy, self._netloc, timeout_s)
                connection.sock = self._context.wrap_socket(raw, server_hostname=host)
            else:
                connection.connect()
        except ssl.SSLError:
            raise
        except RefusedByProxyError as error:
            raise NoConnectionError(str(error)) from None
        except OSError as error:
            raise NoConnectionError from error
        return connection


def split(netloc: str) -> tuple[str, int]:
    """`[::1]:8501` -> `::1` and 8501."""
    host, _, port = netloc.rpartition(":")
    return host.strip("[]"), int(port)


def forwarding_headers(proxy: Proxy, context: ssl.SSLContext | None) -> list[tuple[str, str]]:
    """What a proxy that forwards requests wants to see in each; inside a tunnel it sees none."""
    return [("proxy-authorization", proxy.authorization)] if proxy.authorization and context is None else []


def is_quiet(sock: Any) -> bool:
    """Whether an idle connection can be used again: there is nothing to read, not even the end that a close leaves."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return not selector.select(0)


def _set_timeout(connection: http.client.HTTPConnection, end: float) -> None:
    left_s = end - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    sock: socket.socket | None = connection.sock
    if sock is not None:
        sock.settimeout(left_s)


def _read(
    response: http.client.HTTPResponse, connection: http.client.HTTPConnection, end: float, max_bytes: int
) -> bytes:
    chunks, size = [], 0
    if (response.length or 0) > max_bytes:
        raise TooLargeError
    while chunk := response.read1(1 << 20):
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise TooLargeError
        _set_timeout(connection, end)
    if response.length:  # `read1` does not notice a body that ends early
        raise http.client.IncompleteRead(b"", response.length)
    response.close()
    return b"".join(chunks)
