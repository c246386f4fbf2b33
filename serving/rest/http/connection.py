"""One client's HTTP/1.1 connection: httptools parses its requests; order, limits and time-outs are kept here."""

from __future__ import annotations

import asyncio
import functools
import math
import re
import socket
import time
from collections import deque
from typing import Any, NamedTuple

import httptools

from ladle.serving.rest.http.messages import Answer, Application, Limits, Request, origin_form, response_head
from ladle.serving.rest.json.text import error_body
from ladle.serving.runtime import eager_task
from ladle.serving.runtime.arrivals import GAP_S, LAG_S, MUCH_BYTES, Arrivals, busy_spell
from ladle.serving.runtime.turns import TURN_S, Turns

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?\Z")  # RFC 9112 §3.2
_MAX_HEADERS = 128
_MAX_CHUNK_OVERHEAD = 2**24  # bytes of chunk sizes and extensions in one request
_MAX_KEPT_HEADS, _MAX_KEPT_HEAD = 512, 2**10
_SPECIAL = {b"expect", b"upgrade", b"transfer-encoding", b"trailer"}
_PART_BYTES = 2**12  # parsed at once, of input with lines beyond them
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_S = 2.0  # after refusing a client, its input is drained this long, so that it can read the answer
_DRAIN_IDLE_S = 0.25  # while the server drains, a connection that has been idle this long is closed


class Head(NamedTuple):
    """The head of a request that has nothing special: HTTP/1.1, with a length, and without Expect, Upgrade or close."""

    method: str
    path: bytes
    headers: dict[bytes, bytes]
    length: int


class ServerState:
    """What the connections of a server share.

    accepted        connections since the start
    buffered_bytes  of the bodies that are arriving or being answered
    headers         of answers that the connection gives itself: refusals
    date            of this second, as HTTP writes it
    is_draining     the server stops, and connections close after their answers
    turns           connections that have sent more than fits a turn of the event loop
    heads           heads that were parsed before, by their bytes: clients repeat them from request to request
    """

    def __init__(self, application: Application, limits: Limits, headers: bytes) -> None:
        self.heads: dict[bytes, Head] = {}
        self.application = application
        self.limits = limits
        self.headers = headers
        self.connections: set[Connection] = set()
        self.accepted = 0
        self.buffered_bytes = 0
        self.date = b""
        self.is_draining = False
        self.turns = Turns()


