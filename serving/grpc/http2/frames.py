"""HTTP/2's frames and streams (RFC 9113), and what an application on it must offer."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import Any, Protocol

from ladle.serving.grpc.http2.hpack import Headers

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 32
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0, 1, 3, 5, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 11

MAX_FRAME = 2**18  # bytes that a frame to us may carry
WINDOW = 2**20  # bytes that a stream may be ahead of us
MAX_WINDOW = 2**31 - 1
MAX_RESETS = 256  # streams that a client may take back beyond those that it lets end
MAX_QUEUED = 1000  # answers to SETTINGS and PING in one reading
FRAME = struct.Struct(">IBI")  # length and kind, flags, stream


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


@dataclass(frozen=True)
class Limits:
    """header_bytes of a request; streams and seconds: see the flags; connections at once, 0 for any number."""

    header_bytes: int = 2**16
    streams: int = 256
    connections: int = 0
    read_timeout_s: float = 60.0
    keepalive_s: float = 60.0


class Stream:
    """One request and its answer. `sink` is what the application hangs on it."""

    __slots__ = ("ended", "id", "out", "received", "since", "sink", "trailers", "window")

    def __init__(self, number: int, window: int) -> None:
        self.id = number
        self.window = window  # bytes that we may still send
        self.received = 0  # bytes that the client has not yet been allowed to send again
        self.ended = False  # the client has sent all
        self.out = bytearray()  # waits for the window
        self.trailers: bytes | None = None  # follows `out`
        self.since = time.monotonic()
        self.sink: Any = None


class Application(Protocol):
    """What is served over the connection. All is called on the event loop; `start` sets `stream.sink`."""

    def start(self, connection: Any, stream: Stream, headers: Headers | None) -> None:
        """A request begins; None: its headers are beyond the limit."""

    def feed(self, connection: Any, stream: Stream, data: bytes) -> None:
        """A part of its body."""

    def end(self, connection: Any, stream: Stream) -> None:
        """It is complete."""

    def lost(self, stream: Stream) -> None:
        """Nobody waits for its answer any more."""


class Broken(Exception):  # noqa: N818
    """The connection cannot go on; the HTTP/2 error code."""


def unpad(flags: int, payload: bytes) -> bytes:
    """The payload without its padding."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Broken(PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]
