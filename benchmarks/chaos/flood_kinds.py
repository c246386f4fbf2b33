"""The floods: what each sends, as chunks of bytes without an end."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ladle.clients.wire import messages as pb
from ladle.serving.grpc.http2 import frames
from ladle.serving.grpc.http2.frames import END_HEADERS, END_STREAM, frame
from ladle.serving.grpc.http2.hpack import encode

OPENING = frames.PREFACE + frame(frames.SETTINGS, 0, 0)
_CHUNK = 2**16


def _headers(path: bytes, *more: tuple[bytes, bytes]) -> bytes:
    return encode(
        [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"h"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            *more,
        ]
    )


CHECK = _headers(b"/grpc.health.v1.Health/Check")
_PREDICT = _headers(b"/tensorflow.serving.PredictionService/Predict")
_NOWHERE = _headers(b"/nowhere")
EMPTY_MESSAGE = b"\0\0\0\0\0"


def _again(part: bytes, before: bytes = b"") -> Iterator[bytes]:
    """`before` once, then `part` again and again."""
    yield before
    yield from itertools.repeat(part * max(1, _CHUNK // len(part)))


def _on_new_streams(parts: Callable[[int], bytes], a_chunk: int = 256) -> Iterator[bytes]:
    """HTTP/2 frames that open a stream each; the connection has 2^30 of them."""
    yield OPENING
    for first in range(1, 2**31, 2 * a_chunk):
        yield b"".join([parts(number) for number in range(first, first + 2 * a_chunk, 2)])


def _http2(part: bytes) -> Iterator[bytes]:
    return _again(part, OPENING)


def _http2_on_open_stream(part: bytes) -> Iterator[bytes]:
    return _again(part, OPENING + frame(frames.HEADERS, END_HEADERS, 1, CHECK))


def _blocks(block: bytes, first: bytes = b"") -> Iterator[bytes]:
    """HEADERS with this block on one stream after another; `first` is the block of the first one, if given."""

    def parts(number: int) -> bytes:
        return frame(frames.HEADERS, END_HEADERS | END_STREAM, number, first if first and number == 1 else block)

    return _on_new_streams(parts, max(1, _CHUNK // len(block)))


def _long_codes() -> Iterator[bytes]:
    # The code of the byte 10 has 30 bits, the most: four bytes of the value are one of the text. Eight are 30 bytes.
    bits = "111111111111111111111111111100" * 8
    huffman = int(bits, 2).to_bytes(30, "big") * 1000
    value = b"\x7f" + _seven_bits(len(huffman) - 127)
    return _blocks(CHECK + b"\x00\x01x" + bytes((value[0] | 0x80,)) + value[1:] + huffman)


def _seven_bits(number: int) -> bytes:
    found = bytearray()
    while number >= 128:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _references() -> Iterator[bytes]:
    # The first block puts a field into the table, which has index 62; each byte of the others refers to it.
    return _blocks(CHECK + b"\xbe" * 1800, CHECK + b"\x40\x01x\x01y")


def _resizes() -> Iterator[bytes]:
    return _blocks(b"\x20" * 60_000 + CHECK)


def _continuations() -> Iterator[bytes]:
    filler = b"\x00\x01x\x7f" + _seven_bits(30_000 - 127) + b"y" * 30_000
    block = CHECK + filler

    def parts(number: int) -> bytes:
        pieces = [frame(frames.CONTINUATION, 0, number, bytes((byte,))) for byte in block[1:-1]]
        head = frame(frames.HEADERS, END_STREAM, number, block[:1])
        return head + b"".join(pieces) + frame(frames.CONTINUATION, END_HEADERS, number, block[-1:])

    return _on_new_streams(parts, 1)


def _setting_lists() -> Iterator[bytes]:
    pair = struct.pack(">HI", frames.INITIAL_WINDOW_SIZE, 65535)
    return _http2(frame(frames.SETTINGS, 0, 0, pair * 40_000))


def _requests(headers: bytes, *rest: tuple[int, int, bytes], a_chunk: int = 256) -> Iterator[bytes]:
    """A request on each stream: its headers, then frames of these kinds, flags and payloads."""

    def parts(number: int) -> bytes:
        return frame(frames.HEADERS, END_HEADERS, number, headers) + b"".join(
            [frame(kind, flags, number, payload) for kind, flags, payload in rest]
        )

    return _on_new_streams(parts, a_chunk)


def _many_strings(model: str) -> Iterator[bytes]:
    """Predict with 200,000 empty strings, two bytes each."""
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name=model))
    tensor = request.inputs["x"]
    tensor.dtype = pb.DataType.DT_STRING
    tensor.tensor_shape.dim.add(size=200_000)
    tensor.string_val.extend([b""] * 200_000)
    message = request.SerializeToString()
    body = b"\0" + len(message).to_bytes(4, "big") + message
    last = (frames.DATA, END_STREAM, body[2**18 :])
    return _requests(_PREDICT, (frames.DATA, 0, body[: 2**18]), last, a_chunk=1)


def _post(path: bytes, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


def _ragged(model: str) -> Iterator[bytes]:
    # The last row alone is at fault, so that every row before it is looked at.
    rows = b"[1]," * 62_000 + b"[1,2]"
    return _again(_post(b"/v1/models/%b:predict" % model.encode(), b'{"instances":[%b]}' % rows))


@dataclass(frozen=True)
class Flood:
    """protocol     "rest" or "grpc": the port that it goes to
    chunks       what a connection sends
    connections  at once
    """

    protocol: str
    chunks: Callable[[str], Iterator[bytes]]
    connections: int = 1


_GET = b" HTTP/1.1\r\nHost: h\r\n"
FLOODS = {
    "rest_not_found": Flood("rest", lambda _: _again(b"GET /nowhere" + _GET + b"\r\n")),
    "rest_health": Flood("rest", lambda _: _again(b"GET /v2/health/live" + _GET + b"\r\n")),
    "rest_bad_post": Flood("rest", lambda model: _again(_post(b"/v1/models/%b:predict" % model.encode(), b"{"))),
    "rest_upgrade": Flood(
        "rest", lambda _: _again(b"GET /v2/health/live" + _GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    ),
    "rest_tiny_chunks": Flood(
        "rest",
        lambda _: _again(
            b"POST /v1/models/x:predict"
            + _GET
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + b"1\r\na\r\n" * 9000
            + b"0\r\n\r\n"
        ),
    ),
    "rest_ragged": Flood("rest", _ragged, 2),
    "window_update": Flood("grpc", lambda _: _http2_on_open_stream(frames.window_update(1, 1))),
    "connection_window": Flood("grpc", lambda _: _http2(frames.window_update(0, 1))),
    "empty_data": Flood("grpc", lambda _: _http2_on_open_stream(frame(frames.DATA, 0, 1))),
    "one_byte_data": Flood("grpc", lambda _: _http2_on_open_stream(frame(frames.DATA, 0, 1, b"\0"))),
    "priority": Flood("grpc", lambda _: _http2(frame(frames.PRIORITY, 0, 1, b"\0\0\0\0\x10"))),
    "unknown_frame": Flood("grpc", lambda _: _http2(frame(0x77, 0, 0))),
    "ping": Flood("grpc", lambda _: _http2(frame(frames.PING, 0, 0, b"12345678"))),
    "settings": Flood("grpc", lambda _: _http2(frame(frames.SETTINGS, 0, 0))),
    "setting_lists": Flood("grpc", lambda _: _setting_lists()),
    "rst_stream": Flood("grpc", lambda _: _requests(CHECK, (frames.RST_STREAM, 0, b"\0\0\0\x08"))),
    "rapid_reset": Flood(
        "grpc",
        lambda _: _requests(CHECK, (frames.DATA, END_STREAM, EMPTY_MESSAGE), (frames.RST_STREAM, 0, b"\0\0\0\x08")),
    ),
    "grpc_health": Flood("grpc", lambda _: _requests(CHECK, (frames.DATA, END_STREAM, EMPTY_MESSAGE))),
    "grpc_unknown_method": Flood("grpc", lambda _: _requests(_NOWHERE, (frames.DATA, END_STREAM, b""))),
    "many_strings": Flood("grpc", _many_strings, 2),
    "long_codes": Flood("grpc", lambda _: _long_codes()),
    "table_references": Flood("grpc", lambda _: _references()),
    "table_resizes": Flood("grpc", lambda _: _resizes()),
    "continuations": Flood("grpc", lambda _: _continuations()),
}
"""By name. What each sends is in `chunks`; "rest_bad_post" and "rest_ragged" name a model of the server."""
