"""gRPC on our own HTTP/2: calls, deadlines, gzip, limits. Takes the methods that grpcio takes."""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc

from ladle.serving.grpc.http2 import connection as http2
from ladle.serving.grpc.http2.frames import Limits, Stream
from ladle.serving.grpc.http2.hpack import Headers, encode
from ladle.serving.grpc.wire import Aborted, Context, read_timeout, status_of, trailers, unpack
from ladle.serving.runtime import eager_task
from ladle.serving.runtime.listening import settle

_ACCEPTED = (b"grpc-accept-encoding", b"identity,deflate,gzip")
_HEADERS = encode([(b":status", b"200"), (b"content-type", b"application/grpc")])
_OK = encode([(b"grpc-status", b"0")])
_MAX_WAITING = 2**20  # bytes of a stream of messages that may wait, each way
_LARGE_PACKED = 2**12  # bytes that may unpack to 4 MiB, which takes too long for the event loop
_SWEEP_S = 0.25
_LAST_CALLS_S = 0.2  # how long after GOAWAY calls that were on their way are still taken


class _Call:
    """A call on a stream."""

    __slots__ = (
        "body", "deadline", "encoding", "handler", "is_open", "messages", "request_id", "task", "timer", "waiting"
    )  # fmt: skip

    def __init__(self, handler: Any, deadline: float | None, encoding: bytes, request_id: bytes) -> None:
        self.handler = handler
        self.request_id = request_id
        self.deadline = deadline
        self.encoding = encoding
        self.body: bytes | bytearray = b""
        self.is_open = False  # a stream of answers has begun
        self.messages: asyncio.Queue[bytes | None] | None = None
        self.waiting = 0  # bytes of these
        self.task: eager_task.Pending | None = None
        self.timer: asyncio.TimerHandle | None = None


