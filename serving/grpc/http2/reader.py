"""Bytes to frames: each frame that leaves here keeps the rules for frames (RFC 9113 §3.4, §4, §6)."""

from __future__ import annotations

from ladle.serving.grpc.http2 import errors, frames
from ladle.serving.grpc.http2.errors import Http2Error
from ladle.serving.grpc.http2.frames import DATA, END_HEADERS, FRAME_HEAD, HEAD_BYTES, HEADERS, PADDED

MAX_FRAME_BYTES = 2**18
"""The longest payload that a client may send, by our SETTINGS."""
_FRAMES_AT_ONCE = 32
_MAX_CONTINUATIONS = 128  # of a header block; a client that fills its frames needs four for 64 KiB

# A frame of DATA without padding, and of HEADERS without padding and priority that is a whole block: nearly all frames.
_SPECIAL, _USUAL = (PADDED, PADDED | frames.HAS_PRIORITY | END_HEADERS), (0, END_HEADERS)

Frame = tuple[int, int, int, bytes, int]
"""Kind, flags, stream id, payload without padding and priority, and the size that flow control counts.

A HEADERS frame has its whole header block: the reader joins CONTINUATION frames to it. A plain tuple, since making a
named one takes longer than reading the frame.
"""


class FrameReader:
    """Reads the frames of one connection.

    max_header_bytes  of a header block that comes in several frames
    has_preface       the client has sent its preface
    has_more          more whole frames have arrived than `read` returned; `read(b"")` goes on
    is_between        nothing is held: what arrives next begins with a frame, and is not a client's first
    """

    def __init__(self, max_header_bytes: int) -> None:
        self.has_preface = self.has_more = self.is_between = False
        self._max_header_bytes = max_header_bytes
        self._has_settings = False
        self._more, self._more_at = b"", 0  # while `has_more`: where the next frame starts
        self._buffer = bytearray()  # the start of a frame
        self._needed_bytes = len(frames.PREFACE)  # in `_buffer` before it is worth reading
        self._block: tuple[int, int, bytearray] | None = None  # flags, stream id and bytes of a header block so far
        self._continuations = 0

    def read(self, data: bytes) -> tuple[list[Frame], Http2Error | None]:
        """The next frames that are whole, not too many at once, and the error that follows them."""
        at = 0
        if self.has_more:
            data, at = self._more + data, self._more_at  # no copy: a caller reads on with b""
            self._more, self.has_more = b"", False
        elif self._buffer:
            if len(self._buffer) + len(data) < self._needed_bytes:
                self._buffer += data
                return [], None
            data = b"".join((self._buffer, data))
            self._buffer.clear()
        found: list[Frame] = []
        try:
            self._buffer += self._read(data, at, found)
        except Http2Error as error:
            self.is_between = False
            return found, error
        self.is_between = self._has_settings and not (self._buffer or self.has_more or self._block is not None)
        return found, None

    def _read(self, data: bytes, at: int, found: list[Frame]) -> bytes:
        """Appends the whole frames from `at` on to `found`; returns the start of the next one."""
        if not self.has_preface:
            if data[: len(frames.PREFACE)] != frames.PREFACE[: len(data)]:
                raise Http2Error(errors.PROTOCOL_ERROR, "got no HTTP/2 preface")
            if len(data) < len(frames.PREFACE):
                return data
            self.has_preface, at = True, len(frames.PREFACE)
        end, left = len(data), _FRAMES_AT_ONCE
        while end - at >= HEAD_BYTES:
            if not left:
                self._more, self._more_at, self.has_more = data, at, True
                return b""
            left -= 1
            head, flags, stream_id = FRAME_HEAD.unpack_from(data, at)
            length, kind = head >> 8, head & 255
            if length > MAX_FRAME_BYTES:
                raise Http2Error(errors.FRAME_SIZE_ERROR, "got a frame beyond SETTINGS_MAX_FRAME_SIZE")
            if end - at - HEAD_BYTES < length:
                self._needed_bytes = HEAD_BYTES + length
                return data[at:]
            at += HEAD_BYTES
            payload = data[at : at + length]
            at += length
            stream_id &= 0x7FFFFFFF  # the highest bit is reserved
            is_usual = kind <= HEADERS and flags & _SPECIAL[kind] == _USUAL[kind]
            if is_usual and self._has_settings and self._block is None:
                found.append((kind, flags, stream_id, payload, length))
                continue
            if not self._has_settings:
                if kind != frames.SETTINGS or flags & frames.ACK:
                    raise Http2Error(errors.PROTOCOL_ERROR, "got another frame than SETTINGS behind the preface")
                self._has_settings = True
            if kind == frames.CONTINUATION or self._block is not None:
                self._continue(kind, flags, stream_id, payload, found)
                continue
            if kind in (DATA, HEADERS):
                if flags & PADDED:
                    payload = frames.unpad(payload)
                if kind == HEADERS and flags & frames.HAS_PRIORITY:
                    payload = frames.skip_priority(payload)
                if kind == HEADERS and not flags & END_HEADERS:
                    self._block, self._continuations = (flags, stream_id, bytearray(payload)), 0
                    self._check_block(flags, payload)
                    continue
            elif kind != frames.WINDOW_UPDATE or length != 4:
                frames.check_frame(kind, stream_id, payload)
            found.append((kind, flags, stream_id, payload, length))
        self._needed_bytes = HEAD_BYTES
        return data[at:]

    def _continue(self, kind: int, flags: int, stream_id: int, payload: bytes, found: list[Frame]) -> None:
        if self._block is None or kind != frames.CONTINUATION or stream_id != self._block[1]:
            raise Http2Error(
                errors.PROTOCOL_ERROR, "got CONTINUATION without its HEADERS, or another frame between them"
            )
        first_flags, _, block = self._block
        block += payload
        self._continuations += 1
        self._check_block(flags, payload)
        if flags & END_HEADERS:
            self._block = None
            found.append((HEADERS, first_flags, stream_id, bytes(block), len(block)))

    def _check_block(self, flags: int, payload: bytes) -> None:
        """Bounds the frames of a header block: their bytes and their number."""
        assert self._block is not None
        is_empty = not payload and not flags & END_HEADERS
        is_large = len(self._block[2]) > self._max_header_bytes
        if is_empty or is_large or self._continuations > _MAX_CONTINUATIONS:
            raise Http2Error(errors.ENHANCE_YOUR_CALM, "got a header block beyond the limit, or in too many frames")
