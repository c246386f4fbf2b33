"""gRPC on our own HTTP/2: calls, deadlines, compression, limits. Takes the method handlers that grpcio takes."""

from __future__ import annotations

import asyncio
import functools
import math
import socket
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from ladle.serving.grpc.calls import StatusError
from ladle.serving.grpc.http2.application import Limits
from ladle.serving.grpc.http2.connection import Connection
from ladle.serving.grpc.http2.hpack import Headers, encode
from ladle.serving.grpc.http2.streams import Stream
from ladle.serving.grpc.unpacking import Held, Room, unpack_small
from ladle.serving.grpc.wire import check_message, encode_trailers, read_message, status_of
from ladle.serving.runtime import eager_task
from ladle.serving.runtime.accepting import accept_on
from ladle.serving.runtime.listening import block_new_connections, settle
from ladle.serving.runtime.turns import Turns
from ladle.serving.telemetry.observation import Observation
from ladle.serving.telemetry.observer import trace_context
from ladle.serving.telemetry.tracing import TraceContext

_CONTENT = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_HEADERS = encode(_CONTENT)
_ERROR_HEADERS = encode((*_CONTENT, (b"grpc-accept-encoding", b"identity,deflate,gzip")))
_OK = encode([(b"grpc-status", b"0")])
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_QUEUED_BYTES = 2**20  # of the messages of one stream, each way
_MAX_QUEUED_MESSAGES = 1024
_MAX_SMALL_BYTES = 2**15  # compressed messages that are larger are not tried on the event loop
_MAY_WAIT_S = 0.01  # between the arrival of a request and its run, whatever its deadline
_CHECK_EVERY_S = 0.25
_GOAWAY_DELAY_S = 0.2  # calls that were on their way when the client read the first GOAWAY arrive within this time


class _Opening(NamedTuple):
    """What the headers of a call say: its handler, the seconds that it has, how its messages are compressed, its id."""

    headers: Headers
    handler: Any
    timeout_s: float | None
    encoding: bytes
    request_id: str


class _Call:
    """One call on a stream; it is the `CallContext` of its method."""

    # Until a call has its own: every small request makes one.
    body: bytes | bytearray = b""
    has_sent_headers = False
    messages: asyncio.Queue[bytes | None] | None = None  # of a call that streams its requests
    queued_bytes = 0
    observation: Observation | None = None
    trace_context: TraceContext | None = None
    is_large = False
    task: eager_task.Pending | None = None
    timer: asyncio.TimerHandle | None = None

    def __init__(self, handler: Any, deadline: float | None, encoding: bytes, request_id: str) -> None:
        self.handler = handler
        self.request_id = request_id
        self.deadline = deadline
        self.encoding = encoding