class Connection(asyncio.Protocol):
    """One client. httptools calls the methods named `on_...`."""

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self._limits = server.limits
        self._transport: Any = None
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Request, bool]] = deque()  # pipelined requests; whether to keep the connection
        self._task: eager_task.Pending | None = None
        self._is_running = False
        self._is_reading = False  # part of a request has arrived
        self._is_refused = False  # nothing more is parsed; the connection closes after its answers
        self._refusal = b""  # follows the answers that are still due
        self._has_eof = False  # the client sends nothing more
        self._is_write_blocked = False  # the client does not read its answers
        self._is_read_paused = False
        self._unparsed = b""  # reading is paused while there is any
        self._chunk = b""  # in which the present request began, if its head may be kept
        self._turn_ends = 0.0
        self._arrivals: Any = None
        self._arrived = 0.0  # when what is parsed now had arrived
        self._resumed_at = 0.0  # when reading was last resumed
        self._has_turn_coming = False
        self._has_had_turn = False  # has begun to answer in this turn
        self._since = time.monotonic()  # of the last change between idle, reading, running and blocked
        self._late_since: float | None = None  # `_since`, if it was found too long ago
        # The present request
        self._in_head = False
        self._wire_bytes = 0
        self._size = 0  # of the head; then of the body
        self._length = 0  # of the body, where the head says it
        self._path, self._body = b"", b""
        self._body_parts: bytearray | None = None
        self._headers: dict[bytes, bytes] = {}
        self._has_two_hosts = False
        self._is_http_1_0 = False
        self._owes_continue = False  # 100 Continue follows the answers that are still due
        # Bytes that this connection has added to `buffered_bytes`
        self._arriving_bytes = 0
        self._unanswered_bytes = 0

    # asyncio

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._arrivals = Arrivals(transport)
        connections = self._server.connections
        limit = self._limits.connections
        self._server.accepted += 1
        full = bool(limit) and len(connections) >= limit
        connections.add(self)
        if full:
            self._refuse(503, "too many connections; try again later", b"retry-after: 1\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._drop_body()
        self._release(self._unanswered_bytes)
        self._is_refused = True
        self._queue.clear()
        self._unparsed = b""
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._arrived = now = time.monotonic()
        self._turn_ends, self._has_had_turn = now + TURN_S, False
        arrivals, spell = self._arrivals, busy_spell
        if now - spell.ended > GAP_S:
            spell.since = now
        may_wait_s = min(now - arrivals.read_at, now - spell.since)
        if may_wait_s > LAG_S or len(data) >= MUCH_BYTES or arrivals.is_behind:
            self._arrived = arrivals.of(len(data), now)
        arrivals.read_at = now
        # A line is the least that costs more than copying it: of a head, or of a chunk's size.
        if len(data) <= _PART_BYTES or data.find(b"\n", _PART_BYTES) < 0:
            self._parse(data)
        else:
            self._unparsed += data
            self._parse_in_parts()
            if self._unparsed:
                self._pause_reading()
                self._await_turn()
        spell.ended = time.monotonic()

    def _parse_in_parts(self) -> None:
        """Parses what waits, until the turn's time is up or a request waits for its answer."""
        while self._unparsed:
            size = _PART_BYTES
            if self._is_reading and not self._in_head:
                size = max(size, self._length - self._size)  # the rest of a body is only copied
            part, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            self._parse(part)
            if self._is_refused:
                self._unparsed = b""
            if self._queue or self._is_write_blocked or time.monotonic() > self._turn_ends:
                return

    def _parse(self, data: bytes) -> None:
        self._chunk = b""
        if not self._is_reading:
            end = data.find(b"\r\n\r\n", 0, _MAX_KEPT_HEAD) + 4
            head = self._server.heads.get(data[:end]) if end > 4 else None
            if head is not None and len(data) - end == head.length:
                self._take(head, data[end:])
                return
            self._chunk = data if end > 4 else b""
            self._is_reading, self._in_head, self._since = True, True, time.monotonic()
            if b" RTSP/" in data[: data.find(b"\n") + 1]:  # llhttp parses it, too, and does not tell
                self._refuse(400, "this is not HTTP/1.1")
                return
        self._wire_bytes += len(data)
        while data:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                if self._is_refused:
                    return
                self._chunk = b""
                data = self._remove_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self._refuse(400, "this is not HTTP/1.1")
                return
        if self._in_head and self._wire_bytes > self._limits.header_bytes:
            self._refuse(431, f"the request's head is larger than {self._limits.header_bytes} bytes")
        elif self._is_reading and not self._in_head:
            overhead = self._wire_bytes - self._size  # head, chunk sizes and extensions, trailers
            if overhead > 2 * self._limits.header_bytes + min(8 * self._size, _MAX_CHUNK_OVERHEAD):
                self._refuse(413, "the request's body comes in too small chunks")

    def _take(self, head: Head, body: bytes) -> None:
        """Takes a whole request whose head was parsed before. The parser stays where it is: between two requests."""
        self._path, self._headers, self._is_http_1_0 = head.path, head.headers, False
        self._size, self._length = 0, head.length
        if body:
            self.on_body(body)
        if not self._is_refused:
            self._complete(head.method, True)

    def _keep_head(self, method: str) -> None:
        """Keeps the head of the present request, if it came in one chunk with its body and has nothing special."""
        chunk, self._chunk = self._chunk, b""
        end = chunk.find(b"\r\n\r\n") + 4
        headers, heads = self._headers, self._server.heads
        is_whole = b"content-length" in headers and len(chunk) - end == self._length == self._size
        if is_whole and not _SPECIAL.intersection(headers):
            if len(heads) >= _MAX_KEPT_HEADS:
                heads.clear()
            heads[chunk[:end]] = Head(method, self._path, headers, self._length)

    def _remove_upgrade(self) -> bytes:
        """The head of a request for another protocol, without its Upgrade. CONNECT stays as it is, and is refused.

        httptools stops at an upgrade; the head goes into a new parser, so that the request is answered over HTTP/1.1.
        """
        method = self._parser.get_method()
        self._parser = httptools.HttpRequestParser(self)
        if method == b"CONNECT":
            return b"CONNECT\r\n"
        kept = {name: value for name, value in self._headers.items() if name not in (b"upgrade", b"connection")}
        if b"close" in [token.strip().lower() for token in self._headers.get(b"connection", b"").split(b",")]:
            kept[b"connection"] = b"close"
        lines = b"".join([b"%b: %b\r\n" % header for header in kept.items()])
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._path, lines)

    def eof_received(self) -> bool:
        """The client has sent all that it will send. It may wait for its answers; returns whether there are any."""
        if not self._is_running and not self._queue:
            return False
        # A client that has left looks the same until something is written: then its system answers with a reset, which
        # `check_timeout` finds. Any client must accept an interim answer (RFC 9110 §15.2).
        if self._is_running and not self._is_http_1_0:
            self._transport.write(_CONTINUE)
        self._is_refused = self._has_eof = True
        return True

    def pause_writing(self) -> None:
        self._is_write_blocked, self._since = True, time.monotonic()
        self._pause_reading()

    def resume_writing(self) -> None:
        self._is_write_blocked, self._since = False, time.monotonic()
        if not self._is_running:
            self._await_turn()

    # httptools

    def on_message_begin(self) -> None:
        self._is_reading = self._in_head = True
        self._path, self._body, self._size, self._body_parts, self._headers = b"", b"", 0, None, {}
        self._has_two_hosts = self._owes_continue = False

    def on_url(self, url: bytes) -> None:
        self._path += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer, which is dropped
            name = name.lower()
            if name in self._headers:
                self._has_two_hosts |= name == b"host"
                if name == b"connection":  # a list, which may come in several lines
                    value = self._headers[name] + b"," + value
            self._headers[name] = value
            self._count(len(name) + len(value))

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.header_bytes or len(self._headers) > _MAX_HEADERS:
            limit = f"{self._limits.header_bytes} bytes, {_MAX_HEADERS} lines"
            self._refuse(431, f"the request's head is larger than the limit: {limit}")

    def on_headers_complete(self) -> None:
        self._in_head, self._size = False, 0
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._refuse(505, f"got HTTP/{version}; expected HTTP/1.1")
            return
        self._is_http_1_0 = version == "1.0"
        host = self._headers.get(b"host", b"" if self._is_http_1_0 else None)
        if host is None or self._has_two_hosts or not _HOST.match(host):
            self._refuse(400, "got no Host header, several, or a malformed one; expected exactly one")
            return
        self._length = int(self._headers.get(b"content-length", b"0"))
        if self._length > self._limits.body_bytes:
            self._too_large()
        elif b"expect" in self._headers and not self._is_http_1_0 and not self._parser.should_upgrade():
            self._owes_continue = self._headers[b"expect"].lower() == b"100-continue"
            self._send_continue()

    def on_body(self, body: bytes) -> None:
        if self._is_refused:
            return
        self._owes_continue = False  # the client did not wait for it
        self._size += len(body)
        if self._size > self._limits.body_bytes:
            self._too_large()
        elif not self._body:
            self._body = body
        else:
            if self._body_parts is None:
                self._body_parts = bytearray(self._body)
            self._body_parts += body
        self._server.buffered_bytes += len(body)
        self._arriving_bytes += len(body)
        if self._server.buffered_bytes > self._limits.buffered_bytes:
            self._refuse(503, "too many large requests arrive at once; try again later", b"retry-after: 1\r\n")

    def on_message_complete(self) -> None:
        if self._is_refused or self._parser.should_upgrade():
            return
        method, keep_alive = self._parser.get_method().decode(), self._parser.should_keep_alive()
        if self._chunk and keep_alive and not self._is_http_1_0:
            self._keep_head(method)
        self._complete(method, keep_alive and not self._is_http_1_0)

    def _complete(self, method: str, keep_alive: bool) -> None:
        """Starts the present request, which has arrived, or queues it."""
        now = time.monotonic()
        body = self._body if self._body_parts is None else bytes(self._body_parts)
        path = self._path if self._path.startswith(b"/") else origin_form(self._path)
        # What waits for the answers before it on its connection is not late because of the server.
        is_first = not (self._is_running or self._queue or self._has_had_turn)
        unread_s = now - max(self._arrived, self._resumed_at) if is_first else 0.0
        request = Request(method, path, self._headers, body, self._arrived, unread_s)
        self._is_reading, self._wire_bytes, self._since = False, 0, now
        self._unanswered_bytes += self._arriving_bytes
        self._body, self._body_parts, self._arriving_bytes = b"", None, 0
        self._owes_continue = False
        is_over = self._has_had_turn and now > self._turn_ends  # a turn is at least one request
        if self._is_running or self._queue or self._is_write_blocked or is_over:
            self._queue.append((request, keep_alive))
            self._pause_reading()
            if not self._is_running:
                self._await_turn()
        else:
            self._start(request, keep_alive)

    def _drop_body(self) -> None:
        """Drops what has arrived of the present body."""
        self._server.buffered_bytes -= self._arriving_bytes
        self._body, self._body_parts, self._arriving_bytes = b"", None, 0

    def _release(self, size: int) -> None:
        """Subtracts the bytes of an answered body."""
        size = min(size, self._unanswered_bytes)  # of a lost connection all were subtracted before
        self._server.buffered_bytes -= size
        self._unanswered_bytes -= size

    # Answers

    def _start(self, request: Request, keep_alive: bool) -> None:
        self._is_running = self._has_had_turn = True
        # The application runs right here, inside the callback that read the request, until it waits for something. Most
        # requests to small models never wait: as tasks they would start and end one tick of the event loop later.
        coroutine = self._server.application(request)
        try:
            awaited = coroutine.send(None)
        except StopIteration as done:
            answer = done.value
        else:
            self._task = eager_task.follow(coroutine, awaited)
            self._task.add_done_callback(functools.partial(self._finish, request, keep_alive))
            return
        self._answer(request, answer, keep_alive)

    def _finish(self, request: Request, keep_alive: bool, task: eager_task.Pending) -> None:
        self._task = None
        if not task.cancelled():
            self._answer(request, task.result(), keep_alive)

    def _answer(self, request: Request, answer: Answer, keep_alive: bool) -> None:
        self._is_running, self._since = False, time.monotonic()
        self._release(len(request.body))
        if self._transport.is_closing():
            return
        is_last = not self._queue and (self._is_refused or (self._server.is_draining and not self._unparsed))
        close = not keep_alive or is_last
        body = answer.body if request.method != "HEAD" else b""
        refusal = self._refusal if keep_alive and is_last else b""
        lines = response_head(answer.status, answer.headers, self._server.date, close and not refusal)
        self._transport.write(b"%b%d\r\n\r\n%b" % (lines, len(answer.body), body))
        if close:
            self._is_refused = True
            self._queue.clear()
            if refusal:
                self._transport.write(refusal)
                self._transport.write_eof()
            else:
                self._transport.close()
            return
        self._send_continue()
        if self._is_read_paused:  # not at once: a client that pipelines must not hold up the others
            self._await_turn()

    def _send_continue(self) -> None:
        if self._owes_continue and not (self._is_running or self._queue or self._is_refused):
            self._owes_continue = False
            self._transport.write(_CONTINUE)

    def _await_turn(self) -> None:
        if not self._has_turn_coming:
            self._has_turn_coming = True
            self._server.turns.add(self._take_turn)

    def _take_turn(self) -> None:
        """Answers the requests that wait and parses what has arrived, until the turn's time is up."""
        # The flag stays on meanwhile, so that the answers of this turn do not ask for another one.
        self._turn_ends, self._has_had_turn = time.monotonic() + TURN_S, False
        while not self._is_held_up() and (self._queue or self._unparsed):
            if self._queue:
                self._start(*self._queue.popleft())
            else:
                self._parse_in_parts()
            if time.monotonic() > self._turn_ends:
                break
        self._has_turn_coming = False
        if self._is_held_up():
            return
        if self._queue or self._unparsed:
            self._await_turn()
        elif self._is_read_paused and not self._has_eof:
            self._is_read_paused, self._resumed_at = False, time.monotonic()
            self._transport.resume_reading()

    def _is_held_up(self) -> bool:
        """Whether something else than a turn is waited for: an answer, the client's reading, or the end."""
        return self._is_running or self._is_write_blocked or self._transport.is_closing()

    def _pause_reading(self) -> None:
        if not self._is_read_paused and not self._transport.is_closing():
            self._is_read_paused = True
            self._transport.pause_reading()

    def _too_large(self) -> None:
        self._refuse(413, f"the request's body is larger than {self._limits.body_bytes} bytes")

    def _refuse(self, status: int, message: str, headers: bytes = b"") -> None:
        """Answers a request before its end, and closes."""
        if self._is_refused or self._transport.is_closing():
            return
        self._is_refused, self._since = True, time.monotonic()
        self._drop_body()
        body = error_body(message)
        lines = response_head(status, self._server.headers + headers, self._server.date, True)
        refusal = b"%b%d\r\n\r\n%b" % (lines, len(body), body)
        if self._is_running or self._queue:  # answers go in the order of their requests
            self._refusal = refusal
            return
        self._transport.write(refusal)
        self._transport.write_eof()

    def check_timeout(self, now: float) -> None:
        """Ends a connection that two checks in a row found too slow. `now` in `time.monotonic()` seconds.

        One check is not enough: if the event loop was busy, the client's bytes may wait to be read.
        """
        if self._has_eof and self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.abort()
            return
        late = now - self._since > self._timeout_s()
        if late and self._late_since == self._since:
            if self._is_write_blocked or self._transport.is_closing():
                self.abort()
            elif self._is_reading and not self._is_refused:
                self._refuse(408, f"the request did not arrive within {self._limits.read_timeout_s:g} seconds")
            else:
                self._since = now
                self._transport.close()
        self._late_since = self._since if late else None

    def _timeout_s(self) -> float:
        if self._is_write_blocked or self._transport.is_closing():
            return self._limits.read_timeout_s
        if self._is_reading and not self._is_refused:
            return self._limits.read_timeout_s
        if self._is_running or self._queue:
            return math.inf
        if self._is_refused:
            return _LINGER_S
        return _DRAIN_IDLE_S if self._server.is_draining else self._limits.keep_alive_s

    def abort(self) -> None:
        self._transport.abort()
