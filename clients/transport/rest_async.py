"""The transport over REST for event loops: HTTP/1.1 on asyncio's streams, a kept connection for each request under way.

The standard library has no asynchronous HTTP client, and the bare install brings no other package for it.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import ssl
from typing import Any

from ladle.clients.transport.access import Access
from ladle.clients.transport.address import Address
from ladle.clients.transport.base import AsyncTransport
from ladle.clients.transport.operation import ClosedError, Send
from ladle.clients.transport.protocol import MAX_MESSAGE_BYTES
from ladle.clients.transport.proxies import RefusedByProxyError, tunnel
from ladle.clients.transport.rest import forwarding_headers, is_quiet, split
from ladle.clients.transport.rest_protocol import (
    HttpAnswer,
    HttpRequest,
    NoConnectionError,
    RestProtocol,
    TooLargeError,
)

_HEAD_BYTES = 1 << 16
CONNECT_TIMEOUT_S = 30.0
"""Seconds after which a thread gives a proxy up, if the caller has not done so before."""
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class AsyncRestTransport(AsyncTransport):
    """REST for an event loop, to one host. Cancelling a request closes its connection, which stops the server too."""

    def __init__(
        self,
        address: Address,
        access: Access,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        proxy: str | None = None,
        protocol: type[RestProtocol] = RestProtocol,
    ) -> None:
        self.protocol = protocol(address, access, max_message_bytes, proxy)
        self._proxy, self._netloc = self.protocol.proxy, address.hosts[0]
        self._context: ssl.SSLContext | None = access.ssl_context() if address.is_secure else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: list[Connection] = []
        self._closed = False

    async def send(self, step: Send) -> HttpAnswer:
        if self._closed:
            raise ClosedError
        try:
            return await asyncio.wait_for(self._exchange(step.request, step.headers), step.timeout_s)
        except TimeoutError:
            raise TimeoutError from None

    async def close(self) -> None:
        self._closed = True
        idle, self._idle = self._idle, []
        if self._loop is asyncio.get_running_loop():  # a loop that has ended has closed its connections
            for _, writer in idle:
                writer.close()

    async def _exchange(self, request: HttpRequest, headers: tuple[tuple[str, str], ...]) -> HttpAnswer:
        connection = await self._take()
        reader, writer = connection
        keep = False
        try:
            writer.write(self._head(request, headers) + (request.body or b""))
            await writer.drain()
            answer, keep = await _read(reader, self.protocol.max_message_bytes)
        except asyncio.IncompleteReadError:
            raise ConnectionResetError("it ended before the answer was whole") from None
        except (asyncio.LimitOverrunError, ValueError):
            raise http.client.HTTPException("its answer is not HTTP") from None
        finally:
            if keep and not self._closed:
                self._idle.append(connection)
            else:
                writer.close()
        return answer

    def _head(self, request: HttpRequest, headers: tuple[tuple[str, str], ...]) -> bytes:
        fields = [("host", self._netloc), *headers]
        if self._proxy is not None:
            fields += forwarding_headers(self._proxy, self._context)
        if request.body is not None:
            fields += [*request.headers, ("content-length", str(len(request.body)))]
        lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    async def _take(self) -> Connection:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._idle = loop, []
        while self._idle:
            reader, writer = self._idle.pop()
            # A busy loop may not have noticed yet that the server closed the connection; the socket knows.
            if not (reader.at_eof() or writer.is_closing()) and is_quiet(writer.get_extra_info("socket")):
                return reader, writer
            writer.close()
        try:
            return await self._connect()
        except ssl.SSLError:
            raise
        except RefusedByProxyError as error:
            raise NoConnectionError(str(error)) from None
        except OSError as error:
            raise NoConnectionError from error

    async def _connect(self) -> Connection:
        host, port = split(self._netloc)
        if self._proxy is None:
            return await asyncio.open_connection(host, port, ssl=self._context, limit=_HEAD_BYTES)
        if self._context is None:
            return await asyncio.open_connection(self._proxy.host, self._proxy.port, limit=_HEAD_BYTES)
        raw = await asyncio.to_thread(tunnel, self._proxy, self._netloc, CONNECT_TIMEOUT_S)
        return await asyncio.open_connection(sock=raw, ssl=self._context, server_hostname=host, limit=_HEAD_BYTES)


async def _read(reader: asyncio.StreamReader, max_bytes: int) -> tuple[HttpAnswer, bool]:
    """The answer, and whether the connection can be used again."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        first, _, rest = head.partition(b"\r\n")
        parts = first.split(None, 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
            raise http.client.BadStatusLine(first[:40].decode("latin-1"))
        status = int(parts[1])
        if status >= 200:
            break
    fields: Any = http.client.parse_headers(io.BytesIO(rest))
    headers = {name.lower(): value for name, value in fields.items()}
    keep = headers.get("connection", "").lower() != "close" and parts[0] == b"HTTP/1.1"
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return HttpAnswer(status, headers, await _read_chunks(reader, max_bytes)), keep
    if "content-length" not in headers:
        body = await reader.read(max_bytes + 1)
        while more := await reader.read(1 << 16):
            body += more
            if len(body) > max_bytes:
                raise TooLargeError
        return HttpAnswer(status, headers, body), False
    length = int(headers["content-length"])
    if length > max_bytes:
        raise TooLargeError
    return HttpAnswer(status, headers, await reader.readexactly(length)), keep


async def _read_chunks(reader: asyncio.StreamReader, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while length := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        size += length
        if size > max_bytes:
            raise TooLargeError
        chunks.append((await reader.readexactly(length + 2))[:-2])
    while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers: header fields after the body
        pass
    return b"".join(chunks)
