"""One client's HTTP/1.1 connection: the order of requests and answers, turns, time-outs, and how it ends."""

from __future__ import annotations

import asyncio
import functools
import math
import socket
import time
from collections import deque
from typing import Any

from ladle.serving.rest.http.messages import AnswerParts, Request, response_head
from ladle.serving.rest.http.receiver import MAX_KEPT_HEAD, Receiver
from ladle.serving.rest.http.state import Head, ServerState
from ladle.serving.rest.json.text import error_body
from ladle.serving.runtime import eager_task
from ladle.serving.runtime.arrivals import GAP_S, LAG_S, MUCH_BYTES, Arrivals, busy_spell
from ladle.serving.runtime.turns import TURN_S

_PART_BYTES = 2**12  # parsed at once, of input with lines beyond them
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_S = 2.0  # after refusing a client, its input is drained this long, so that it can read the answer
_DRAIN_IDLE_S = 0.25  # while the server drains, a connection that has been idle this long is closed


class Connection(Receiver, asyncio.Protocol):
    """One client."""

    def __init__(self, server: ServerState) -> None:
        super().__init__(server)
        self._transport: Any = None
        self._queue: deque[tuple[Request, bool]] = deque()  # pipelined requests; whether to keep the connection
        self._task: eager_task.Pending | None = None
        self._is_running = False
        self._refusal = b""  # follows the answers that are still due
        self._has_eof = False  # the client sends nothing more
        self._is_write_blocked = False  # the client does not read its answers
        self._is_read_paused = False
        self._unparsed = b""  # reading is paused while there is any
        self._turn_ends = 0.0
        self._arrivals: Any = None
        self._arrived = 0.0  # when what is parsed now had arrived
        self._resumed_at = 0.0  # when reading was last resumed
        self._has_turn_coming = False
        self._has_had_turn = False  # has begun to answer in this turn
        self._late_since: float | None = None  # `_since`, if it was found too long ago
        self._unanswered_bytes = 0  # of bodies, in `buffered_bytes`

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
        may_have_waited = now - arrivals.read_at > LAG_S and now - spell.since > LAG_S
        if may_have_waited or len(data) >= MUCH_BYTES or arrivals.is_behind:
            self._arrived = arrivals.of(len(data), now)
        arrivals.read_at = now
        # A line is the least that costs more than copying it: of a head, or of a chunk's size.
        if len(data) <= _PART_BYTES or data.find(b"\n", _PART_BYTES) < 0:
            self._receive(data)
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
            self._receive(part)
            if self._is_refused:
                self._unparsed = b""
            if self._queue or self._is_write_blocked or time.monotonic() > self._turn_ends:
                return

    def _receive(self, data: bytes) -> None:
        """Takes a whole request whose head was parsed before; parses anything else."""
        if not self._is_reading:
            end = data.find(b"\r\n\r\n", 0, MAX_KEPT_HEAD) + 4
            head = self._server.heads.get(data[:end]) if end > 4 else None
            if head is not None and len(data) - end == head.length:
                self._take(head, data[end:])
                return
        self._parse(data)

    def _take(self, head: Head, body: bytes) -> None:
        """Takes a whole request whose head was parsed before. The parser stays where it is: between two requests."""
        method, path, headers, size = head
        self._is_http_1_0 = False
        if size:
            server = self._server
            server.buffered_bytes += size
            self._arriving_bytes += size
            if server.buffered_bytes > self._limits.buffered_bytes:
                self._refuse_many()
                if self._is_refused:
                    return
        self._complete(method, path, headers, body, True)

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

    def _complete(self, method: str, path: bytes, headers: dict[bytes, bytes], body: bytes, keep_alive: bool) -> None:
        """Starts a request that has arrived, or queues it."""
        self._since = now = time.monotonic()
        self._unanswered_bytes += self._arriving_bytes
        self._arriving_bytes = 0
        arrived = self._arrived
        is_behind = self._is_running or self._queue or self._has_had_turn
        # What waits for the answers before it on its connection is not late because of the server.
        unread_s = 0.0 if is_behind else now - (arrived if arrived > self._resumed_at else self._resumed_at)
        request = Request(method, path, headers, body, arrived, unread_s)
        if self._is_write_blocked or (is_behind and not self._may_start(now)):
            self._queue.append((request, keep_alive))
            self._pause_reading()
            if not self._is_running:
                self._await_turn()
        else:
            self._start(request, keep_alive)

    def _may_start(self, now: float) -> bool:
        """Whether the turn has time left for one more request, and no other one is before it."""
        return not (self._is_running or self._queue or now > self._turn_ends)

    def _release(self, size: int) -> None:
        """Subtracts the bytes of an answered body."""
        if size > self._unanswered_bytes:
            size = self._unanswered_bytes  # of a lost connection all were subtracted before
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
            self._task = eager_task.follow(coroutine, awaited, functools.partial(self._finish, request, keep_alive))
            return
        self._answer(request, answer, keep_alive)

    def _finish(self, request: Request, keep_alive: bool, task: eager_task.Pending) -> None:
        self._task = None
        if not task.cancelled():
            self._answer(request, task.result(), keep_alive)

    def _answer(self, request: Request, answer: AnswerParts, keep_alive: bool) -> None:
        self._is_running, self._since = False, time.monotonic()
        self._release(len(request.body))
        if self._transport.is_closing():
            return
        status, content, headers = answer
        server = self._server
        is_last = not self._queue and (self._is_refused or (server.is_draining and not self._unparsed))
        close = not keep_alive or is_last
        body = content if request.method != "HEAD" else b""
        refusal = self._refusal if keep_alive and is_last else b""
        lines = response_head(status, headers, server.date, close and not refusal)
        self._transport.write(b"%b%d\r\n\r\n%b" % (lines, len(content), body))
        if close:
            self._is_refused = True
            self._queue.clear()
            if refusal:
                self._transport.write(refusal)
                self._transport.write_eof()
            else:
                self._transport.close()
            return
        if self._owes_continue:
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
