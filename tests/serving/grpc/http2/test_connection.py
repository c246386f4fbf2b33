"""Our HTTP/2 and gRPC, frame by frame: what clients that follow the rules never send."""

from __future__ import annotations

import asyncio
import gzip
import struct
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import grpc
import pytest

from ladle.serving.grpc.http2.application import Limits
from ladle.serving.grpc.http2.connection import Connection
from ladle.serving.grpc.http2.errors import (
    CANCEL,
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
)
from ladle.serving.grpc.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from ladle.serving.grpc.http2.hpack import encode
from ladle.serving.grpc.native import Server
from ladle.serving.runtime.listening import listen

WINDOW_KEY = 4
HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/s/M"), (b"content-type", b"application/grpc")]


class Idle:
    """An application that never answers."""

    def on_headers(self, connection: Any, stream: Any, headers: Any) -> None: ...

    def on_data(self, connection: Any, stream: Any, data: bytes, is_last: bool) -> None: ...

    def on_cancel(self, stream: Any) -> None: ...


class Transport:
    """Discards everything that is written."""

    def write(self, data: bytes) -> None: ...

    def get_extra_info(self, name: str) -> None: ...

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def settings(*windows: int) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", WINDOW_KEY, window) for window in windows))


def message(payload: bytes, compressed: bool = False) -> bytes:
    return struct.pack(">BI", compressed, len(payload)) + payload


