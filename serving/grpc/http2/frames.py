"""HTTP/2's frames: constants, layout, and the rules that each frame keeps by itself (RFC 9113 §4, §6)."""

from __future__ import annotations

import struct

from ladle.serving.grpc.http2 import errors
from ladle.serving.grpc.http2.errors import Http2Error

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 32
ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 2, 3, 4, 5, 6

HEAD_BYTES = 9
FRAME_HEAD = struct.Struct(">IBI")  # 24 bits of length and 8 of type as one number, flags, stream id
MAX_WINDOW = 2**31 - 1
_SETTING = struct.Struct(">HI")
_MAX_SETTINGS = 128  # in one frame; HTTP/2 and its extensions have about ten
_UINT32 = struct.Struct(">I")
_FIXED_BYTES = {RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_OF_CONNECTION = (SETTINGS, PING, GOAWAY)
_OF_STREAM = (RST_STREAM, PRIORITY)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return FRAME_HEAD.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings(*values: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in values))


def window_update(stream_id: int, credit: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, _UINT32.pack(credit))


def reset(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, _UINT32.pack(code))


def goaway(last_stream_id: int, code: int) -> bytes:
    return frame(GOAWAY, 0, 0, _UINT32.pack(last_stream_id) + _UINT32.pack(code))


def check_frame(kind: int, stream_id: int, payload: bytes) -> None:
    """Http2Error when a control frame has a wrong length, or is on the wrong stream."""
    if kind == PUSH_PROMISE:
        raise Http2Error(errors.PROTOCOL_ERROR, "got PUSH_PROMISE from a client")
    size = _FIXED_BYTES.get(kind)
    if (size is not None and len(payload) != size) or (kind == GOAWAY and len(payload) < 8):
        raise Http2Error(errors.FRAME_SIZE_ERROR, f"got a frame of type {kind} with {len(payload)} bytes")
    if (stream_id and kind in _OF_CONNECTION) or (not stream_id and kind in _OF_STREAM):
        raise Http2Error(errors.PROTOCOL_ERROR, f"got a frame of type {kind} on stream {stream_id}")


def unpad(payload: bytes) -> bytes:
    """The payload of a PADDED frame without its padding. Http2Error when the padding is longer than the payload."""
    if not payload or payload[0] >= len(payload):
        raise Http2Error(errors.PROTOCOL_ERROR, "got padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def skip_priority(payload: bytes) -> bytes:
    """The payload of a HEADERS frame behind the five bytes of its priority, which RFC 9113 §5.3 lets us ignore."""
    if len(payload) < 5:
        raise Http2Error(errors.FRAME_SIZE_ERROR, "got HEADERS too short for its priority")
    return payload[5:]


def read_settings(flags: int, payload: bytes) -> dict[int, int]:
    """The settings of a frame, the last value of each. Http2Error for values out of range."""
    if len(payload) % _SETTING.size or (flags & ACK and payload):
        raise Http2Error(errors.FRAME_SIZE_ERROR, f"got SETTINGS of {len(payload)} bytes")
    if len(payload) > _MAX_SETTINGS * _SETTING.size:
        raise Http2Error(errors.ENHANCE_YOUR_CALM, f"got {len(payload) // _SETTING.size} settings in one frame")
    found = {}
    for key, value in _SETTING.iter_unpack(payload):
        if key == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise Http2Error(errors.FLOW_CONTROL_ERROR, "got an initial window above 2^31 - 1")
        if key == MAX_FRAME_SIZE and not 2**14 <= value < 2**24:
            raise Http2Error(errors.PROTOCOL_ERROR, "got a maximum frame size out of range")
        if key == ENABLE_PUSH and value > 1:
            raise Http2Error(errors.PROTOCOL_ERROR, "got an ENABLE_PUSH other than 0 and 1")
        found[key] = value
    return found