class Server:
    """A gRPC server; the `Application` of its connections.

    handlers            `Handler` by path
    max_bytes           of one message, compressed and decompressed
    max_buffered_bytes  of the requests that are arriving, on all connections together, and of those that came
                        compressed, once unpacked, until they are answered
    max_unread_s        for which a call may have waited to be read; 0: any time
    traces              reads the callers' trace contexts
    """

    def __init__(
        self,
        handlers: Mapping[bytes, Any],
        limits: Limits,
        max_bytes: int,
        max_buffered_bytes: int,
        max_unread_s: float = 0.0,
        traces: bool = False,
    ) -> None:
        self._handlers = handlers
        self._max_unread_s = max_unread_s or math.inf
        self._traces = traces
        self._limits = limits
        self._max_bytes = max_bytes
        self._max_buffered_bytes = max_buffered_bytes
        self._buffered_bytes = 0
        self._room = Room(max_buffered_bytes, lambda: self._buffered_bytes)
        self._accepted = 0
        self._connections: set[Connection] = set()
        self._turns = Turns()
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._timer: asyncio.TimerHandle | None = None

    async def listen(self, listening: socket.socket) -> None:
        """Accepts connections on a listening socket."""
        if listening.family in (socket.AF_INET, socket.AF_INET6):
            self._sockets.append(listening)
        self._servers.append(await accept_on(listening, self._connect))
        if self._timer is None:
            self._check_timeouts()

    async def stop(self, grace_s: float) -> None:
        """Accepts nothing more and answers what has arrived; closes every connection after `grace_s` seconds."""
        deadline = time.monotonic() + grace_s
        for listening in self._sockets:
            block_new_connections(listening)
        await settle(lambda: self._accepted, grace_s)
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.drain(last=False)
        await asyncio.sleep(min(_GOAWAY_DELAY_S, grace_s))
        for connection in list(self._connections):
            connection.drain(last=True)
        while self._connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.transport.abort()
        if self._timer is not None:
            self._timer.cancel()

    def _connect(self) -> asyncio.Protocol:
        self._accepted += 1
        return Connection(self, self._limits, self._connections, self._turns)

    def _check_timeouts(self) -> None:
        # One timer for all connections: a timer for each would be set and cancelled with every request.
        now = time.monotonic()
        for connection in list(self._connections):
            connection.check_timeouts(now)
        self._timer = asyncio.get_running_loop().call_later(_CHECK_EVERY_S, self._check_timeouts)

    # Requests, as the connection reports them

    def on_headers(self, connection: Connection, stream: Stream, headers: Headers | None) -> None:
        # Equal blocks decode to the same object, and most clients repeat their headers.
        opening: _Opening | None = connection.memo
        if opening is None or opening.headers is not headers:
            opening = self._open(connection, stream, headers)
            if opening is None:
                return
            connection.memo = opening
        _, handler, timeout_s, encoding, request_id = opening
        deadline = None if timeout_s is None else stream.last_progress + timeout_s
        stream.call = call = _Call(handler, deadline, encoding, request_id)
        if self._traces:
            call.trace_context = trace_context(dict(opening.headers))
        if handler.stream_stream is not None:
            call.messages = asyncio.Queue()
            self._run_stream(connection, stream, call, _receive(call, call.messages))

    def _open(self, connection: Connection, stream: Stream, headers: Headers | None) -> _Opening | None:
        """Reads the headers of a call; answers those that open none, and returns None."""
        if headers is None:
            text = f"headers are larger than {self._limits.header_bytes} bytes"
            self._fail(connection, stream, "RESOURCE_EXHAUSTED", text)
            return None
        fields = dict(headers)
        content_type = fields.get(b"content-type", b"")
        is_grpc = content_type.startswith(b"application/grpc") and content_type[16:17] in (b"", b"+", b";")
        if fields[b":method"] != b"POST" or not is_grpc:
            connection.send_headers(stream, encode([(b":status", b"415")]), end=True)
            return None
        handler = self._handlers.get(fields[b":path"])
        if handler is None:
            self._fail(connection, stream, "UNIMPLEMENTED", "Method not found!")
            return None
        timeout_s = None
        if b"grpc-timeout" in fields:
            timeout_s = read_timeout(fields[b"grpc-timeout"])
            if timeout_s is None:
                text = "got a malformed grpc-timeout; expected up to eight digits and one of H, M, S, m, u, n"
                self._fail(connection, stream, "INVALID_ARGUMENT", text)
                return None
        request_id = fields.get(b"x-request-id", b"").decode("latin-1")
        return _Opening(headers, handler, timeout_s, fields.get(b"grpc-encoding", b"identity"), request_id)

    def on_data(self, connection: Connection, stream: Stream, data: bytes, is_last: bool) -> None:
        call: _Call | None = stream.call
        if call is None:  # it has failed, and its trailers wait for the client's window
            return
        body = call.body
        if not body:  # most bodies are one frame: kept as it is, without a copy
            body = call.body = data
        elif data:
            body = call.body = bytearray(body) if isinstance(body, bytes) else body
            body += data
        self._buffered_bytes += len(data)
        size = len(body)
        length = int.from_bytes(body[1:5], "big") if size >= 5 else 0  # as announced, so refused before it is read
        if length > self._max_bytes or size > self._max_bytes + 5:
            text = f"Received message larger than max ({max(length, size - 5)} vs. {self._max_bytes})"
            self._fail(connection, stream, "RESOURCE_EXHAUSTED", text)
        elif self._buffered_bytes > self._max_buffered_bytes:
            text = "too many large requests arrive at once; try again later"
            self._fail(connection, stream, "RESOURCE_EXHAUSTED", text)
        elif call.messages is not None:
            self._queue_messages(connection, stream, call, call.messages)
            if is_last:
                call.messages.put_nowait(None)
        elif is_last:
            self._run(connection, stream, call)

    def on_cancel(self, stream: Stream) -> None:
        call: _Call | None = stream.call
        if call is not None:
            task = self._release(stream)
            if task is not None:
                task.cancel()

    def _queue_messages(
        self, connection: Connection, stream: Stream, call: _Call, messages: asyncio.Queue[bytes | None]
    ) -> None:
        while len(call.body) >= 5:
            end = 5 + int.from_bytes(call.body[1:5], "big")
            if len(call.body) < end:
                return
            body, call.body = bytes(call.body[:end]), call.body[end:]
            self._buffered_bytes -= end
            try:
                message = read_message(body, call.encoding, min(self._max_bytes, _MAX_QUEUED_BYTES))
            except StatusError as error:
                self._fail(connection, stream, error.code, error.details)
                return
            call.queued_bytes += len(message)
            if call.queued_bytes > _MAX_QUEUED_BYTES or messages.qsize() >= _MAX_QUEUED_MESSAGES:
                text = "too many messages wait for their answers"
                self._fail(connection, stream, "RESOURCE_EXHAUSTED", text)
                return
            messages.put_nowait(message)

    # Answers

    def _run(self, connection: Connection, stream: Stream, call: _Call) -> None:
        """Starts a call whose request is one message, and has arrived."""
        body, call.body = call.body, b""
        self._buffered_bytes -= len(body)
        method = call.handler.unary_unary
        # A server that falls behind and answers whatever is not late yet answers everything at the brink, and so too
        # late. What has waited for half the time that it had is refused before its message is read.
        now, arrived, deadline = time.monotonic(), connection.arrived, call.deadline
        if now - arrived > _MAY_WAIT_S:
            may_wait_s = self._max_unread_s
            if deadline is not None:
                may_wait_s = min(may_wait_s, (deadline - arrived) / 2)
            if now - arrived > may_wait_s:
                self._refuse_late(connection, stream, deadline is not None and now >= deadline)
                return
        try:
            if method is None:
                # The request of a call that streams its answers may stay in memory as long as the call.
                limit = min(self._max_bytes, _MAX_QUEUED_BYTES)
                self._run_stream(connection, stream, call, read_message(body, call.encoding, limit))
                return
            # The method runs right here, inside the callback that read its request, until it waits for something. Most
            # calls of small models never wait: as tasks they would start and end one tick of the event loop later.
            if body[:1] == b"\1" and len(body) > 5:
                coroutine = self._run_compressed(connection, call, body)
            else:
                coroutine = method(read_message(body, call.encoding, self._max_bytes), call)
            awaited = coroutine.send(None)
        except StopIteration as done:
            answer = done.value
        except StatusError as error:
            self._fail(connection, stream, error.code, error.details)
            return
        else:
            task = eager_task.follow(coroutine, awaited, functools.partial(self._finish, connection, stream))
            self._follow(connection, stream, call, task)
            return
        connection.respond(stream, _HEADERS, b"\0" + len(answer).to_bytes(4, "big") + answer, _OK)

    def _refuse_late(self, connection: Connection, stream: Stream, is_late: bool) -> None:
        if is_late:
            self._fail(connection, stream, "DEADLINE_EXCEEDED", "Deadline Exceeded")
        else:
            self._fail(connection, stream, "UNAVAILABLE", "the server is overloaded; retry later")

    async def _run_compressed(self, connection: Connection, call: _Call, body: bytes | bytearray) -> bytes:
        check_message(body, call.encoding)
        data = bytes(body[5:])
        held = Held(connection)
        message = unpack_small(data, call.encoding, self._max_bytes) if len(data) <= _MAX_SMALL_BYTES else None
        if message is None or not self._room.take_now(held, len(message)):
            self._buffered_bytes += len(data)  # as long as it waits
            try:
                message = await self._room.unpack(held, data, call.encoding, self._max_bytes)
            finally:
                self._buffered_bytes -= len(data)
        try:
            answer: bytes = await call.handler.unary_unary(message, call)
        finally:
            self._room.give(held)
        return answer

    def _follow(self, connection: Connection, stream: Stream, call: _Call, task: eager_task.Pending) -> None:
        call.task = task
        if call.deadline is not None:
            seconds = max(0.0, call.deadline - time.monotonic())
            if seconds < 1e6:  # a grpc-timeout may be 11,000 years, which timers do not take
                loop = asyncio.get_running_loop()
                call.timer = loop.call_later(seconds, self._expire, connection, stream)

    def _expire(self, connection: Connection, stream: Stream) -> None:
        if stream.call is not None:
            self._fail(connection, stream, "DEADLINE_EXCEEDED", "Deadline Exceeded")

    def _finish(self, connection: Connection, stream: Stream, task: eager_task.Pending) -> None:
        is_cancelled = task.cancelled()
        error = None if is_cancelled else task.exception()
        if is_cancelled or stream.call is None:  # the call has failed before
            return
        if error is None:
            answer = task.result()
            self._release(stream)
            connection.respond(stream, _HEADERS, b"\0" + len(answer).to_bytes(4, "big") + answer, _OK)
        else:
            self._fail(connection, stream, *status_of(error))

    def _run_stream(self, connection: Connection, stream: Stream, call: _Call, requests: Any) -> None:
        method = call.handler.stream_stream if call.messages is not None else call.handler.unary_stream
        task = asyncio.get_running_loop().create_task(self._send_all(connection, stream, method(requests, call)))
        self._follow(connection, stream, call, task)

    async def _send_all(self, connection: Connection, stream: Stream, answers: AsyncIterator[bytes]) -> None:
        if stream.call is None:
            return
        stream.call.has_sent_headers = True
        connection.send_headers(stream, _HEADERS)
        try:
            async for answer in answers:
                if stream.call is None:
                    return
                connection.send_data(stream, b"\0" + len(answer).to_bytes(4, "big") + answer)
                while len(stream.pending) > _MAX_QUEUED_BYTES:
                    await asyncio.sleep(0.05)
            trailers = _OK
        except Exception as error:
            trailers = encode_trailers(*status_of(error))
        if stream.call is not None:
            self._release(stream)
            connection.finish(stream, trailers)

    def _fail(self, connection: Connection, stream: Stream, code: str, details: str) -> None:
        has_sent_headers = stream.call is not None and stream.call.has_sent_headers
        self.on_cancel(stream)
        trailers = encode_trailers(code, details)
        if has_sent_headers:
            connection.finish(stream, trailers)
        else:  # headers and trailers in one block: gRPC's "Trailers-Only"
            connection.send_headers(stream, _ERROR_HEADERS + trailers, end=True)

    def _release(self, stream: Stream) -> eager_task.Pending | None:
        """Takes the call off its stream: from now on nothing is sent for it. Returns the task that runs it.

        The call forgets its task. The task's error refers to the frames that it passed, which refer to the call and to
        the servable: together they would stay in memory until the next garbage collection.
        """
        call: _Call = stream.call
        stream.call = None
        task, call.task = call.task, None
        self._buffered_bytes -= len(call.body)
        if call.timer is not None:
            call.timer.cancel()
        return task


def read_timeout(text: bytes) -> float | None:
    """The seconds of a `grpc-timeout`: at most eight digits and a unit. None for anything else."""
    unit = _SECONDS.get(text[-1:])
    return int(text[:-1]) * unit if unit is not None and text[:-1].isdigit() and len(text) <= 9 else None


async def _receive(call: _Call, messages: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (message := await messages.get()) is not None:
        call.queued_bytes -= len(message)
        yield message
