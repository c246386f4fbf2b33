"""HTTP/2 on asyncio, as far as a gRPC server needs it."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any

from ladle.serving.grpc.http2.frames import (
    CANCEL,
    COMPRESSION_ERROR,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    MAX_FRAME,
    MAX_WINDOW,
    NO_ERROR,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
    Application,
    Broken,
    Limits,
    Stream,
    frame,
)
from ladle.serving.grpc.http2.hpack import HpackError
from ladle.serving.grpc.http2.receiver import Receiver

_PING_ANSWER_S = 20.0


class Connection(Receiver, asyncio.Protocol):
    """One client's connection; while it is open, it is among `connections`."""

    def __init__(self, application: Application, limits: Limits, connections: set[Connection]) -> None:
        super().__init__(application, limits)
        self._connections = connections
        self._buffer = bytearray()
        self._blocked = False  # the client does not take what we send
        self._pinged = False
        self._since = time.monotonic()  # of the last sign of life

    # asyncio

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        values = ((3, self._limits.streams), (4, WINDOW), (5, MAX_FRAME), (6, self._limits.header_bytes))
        settings = b"".join(struct.pack(">HI", key, value) for key, value in values)
        more = struct.pack(">I", 16 * WINDOW - 65535)
        transport.write(frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, more))
        self._connections.add(self)
        if self._limits.connections and len(self._connections) > self._limits.connections:
            self.close(ENHANCE_YOUR_CALM)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            self._application.lost(stream)
        self._connections.discard(self)

    def pause_writing(self) -> None:
        self._blocked, self._since = True, time.monotonic()
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._blocked, self._since = False, time.monotonic()
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._since, self._pinged = time.monotonic(), False
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._wanted:
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        try:
            self._buffer += self._read(data)
        except Broken as broken:
            self.close(broken.args[0])
        except HpackError as error:
            self.close(ENHANCE_YOUR_CALM if "limit" in str(error) else COMPRESSION_ERROR)

    # Sending

    def respond(self, stream: Stream, headers: bytes, body: bytes, trailers: bytes) -> None:
        """A whole answer, at once if the client's windows allow it."""
        size, number = len(body), stream.id
        if size > self.window or size > stream.window or size > self.max_frame or stream.out:
            self.send_headers(stream, headers)
            self.send_data(stream, body)
            self.finish(stream, trailers)
            return
        self.window -= size
        self.transport.write(
            frame(HEADERS, END_HEADERS, number, headers)
            + frame(DATA, 0, number, body)
            + frame(HEADERS, END_HEADERS | END_STREAM, number, trailers)
        )
        self._forget(stream)

    def send_headers(self, stream: Stream, headers: bytes, end: bool = False) -> None:
        """The answer's headers; `end`: they are all of it."""
        self.transport.write(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream.id, headers))
        if end:
            self._forget(stream)

    def send_data(self, stream: Stream, data: bytes) -> None:
        stream.out += data
        self.flush(stream)

    def finish(self, stream: Stream, trailers: bytes) -> None:
        """Ends the answer, after the data that still wait for the client's windows."""
        stream.trailers = trailers
        self.flush(stream)

    def flush(self, stream: Stream) -> None:
        """Sends what the windows allow."""
        parts = []
        while stream.out:
            size = min(len(stream.out), self.window, stream.window, self.max_frame)
            if size <= 0:
                break
            parts.append(frame(DATA, 0, stream.id, bytes(stream.out[:size])))
            del stream.out[:size]
            self.window -= size
            stream.window -= size
            stream.since = time.monotonic()
        done = not stream.out and stream.trailers is not None
        if done:
            parts.append(frame(HEADERS, END_HEADERS | END_STREAM, stream.id, stream.trailers or b""))
        if parts:
            self.transport.write(b"".join(parts))
        if done:
            self._forget(stream)

    def send_waiting(self) -> None:
        for stream in list(self.streams.values()):
            if stream.out:
                self.flush(stream)

    def _forget(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)
        if not stream.ended:  # the rest of the request is not wanted
            self.transport.write(frame(RST_STREAM, 0, stream.id, struct.pack(">I", NO_ERROR)))
        if self._final and not self.streams:
            self.close(NO_ERROR)

    # Ends

    def close(self, code: int) -> None:
        """Tells the client why, and closes once that is sent."""
        if not self._closing:
            self._closing = True
            self.transport.write(frame(GOAWAY, 0, 0, struct.pack(">II", self._last, code)))
            self.transport.close()

    def drain(self, last: bool) -> None:
        """Asks the client to start no more streams; with `last`, none that starts from now on is answered."""
        if self._closing or self.transport.is_closing():
            return
        self._final = max(self._last, 1) if last else 0
        number = self._final if last else MAX_WINDOW
        self.transport.write(frame(GOAWAY, 0, 0, struct.pack(">II", number, NO_ERROR)))
        if last and not self.streams:
            self.close(NO_ERROR)

    def check(self, now: float) -> None:
        """Ends what has taken too long; asks a silent client whether it is still there."""
        limit, keepalive = self._limits.read_timeout_s, self._limits.keepalive_s
        silent = now - self._since
        is_stuck = self._blocked or not self._has_preface or self._closing
        if (is_stuck and silent > limit) or (self._pinged and silent > keepalive + _PING_ANSWER_S):
            self.transport.abort()
            return
        if not self._pinged and silent > keepalive and self._has_preface and not self._closing:
            self._pinged = True
            self.transport.write(frame(PING, 0, 0, b"thereyet"))
        for stream in list(self.streams.values()):
            if (stream.out or not stream.ended) and now - stream.since > limit:
                self.streams.pop(stream.id, None)
                self._application.lost(stream)
                self.transport.write(frame(RST_STREAM, 0, stream.id, struct.pack(">I", CANCEL)))
        if self._final and not self.streams:  # the last of them was not answered, but taken back
            self.close(NO_ERROR)