async def echo(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


class Client:
    """A server with these handlers, and a connection to it."""

    def __init__(self, handlers: Mapping[bytes, Any], limits: Limits | None = None, max_unread_s: float = 0.0) -> None:
        self.server = Server(handlers, limits or Limits(), 2**24, 2**26, max_unread_s)

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


def test_a_window_that_one_frame_sets_many_times_counts_once() -> None:
    async def receive() -> None:
        connection = Connection(Idle(), Limits(), set())
        connection.connection_made(Transport())
        head = encode(HEAD)
        connection.data_received(
            PREFACE + settings() + b"".join(frame(HEADERS, END_HEADERS, n, head) for n in range(1, 512, 2))
        )
        while len(connection.streams) < 256:
            await asyncio.sleep(0)
        connection.data_received(settings(*[0, 70_000] * 64))
        assert [stream.send_window for stream in connection.streams.values()] == [70_000] * 256

    asyncio.run(receive())


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


# The letter of RFC 9113: what each fault is answered with. A fault of a stream leaves the connection as it was.

BODY = message(b"x")


def open_stream(fields: list[tuple[bytes, bytes]] | None = None, flags: int = END_HEADERS, number: int = 1) -> bytes:
    return frame(HEADERS, flags, number, encode(HEAD if fields is None else fields))


def without(name: bytes) -> list[tuple[bytes, bytes]]:
    return [field for field in HEAD if field[0] != name]


WHOLE = open_stream() + frame(DATA, END_STREAM, 1, BODY)
MALFORMED: dict[str, list[tuple[bytes, bytes]]] = {
    "upper-case name": [*HEAD, (b"X-Upper", b"1")],
    "empty name": [*HEAD, (b"", b"1")],
    "space in a name": [*HEAD, (b"a b", b"1")],
    "colon in a name": [*HEAD, (b"a:b", b"1")],
    "non-ASCII name": [*HEAD, (b"a\xff", b"1")],
    "line end in a name": [*HEAD, (b"a\nb", b"1")],
    "NUL in a value": [*HEAD, (b"a", b"1\x002")],
    "line end in a value": [*HEAD, (b"a", b"1\r\n2")],
    "space before a value": [*HEAD, (b"a", b" 1")],
    "tab after a value": [*HEAD, (b"a", b"1\t")],
    "no method": without(b":method"),
    "no scheme": without(b":scheme"),
    "no path": without(b":path"),
    "empty path": [*without(b":path"), (b":path", b"")],
    "empty path first": [(b":path", b""), *without(b":path")],
    "two methods": [HEAD[0], *HEAD],
    "two paths": [HEAD[2], *HEAD],
    "unknown pseudo-header": [(b":protocol", b"x"), *HEAD],
    "pseudo-header of answers": [(b":status", b"200"), *HEAD],
    "late pseudo-header": [*HEAD, (b":authority", b"h")],
    "connection": [*HEAD, (b"connection", b"close")],
    "proxy-connection": [*HEAD, (b"proxy-connection", b"close")],
    "keep-alive": [*HEAD, (b"keep-alive", b"1")],
    "transfer-encoding": [*HEAD, (b"transfer-encoding", b"chunked")],
    "upgrade": [*HEAD, (b"upgrade", b"h2c")],
    "other te": [*HEAD, (b"te", b"trailers, deflate")],
    "content-length is text": [*HEAD, (b"content-length", b"six")],
    "two content-lengths": [*HEAD, (b"content-length", b"6"), (b"content-length", b"6")],
}
STREAM_FAULTS: dict[str, tuple[bytes, int]] = {
    **{name: (open_stream(fields), PROTOCOL_ERROR) for name, fields in MALFORMED.items()},
    "more than content-length": (
        open_stream([*HEAD, (b"content-length", b"5")]) + frame(DATA, 0, 1, BODY),
        PROTOCOL_ERROR,
    ),
    "less than content-length": (
        open_stream([*HEAD, (b"content-length", b"7")]) + frame(DATA, END_STREAM, 1, BODY),
        PROTOCOL_ERROR,
    ),
    "content-length without a body": (
        open_stream([*HEAD, (b"content-length", b"7")], END_HEADERS | END_STREAM),
        PROTOCOL_ERROR,
    ),
    "DATA after END_STREAM": (WHOLE + frame(DATA, 0, 1, BODY), STREAM_CLOSED),
    "HEADERS after END_STREAM": (WHOLE + open_stream([(b"a", b"b")], END_HEADERS | END_STREAM), STREAM_CLOSED),
    "DATA after RST_STREAM": (
        open_stream() + frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL)) + frame(DATA, 0, 1, BODY),
        STREAM_CLOSED,
    ),
    "trailers that do not end": (open_stream() + open_stream([(b"a", b"b")]), PROTOCOL_ERROR),
    "pseudo-header in trailers": (open_stream() + open_stream(HEAD, END_HEADERS | END_STREAM), PROTOCOL_ERROR),
    "PRIORITY of four bytes": (open_stream() + frame(PRIORITY, 0, 1, bytes(4)), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of nothing": (open_stream() + frame(WINDOW_UPDATE, 0, 1, bytes(4)), PROTOCOL_ERROR),
    "window beyond the limit": (
        open_stream() + frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 2**31 - 1)),
        FLOW_CONTROL_ERROR,
    ),
}
CONNECTION_FAULTS: dict[str, tuple[bytes, int]] = {
    "ENABLE_PUSH of 2": (frame(SETTINGS, 0, 0, struct.pack(">HI", 2, 2)), PROTOCOL_ERROR),
    "initial window beyond the limit": (settings(2**31), FLOW_CONTROL_ERROR),
    "initial window beyond the limit, then within": (settings(2**31, 1), FLOW_CONTROL_ERROR),
    "frame size below the least": (frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 2**14 - 1)), PROTOCOL_ERROR),
    "SETTINGS of five bytes": (frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "acknowledgement with settings": (frame(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE_ERROR),
    "PING of seven bytes": (frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "PING on a stream": (frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "GOAWAY of seven bytes": (frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "PRIORITY without a stream": (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL_ERROR),
    "RST_STREAM without a stream": (frame(RST_STREAM, 0, 0, bytes(4)), PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (frame(RST_STREAM, 0, 1, bytes(4)), PROTOCOL_ERROR),
    "RST_STREAM of three bytes": (open_stream() + frame(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of three bytes": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of nothing": (frame(WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL_ERROR),
    "WINDOW_UPDATE on an idle stream": (frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), PROTOCOL_ERROR),
    "PUSH_PROMISE": (open_stream() + frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), PROTOCOL_ERROR),
    "DATA without a stream": (frame(DATA, 0, 0, BODY), PROTOCOL_ERROR),
    "DATA on an idle stream": (frame(DATA, 0, 1, BODY), PROTOCOL_ERROR),
    "DATA with too much padding": (open_stream() + frame(DATA, PADDED, 1, b"\x05abcd"), PROTOCOL_ERROR),
    "HEADERS with too much padding": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05abcd"), PROTOCOL_ERROR),
    "HEADERS on an even stream": (open_stream(number=2), PROTOCOL_ERROR),
    "HEADERS on a lower stream": (open_stream(number=5) + open_stream(number=3), PROTOCOL_ERROR),
    "HEADERS on a cancelled stream": (
        open_stream() + frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL)) + open_stream(),
        STREAM_CLOSED,
    ),
    "CONTINUATION without HEADERS": (frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR),
    "CONTINUATION of another stream": (
        open_stream(flags=0) + frame(CONTINUATION, END_HEADERS, 3, b"\x82"),
        PROTOCOL_ERROR,
    ),
    "PING inside a header block": (open_stream(flags=0) + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
    "unknown frame inside a header block": (open_stream(flags=0) + frame(99, 0, 1, b""), PROTOCOL_ERROR),
    "headers far beyond the limit": (open_stream([*HEAD, (b"a", b"b" * (2**18 - 200))]), ENHANCE_YOUR_CALM),
    "a flood of WINDOW_UPDATE": (frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 1200, ENHANCE_YOUR_CALM),
    "a flood of empty DATA": (open_stream() + frame(DATA, 0, 1) * 1200, ENHANCE_YOUR_CALM),
    "a flood of PRIORITY": (frame(PRIORITY, 0, 1, bytes(5)) * 1200, ENHANCE_YOUR_CALM),
    "a flood of PING": (frame(PING, 0, 0, bytes(8)) * 1200, ENHANCE_YOUR_CALM),
    "a flood of SETTINGS": (frame(SETTINGS, 0, 0) * 1200, ENHANCE_YOUR_CALM),
    "a flood of unknown frames": (frame(99, 0, 0) * 1200, ENHANCE_YOUR_CALM),
    "more settings than there are": (settings(*range(129)), ENHANCE_YOUR_CALM),
    "calls that are cancelled at once": (
        b"".join(
            open_stream(number=n) + frame(DATA, END_STREAM, n, BODY) + frame(RST_STREAM, 0, n, b"\0\0\0\x08")
            for n in range(1, 700, 2)
        ),
        ENHANCE_YOUR_CALM,
    ),
    "headers in too small frames": (
        frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, 0, 1, b"\x82") * 200,
        ENHANCE_YOUR_CALM,
    ),
    "a third resize of the table": (frame(HEADERS, END_HEADERS, 1, b"\x20" * 3 + encode(HEAD)), COMPRESSION_ERROR),
    "an index without an entry": (frame(HEADERS, END_HEADERS, 1, b"\xbe"), COMPRESSION_ERROR),
    "a frame beyond the limit": (struct.pack(">IBI", (2**18 + 1) << 8, 0, 1), FRAME_SIZE_ERROR),
}


async def never(request: bytes, context: Any) -> bytes:
    await asyncio.Event().wait()
    return b""


@pytest.mark.parametrize(("sent", "code"), STREAM_FAULTS.values(), ids=STREAM_FAULTS)
def test_a_fault_of_a_stream_ends_the_stream_alone(sent: bytes, code: int) -> None:
    async def ask() -> None:
        async with Client({b"/s/M": grpc.unary_unary_rpc_method_handler(never)}) as client:
            client.writer.write(PREFACE + settings() + sent)
            await client.read(frame(RST_STREAM, 0, 1, struct.pack(">I", code)))
            await client.ping()

    run(ask())


@pytest.mark.parametrize(("sent", "code"), CONNECTION_FAULTS.values(), ids=CONNECTION_FAULTS)
def test_a_fault_of_the_connection_ends_it_with_its_code(sent: bytes, code: int) -> None:
    async def ask() -> None:
        async with Client({b"/s/M": grpc.unary_unary_rpc_method_handler(never)}) as client:
            client.writer.write(PREFACE + settings() + sent)
            end = await asyncio.wait_for(client.reader.read(), 20)
            assert end[-17:-8] == frame(GOAWAY, 0, 0, bytes(8))[:9]
            assert struct.unpack(">I", end[-4:])[0] == code

    run(ask())


@pytest.mark.parametrize("first", [frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK, 0), open_stream()], ids=str)
def test_a_client_begins_with_settings(first: bytes) -> None:
    async def ask() -> None:
        async with Client({}) as client:
            client.writer.write(PREFACE + first)
            end = await asyncio.wait_for(client.reader.read(), 20)
            assert end.endswith(struct.pack(">I", PROTOCOL_ERROR))

    run(ask())


@pytest.mark.parametrize(
    "sent",
    [
        frame(99, 255, 1, b"unknown"),
        frame(PRIORITY, 0, 9, bytes(5)),
        frame(SETTINGS, 0, 0, struct.pack(">HI", 99, 1)),
        open_stream([*HEAD, (b"te", b"trailers"), (b"content-length", b"6")]) + frame(DATA, END_STREAM, 1, BODY),
        open_stream() + frame(DATA, PADDED, 1, b"\x02" + BODY + b"\0\0"),
        open_stream() + open_stream([(b"a", b"b")], END_HEADERS | END_STREAM),
        frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, END_HEADERS, 1, encode(HEAD[1:])),
    ],
    ids=["unknown frame", "PRIORITY", "unknown setting", "honest length", "padding", "trailers", "CONTINUATION"],
)
def test_what_the_rules_allow_is_no_fault(sent: bytes) -> None:
    async def ask() -> None:
        async with Client({b"/s/M": grpc.unary_unary_rpc_method_handler(never)}) as client:
            client.writer.write(PREFACE + settings() + sent)
            client.writer.write(frame(PING, 0, 0, b"are you?"))
            found = await client.read(frame(PING, ACK, 0, b"are you?"))
            assert frame(RST_STREAM, 0, 1, struct.pack(">I", PROTOCOL_ERROR)) not in found

    run(ask())


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        (b"content-type", b"application/grpcx", b"415"),
        (b"content-type", b"application/grpc-web", b"415"),
        (b"content-type", b"application/grpc+proto", b"hello"),
        (b"grpc-timeout", b"5", b"got a malformed grpc-timeout"),
        (b"grpc-timeout", b"-1S", b"got a malformed grpc-timeout"),
        (b"grpc-timeout", b"123456789S", b"got a malformed grpc-timeout"),
        (b"grpc-timeout", b"12345678S", b"hello"),
    ],
)
def test_the_headers_of_grpc_are_checked(name: bytes, value: bytes, answer: bytes) -> None:
    async def hello(request: bytes, context: Any) -> bytes:
        return b"hello"

    async def ask() -> None:
        async with Client({b"/s/M": grpc.unary_unary_rpc_method_handler(hello)}) as client:
            fields = [*without(name), (name, value)]
            client.writer.write(PREFACE + settings() + open_stream(fields) + frame(DATA, END_STREAM, 1, BODY))
            await client.read(answer)

    run(ask())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when the last segment came")
@pytest.mark.parametrize(("max_unread_s", "answer"), [(0.1, b"the server is overloaded"), (0.0, b"answered")])
def test_a_call_without_a_deadline_that_a_busy_server_read_late_is_refused(max_unread_s: float, answer: bytes) -> None:
    async def hold(request: bytes, context: Any) -> bytes:
        time.sleep(float(request))
        return b"answered"

    async def ask() -> None:
        async with Client({b"/s/M": grpc.unary_unary_rpc_method_handler(hold)}, None, max_unread_s) as client:
            client.writer.write(PREFACE + settings())
            await client.ping()
            reader, writer = await asyncio.open_connection(*client.address)
            writer.write(PREFACE + settings() + frame(PING, 0, 0, b"are you?"))
            await reader.readuntil(frame(PING, ACK, 0, b"are you?"))
            for each, seconds in ((client.writer, b"0.4"), (writer, b"0")):
                call = frame(HEADERS, END_HEADERS, 1, encode(HEAD)) + frame(DATA, END_STREAM, 1, message(seconds))
                each.write(call)
            await client.read(b"answered")
            await asyncio.wait_for(reader.readuntil(answer), 20)
            writer.close()

    run(ask())