class Server:
    """handlers   grpc.RpcMethodHandler by path, without serializers: unary, or with a stream of answers
    max_bytes     of a message, before and after it is unpacked
    max_buffered  bytes of requests of all connections that are still arriving
    """

    def __init__(self, handlers: Mapping[bytes, Any], limits: Limits, max_bytes: int, max_buffered: int) -> None:
        self._handlers = handlers
        self._limits = limits
        self._max_bytes = max_bytes
        self._max_buffered = max_buffered
        self._buffered = 0
        self._accepted = 0
        self._connections: set[http2.Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._sweep: asyncio.TimerHandle | None = None

    async def listen(self, listening: socket.socket | str) -> None:
        """Accepts connections on a listening socket, or at the path of a UNIX socket."""
        loop = asyncio.get_running_loop()
        if isinstance(listening, str):
            self._servers.append(await loop.create_unix_server(self._connect, listening, backlog=2048))
        else:
            self._servers.append(await loop.create_server(self._connect, sock=listening, backlog=2048))
        if self._sweep is None:
            self._check_all()

    async def stop(self, grace_s: float) -> None:
        """Takes no more connections and calls, answers what has arrived; after `grace_s` seconds ends in any case."""
        deadline = time.monotonic() + grace_s
        await settle(lambda: self._accepted, grace_s)
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.drain(last=False)
        await asyncio.sleep(min(_LAST_CALLS_S, grace_s))
        for connection in list(self._connections):
            connection.drain(last=True)
        while self._connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.transport.abort()
        if self._sweep is not None:
            self._sweep.cancel()

    def _connect(self) -> asyncio.Protocol:
        self._accepted += 1
        return http2.Connection(self, self._limits, self._connections)

    def _check_all(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            connection.check(now)
        self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self._check_all)

    # Calls, as http2 tells of them

    def start(self, connection: http2.Connection, stream: Stream, headers: Headers | None) -> None:
        if headers is None:
            limit = self._limits.header_bytes
            self._fail(connection, stream, grpc.StatusCode.RESOURCE_EXHAUSTED, f"headers are larger than {limit} bytes")
            return
        found = dict(headers)
        if found.get(b":method") != b"POST" or not found.get(b"content-type", b"").startswith(b"application/grpc"):
            connection.send_headers(stream, encode([(b":status", b"415")]), end=True)
            return
        handler = self._handlers.get(found.get(b":path", b""))
        if handler is None:
            self._fail(connection, stream, grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            return
        timeout_s = read_timeout(found.get(b"grpc-timeout", b""))
        deadline = None if timeout_s is None else stream.since + timeout_s
        encoding, request_id = found.get(b"grpc-encoding", b"identity"), found.get(b"x-request-id", b"")
        stream.sink = call = _Call(handler, deadline, encoding, request_id)
        if handler.request_streaming:
            call.messages = asyncio.Queue()
            self._run_stream(connection, stream, call, _receive(call, call.messages))

    def feed(self, connection: http2.Connection, stream: Stream, data: bytes) -> None:
        call: _Call | None = stream.sink
        if call is None:  # it has failed, and its end waits for the client's window
            return
        if not call.body:
            call.body = data
        else:
            if isinstance(call.body, bytes):
                call.body = bytearray(call.body)
            call.body += data
        self._buffered += len(data)
        size = len(call.body)
        wanted = int.from_bytes(call.body[1:5], "big") if size >= 5 else 0
        if wanted > self._max_bytes or size > self._max_bytes + 5:
            text = f"Received message larger than max ({max(wanted, size - 5)} vs. {self._max_bytes})"
            self._fail(connection, stream, grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        elif self._buffered > self._max_buffered:
            text = "too many large requests arrive at once; try again later"
            self._fail(connection, stream, grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        elif call.messages is not None:
            self._split(connection, stream, call)

    def _split(self, connection: http2.Connection, stream: Stream, call: _Call) -> None:
        assert call.messages is not None
        while len(call.body) >= 5:
            end = 5 + int.from_bytes(call.body[1:5], "big")
            if len(call.body) < end:
                return
            message, rest = bytes(call.body[:end]), call.body[end:]
            self._buffered -= end
            call.body = rest
            try:
                payload = self._payload(call, message)
            except Aborted as aborted:
                self._fail(connection, stream, *aborted.args)
                return
            call.waiting += len(payload)
            if call.waiting > _MAX_WAITING or call.messages.qsize() >= 1024:
                text = "too many messages wait for their answers"
                self._fail(connection, stream, grpc.StatusCode.RESOURCE_EXHAUSTED, text)
                return
            call.messages.put_nowait(payload)

    def end(self, connection: http2.Connection, stream: Stream) -> None:
        call: _Call | None = stream.sink
        if call is None:
            return
        if call.messages is not None:
            call.messages.put_nowait(None)
            return
        body, call.body = call.body, b""
        self._buffered -= len(body)
        try:
            if call.handler.response_streaming:
                self._run_stream(connection, stream, call, self._payload(call, body))
                return
            context = Context(call.deadline, call.request_id)
            if body[:1] == b"\1" and len(body) > _LARGE_PACKED:
                done = eager_task.start(self._answer_packed(call, body, context))
            else:
                done = eager_task.start(call.handler.unary_unary(self._payload(call, body), context))
        except Aborted as aborted:
            self._fail(connection, stream, *aborted.args)
            return
        if not isinstance(done, eager_task.PENDING):
            connection.respond(stream, _HEADERS, b"\0" + len(done).to_bytes(4, "big") + done, _OK)
            return
        self._follow(connection, stream, call, done)
        done.add_done_callback(functools.partial(self._finish, connection, stream))

    def lost(self, stream: Stream) -> None:
        call: _Call | None = stream.sink
        if call is not None:
            stream.sink = None
            self._buffered -= len(call.body)
            if call.task is not None:
                call.task.cancel()
            if call.timer is not None:
                call.timer.cancel()

    # Answers

    async def _answer_packed(self, call: _Call, body: bytes | bytearray, context: Context) -> bytes:
        """Unpacks in a thread, so that nobody waits for it."""
        payload = await asyncio.to_thread(self._payload, call, body)
        answer: bytes = await call.handler.unary_unary(payload, context)
        return answer

    def _payload(self, call: _Call, body: bytes | bytearray) -> bytes:
        """The message of a body: a flag, its length, its bytes."""
        if len(body) < 5 or len(body) != 5 + int.from_bytes(body[1:5], "big") or body[0] > 1:
            raise Aborted(grpc.StatusCode.INVALID_ARGUMENT, "the request is not one whole message")
        if not body[0]:
            return bytes(body[5:])
        return unpack(bytes(body[5:]), call.encoding, self._max_bytes)

    def _follow(self, connection: http2.Connection, stream: Stream, call: _Call, task: eager_task.Pending) -> None:
        call.task = task
        if call.deadline is not None:
            loop = asyncio.get_running_loop()
            seconds = max(0.0, call.deadline - time.monotonic())
            if seconds < 1e6:
                call.timer = loop.call_later(seconds, self._expire, connection, stream)

    def _expire(self, connection: http2.Connection, stream: Stream) -> None:
        if stream.sink is not None:
            self._fail(connection, stream, grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _finish(self, connection: http2.Connection, stream: Stream, task: eager_task.Pending) -> None:
        error = None if task.cancelled() else task.exception()
        if stream.sink is None or task.cancelled():  # nobody waits
            return
        if error is None:
            done = task.result()
            self._release(stream)
            connection.respond(stream, _HEADERS, b"\0" + len(done).to_bytes(4, "big") + done, _OK)
        else:
            self._fail(connection, stream, *status_of(error))

    def _run_stream(self, connection: http2.Connection, stream: Stream, call: _Call, requests: Any) -> None:
        handler = call.handler.stream_stream if call.messages is not None else call.handler.unary_stream
        answers = handler(requests, Context(call.deadline, call.request_id))
        task = asyncio.get_running_loop().create_task(self._send_all(connection, stream, answers))
        self._follow(connection, stream, call, task)

    async def _send_all(self, connection: http2.Connection, stream: Stream, answers: AsyncIterator[bytes]) -> None:
        if stream.sink is None:
            return
        stream.sink.is_open = True
        connection.send_headers(stream, _HEADERS)
        try:
            async for answer in answers:
                if stream.sink is None:
                    return
                connection.send_data(stream, b"\0" + len(answer).to_bytes(4, "big") + answer)
                while len(stream.out) > _MAX_WAITING:
                    await asyncio.sleep(0.05)
            status = _OK
        except Exception as error:
            status = trailers(*status_of(error))
        if stream.sink is not None:
            self._release(stream)
            connection.finish(stream, status)

    def _fail(self, connection: http2.Connection, stream: Stream, code: grpc.StatusCode, details: str) -> None:
        is_open = stream.sink is not None and stream.sink.is_open
        self.lost(stream)
        if is_open:
            connection.finish(stream, trailers(code, details))
            return
        head = [(b":status", b"200"), (b"content-type", b"application/grpc"), _ACCEPTED]
        connection.send_headers(stream, encode(head) + trailers(code, details), end=True)

    def _release(self, stream: Stream) -> None:
        call: _Call = stream.sink
        stream.sink = None
        self._buffered -= len(call.body)
        if call.timer is not None:
            call.timer.cancel()


async def _receive(call: _Call, messages: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (message := await messages.get()) is not None:
        call.waiting -= len(message)
        yield message
