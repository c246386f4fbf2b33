"""One client over HTTP/1.1: its requests one after another, framed by httptools, within the limits."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections import deque
from typing import Any

import httptools

from ladle.serving.rest.http.messages import JSON, Answer, Application, Limits, Request, head, origin_form
from ladle.serving.rest.json.text import error_body
from ladle.serving.runtime import eager_task

_MAX_HEADERS = 128
_MAX_CHUNKING = 2**24  # bytes that a body's chunks may cost beside the body
_LINGER_S = 2.0  # how long what a refused client still sends is read and dropped, so that it sees the refusal
_IDLE_CLOSE_S = 0.25  # while draining: a connection without a request for so long is closed


class Shared:
    """What the connections of a server have in common.

    accepted  connections since the start        buffered  bytes of bodies that are arriving
    date      of the present second, as HTTP has it
    draining  no more requests are wanted
    """

    def __init__(self, application: Application, limits: Limits) -> None:
        self.application = application
        self.limits = limits
        self.connections: set[Connection] = set()
        self.accepted = 0
        self.buffered = 0
        self.date = b""
        self.draining = False


class Connection(asyncio.Protocol):
    """One client. The methods named `on_...` are httptools'."""

    def __init__(self, server: Shared) -> None:
        self._server = server
        self._limits = server.limits
        self._transport: Any = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()  # requests after the running one; whether to keep alive
        self._task: eager_task.Pending | None = None
        self._running = False
        self._reading = False  # part of a request has come
        self._refused = False  # nothing more is read; the connection closes
        self._blocked = False  # the client does not take its answers
        self._paused = False
        self._since = time.monotonic()  # of the last change between idle, reading, running, blocked
        self._late: float | None = None  # `_since`, if the last check found it too long ago
        self._on_wire = 0  # bytes of the present request
        self._held = 0  # those of its body
        self._kept = 0  # of bodies that have come whole and are not answered yet
        self._in_head = False
        self._path, self._body, self._size = b"", b"", 0
        self._parts: bytearray | None = None
        self._headers: dict[bytes, bytes] = {}

    # asyncio

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        connections = self._server.connections
        limit = self._limits.connections
        self._server.accepted += 1
        full = bool(limit) and len(connections) >= limit
        connections.add(self)
        if full:
            self._refuse(503, "too many connections; try again later", b"retry-after: 1\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._release()
        self._let_go(self._kept)
        self._refused = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if not self._reading:
            self._reading, self._in_head, self._since = True, True, time.monotonic()
        self._on_wire += len(data)
        while data:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self._refuse(400, "this is not HTTP/1.1")
                return
        if self._in_head and self._on_wire > self._limits.header_bytes:
            self._refuse(431, f"the request's head is larger than {self._limits.header_bytes} bytes")
        elif self._reading and not self._in_head:
            beside = self._on_wire - self._size  # head, chunk sizes and extensions, trailers
            if beside > 2 * self._limits.header_bytes + min(8 * self._size, _MAX_CHUNKING):
                self._refuse(413, "the request's body comes in too small chunks")

    def _without_upgrade(self) -> bytes:
        """The head of a request that asks for another protocol, as if it did not. CONNECT stays as it is: refused."""
        method = self._parser.get_method()
        self._parser = httptools.HttpRequestParser(self)
        if method == b"CONNECT":
            return b"CONNECT\r\n"
        kept = [h for h in self._headers.items() if h[0] not in (b"upgrade", b"connection")]
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._path, b"".join(b"%b: %b\r\n" % header for header in kept))

    def pause_writing(self) -> None:
        self._blocked, self._since = True, time.monotonic()
        self._pause()

    def resume_writing(self) -> None:
        self._blocked, self._since = False, time.monotonic()
        if not self._running:
            self._next()

    # httptools

    def on_message_begin(self) -> None:
        self._reading = self._in_head = True
        self._path, self._body, self._size, self._parts, self._headers = b"", b"", 0, None, {}

    def on_url(self, url: bytes) -> None:
        self._path += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers tell nothing
            self._headers[name.lower()] = value
            self._count(len(name) + len(value))

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.header_bytes or len(self._headers) > _MAX_HEADERS:
            limit = f"{self._limits.header_bytes} bytes, {_MAX_HEADERS} lines"
            self._refuse(431, f"the request's head is larger than the limit: {limit}")

    def on_headers_complete(self) -> None:
        self._in_head, self._size = False, 0
        length = self._headers.get(b"content-length", b"0")
        if int(length) > self._limits.body_bytes:
            self._too_large()
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._refused:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._size += len(body)
        if self._size > self._limits.body_bytes:
            self._too_large()
        elif not self._body:
            self._body = body
        else:
            if self._parts is None:
                self._parts = bytearray(self._body)
            self._parts += body
        self._server.buffered += len(body)
        self._held += len(body)
        if self._server.buffered > self._limits.buffered_bytes:
            self._refuse(503, "too many large requests arrive at once; try again later", b"retry-after: 1\r\n")

    def on_message_complete(self) -> None:
        if self._refused or self._parser.should_upgrade():
            return
        now = time.monotonic()
        body = self._body if self._parts is None else bytes(self._parts)
        method = self._parser.get_method().decode()
        request = Request(method, origin_form(self._path), self._headers, body, now)
        keep_alive = self._parser.should_keep_alive() and self._parser.get_http_version() != "1.0"
        self._reading, self._on_wire, self._since = False, 0, now
        self._kept += self._held
        self._body, self._parts, self._held = b"", None, 0
        if self._running or self._waiting or self._blocked:
            self._waiting.append((request, keep_alive))
            self._pause()
        else:
            self._start(request, keep_alive)

    def _release(self) -> None:
        """Forgets the body that has come."""
        self._server.buffered -= self._held
        self._body, self._parts, self._held = b"", None, 0

    def _let_go(self, size: int) -> None:
        """So many bytes of bodies are needed no longer."""
        size = min(size, self._kept)  # none are left once the connection is lost
        self._server.buffered -= size
        self._kept -= size

    # Answers

    def _start(self, request: Request, keep_alive: bool) -> None:
        self._running = True
        done = eager_task.start(self._server.application(request))
        if isinstance(done, eager_task.PENDING):
            self._task = done
            done.add_done_callback(functools.partial(self._finish, request, keep_alive))
        else:
            self._answer(request, done, keep_alive)

    def _finish(self, request: Request, keep_alive: bool, task: eager_task.Pending) -> None:
        self._task = None
        if not task.cancelled():
            self._answer(request, task.result(), keep_alive)

    def _answer(self, request: Request, answer: Answer, keep_alive: bool) -> None:
        self._running, self._since = False, time.monotonic()
        self._let_go(len(request.body))
        if self._transport.is_closing():  # the client has left, or was sent away
            return
        close = not keep_alive or self._refused or (self._server.draining and not self._waiting)
        body = answer.body if request.method != "HEAD" else b""
        lines = head(answer.status, answer.headers, self._server.date, close)
        self._transport.write(b"%b%d\r\n\r\n%b" % (lines, len(answer.body), body))
        if close:
            self._refused = True
            self._waiting.clear()
            self._transport.close()
        elif self._paused:  # another connection's turn first
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._running or self._blocked or self._transport.is_closing():
            return
        if self._waiting:
            self._start(*self._waiting.popleft())
        if self._paused and not self._waiting and not self._running and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _too_large(self) -> None:
        self._refuse(413, f"the request's body is larger than {self._limits.body_bytes} bytes")

    def _refuse(self, status: int, message: str, headers: bytes = b"") -> None:
        """Answers a request that is not read to its end, and closes."""
        if self._refused or self._transport.is_closing():
            return
        self._refused, self._since = True, time.monotonic()
        self._release()
        if self._running or self._waiting:  # the answers that come first would be taken for this one
            self._transport.close()
            return
        body = error_body(message)
        lines = head(status, JSON + headers, self._server.date, True)
        self._transport.write(b"%b%d\r\n\r\n%b" % (lines, len(body), body))
        self._transport.write_eof()

    def check(self, now: float) -> None:
        """Ends a connection that has taken too long, as two checks in a row found: between them the event loop, which
        may have been busy, has read whatever had come."""
        late = now - self._since > self._patience_s()
        if late and self._late == self._since:
            if self._blocked or self._transport.is_closing():
                self.abort()
            elif self._reading and not self._refused:
                self._refuse(408, f"the request did not arrive within {self._limits.read_timeout_s:g} seconds")
            else:
                self._since = now
                self._transport.close()
        self._late = self._since if late else None

    def _patience_s(self) -> float:
        if self._blocked or self._transport.is_closing():
            return self._limits.read_timeout_s
        if self._refused:
            return _LINGER_S
        if self._reading:
            return self._limits.read_timeout_s
        if self._running or self._waiting:
            return math.inf
        return _IDLE_CLOSE_S if self._server.draining else self._limits.keep_alive_s

    def abort(self) -> None:
        self._transport.abort()
