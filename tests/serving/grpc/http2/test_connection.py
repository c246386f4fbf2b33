"""Our HTTP/2 and gRPC, frame by frame: what clients that follow the rules never send."""

from __future__ import annotations

import asyncio
import gzip
import struct
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import grpc

from ladle.serving.grpc.http2.application import Limits
from ladle.serving.grpc.http2.connection import Connection
from ladle.serving.grpc.http2.errors import CANCEL, ENHANCE_YOUR_CALM, NO_ERROR
from ladle.serving.grpc.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
)
from ladle.serving.grpc.http2.hpack import encode
from ladle.serving.grpc.native import Server
from ladle.serving.runtime.listening import listen

WINDOW_KEY = 4
HEAD = [(b":method", b"POST"), (b":path", b"/s/M"), (b"content-type", b"application/grpc")]


class Idle:
    """An application that never answers."""

    def on_headers(self, connection: Any, stream: Any, headers: Any) -> None: ...

    def on_data(self, connection: Any, stream: Any, data: bytes, is_last: bool) -> None: ...

    def on_cancel(self, stream: Any) -> None: ...


class Transport:
    """Discards everything that is written."""

    def write(self, data: bytes) -> None: ...


def settings(*windows: int) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", WINDOW_KEY, window) for window in windows))


def message(payload: bytes, compressed: bool = False) -> bytes:
    return struct.pack(">BI", compressed, len(payload)) + payload


async def echo(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


class Client:
    """A server with these handlers, and a connection to it."""

    def __init__(self, handlers: Mapping[bytes, Any], limits: Limits | None = None) -> None:
        self.server = Server(handlers, limits or Limits(), 2**24, 2**26)

    async def __aenter__(self) -> Client:
        listening = listen("127.0.0.1", 0)
        self.address = listening.getsockname()[:2]
        await self.server.listen(listening)
        self.reader, self.writer = await asyncio.open_connection(*self.address)
        return self

    async def __aexit__(self, *error: Any) -> None:
        self.writer.close()
        await self.server.stop(0)

    async def read(self, wanted: bytes) -> bytes:
        """Everything up to and including `wanted`."""
        found = b""
        while wanted not in found:
            data = await asyncio.wait_for(self.reader.read(2**16), 20)
            assert data, "the server has closed the connection"
            found += data
        return found

    async def ping(self) -> None:
        self.writer.write(frame(PING, 0, 0, b"are you?"))
        await self.read(frame(PING, ACK, 0, b"are you?"))


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_a_window_that_one_frame_sets_many_times_is_applied_once() -> None:
    connection = Connection(Idle(), Limits(), set())
    connection.connection_made(Transport())
    head = encode(HEAD)
    connection.data_received(PREFACE + b"".join(frame(HEADERS, END_HEADERS, n, head) for n in range(1, 512, 2)))
    start = time.thread_time()
    connection.data_received(settings(*[0, 70_000] * 21_500))
    assert time.thread_time() - start < 0.1
    assert [stream.send_window for stream in connection.streams.values()] == [70_000] * 256


def test_a_connection_beyond_the_limit_gets_goaway_and_is_closed() -> None:
    async def connect() -> None:
        async with Client({}, Limits(connections=1)) as client:
            client.writer.write(PREFACE + settings())
            await client.ping()
            reader, writer = await asyncio.open_connection(*client.address)
            end = await asyncio.wait_for(reader.read(), 20)
            assert end.endswith(frame(GOAWAY, 0, 0, struct.pack(">II", 0, ENHANCE_YOUR_CALM)))
            writer.close()
            await client.ping()

    run(connect())


def test_a_stopping_server_does_not_wait_for_a_cancelled_call() -> None:
    async def stop() -> None:
        async with Client({b"/s/M": grpc.stream_stream_rpc_method_handler(echo)}) as client:
            client.writer.write(PREFACE + settings() + frame(HEADERS, END_HEADERS, 1, encode(HEAD)))
            await client.ping()
            stopping = asyncio.create_task(client.server.stop(60))
            await client.read(frame(GOAWAY, 0, 0, struct.pack(">II", 1, NO_ERROR)))
            client.writer.write(frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL)))
            await asyncio.wait_for(stopping, 20)

    run(stop())


def test_a_failed_call_may_receive_more_data_while_its_trailers_wait() -> None:
    async def ask() -> None:
        async with Client({b"/s/M": grpc.stream_stream_rpc_method_handler(echo)}) as client:
            client.writer.write(PREFACE + settings(0) + frame(HEADERS, END_HEADERS, 1, encode(HEAD)))
            client.writer.write(frame(DATA, 0, 1, message(b"waits")))
            await client.ping()
            await client.ping()
            client.writer.write(frame(DATA, 0, 1, b"\2\0\0\0\0") + frame(DATA, 0, 1, message(b"more")))
            client.writer.write(frame(DATA, END_STREAM, 1, message(b"last")))
            await client.ping()
            client.writer.write(settings(1000))
            assert b"not one whole message" in await client.read(b"grpc-message")

    run(ask())


def test_queued_messages_are_limited_by_their_bytes() -> None:
    async def wait(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async def ask() -> None:
        async with Client({b"/s/M": grpc.stream_stream_rpc_method_handler(wait)}) as client:
            client.writer.write(PREFACE + settings() + frame(HEADERS, END_HEADERS, 1, encode(HEAD)))
            client.writer.write(frame(DATA, 0, 1, message(b"x" * 100_000)) * 15)
            assert b"too many messages wait for their answers" in await client.read(b"grpc-message")

    run(ask())


def test_decompressing_a_large_message_does_not_block_the_event_loop() -> None:
    async def size(request: bytes, context: Any) -> bytes:
        return b"%d bytes" % len(request)

    async def ask() -> None:
        async with Client({b"/s/M": grpc.unary_unary_rpc_method_handler(size)}) as client:
            compressed = message(gzip.compress(bytes(2**23)), compressed=True)
            head = encode([*HEAD, (b"grpc-encoding", b"gzip")])
            client.writer.write(
                PREFACE
                + settings()
                + frame(HEADERS, END_HEADERS, 1, head)
                + frame(DATA, END_STREAM, 1, compressed)
                + frame(PING, 0, 0, b"are you?")
            )
            answer = await client.read(b"bytes")
            assert answer.index(frame(PING, ACK, 0, b"are you?")) < answer.index(b"8388608 bytes")

    run(ask())
