"""The receiving half of an HTTP/2 connection: frames to streams, and the rules that no client may break."""

from __future__ import annotations

import struct
from typing import Any

from ladle.serving.grpc.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME,
    FRAME_SIZE_ERROR,
    HAS_PRIORITY,
    HEADERS,
    MAX_FRAME,
    MAX_QUEUED,
    MAX_RESETS,
    MAX_WINDOW,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW,
    WINDOW_UPDATE,
    Application,
    Broken,
    Limits,
    Stream,
    frame,
    unpad,
)
from ladle.serving.grpc.http2.hpack import Decoder


class Receiver:
    """What has come on a connection so far. `http2.Connection` sends."""

    transport: Any

    def __init__(self, application: Application, limits: Limits) -> None:
        self._application = application
        self._limits = limits
        self.streams: dict[int, Stream] = {}
        self.window = 65535  # bytes that we may send on all streams
        self.max_frame = 16384  # bytes of a frame that we may send
        self._initial_window = 65535
        self._decoder = Decoder(limits.header_bytes)
        self._wanted = len(PREFACE)  # bytes until the next frame is whole
        self._has_preface = False
        self._last = 0  # the highest stream of the client
        self._received = 0  # bytes that the client has not yet been allowed to send again
        self._resets = 0
        self._block: tuple[int, int, bytearray] | None = None  # stream, flags and headers that go on in CONTINUATION
        self._closing = False
        self._final = 0  # once going away: the last stream that is answered

    def flush(self, stream: Stream) -> None:
        raise NotImplementedError

    def send_waiting(self) -> None:
        raise NotImplementedError

    def _read(self, data: bytes) -> bytes:
        """Takes the whole frames; gives what is left."""
        at = 0
        if not self._has_preface:
            if data[: len(PREFACE)] != PREFACE[: len(data)]:
                raise Broken(PROTOCOL_ERROR)
            if len(data) < len(PREFACE):
                return data
            self._has_preface, at = True, len(PREFACE)
        end, answers = len(data), 0
        while end - at >= 9:
            head, flags, number = FRAME.unpack_from(data, at)
            length, kind = head >> 8, head & 255
            if length > MAX_FRAME:
                raise Broken(FRAME_SIZE_ERROR)
            if end - at - 9 < length:
                self._wanted = 9 + length
                return data[at:]
            at += 9
            payload = data[at : at + length]
            at += length
            if self._block is not None and kind != CONTINUATION:
                raise Broken(PROTOCOL_ERROR)
            number &= 0x7FFFFFFF
            if kind == DATA:
                self._on_data(number, flags, payload)
            elif kind == HEADERS:
                self._on_headers(number, flags, payload)
            else:
                if kind in (SETTINGS, PING):
                    answers += 1
                    if answers > MAX_QUEUED:
                        raise Broken(ENHANCE_YOUR_CALM)
                self._on_other(kind, number, flags, payload)
            if self._closing:
                return b""
        self._wanted = 9
        return data[at:]

    # Frames

    def _on_headers(self, number: int, flags: int, payload: bytes) -> None:
        if not number & 1:
            raise Broken(PROTOCOL_ERROR)
        payload = unpad(flags, payload)
        if flags & HAS_PRIORITY:
            if len(payload) < 5:
                raise Broken(FRAME_SIZE_ERROR)
            payload = payload[5:]
        if flags & END_HEADERS:
            self._on_block(number, flags, payload)
        else:
            self._block = number, flags, bytearray(payload)
            self._check_block(payload, flags)

    def _on_block(self, number: int, flags: int, block: bytes) -> None:
        headers = self._decoder.decode(block)  # even if nobody wants them: they change the decoder
        stream = self.streams.get(number)
        if stream is not None:  # trailers
            if stream.ended or not flags & END_STREAM:
                raise Broken(PROTOCOL_ERROR)
            self._end(stream)
            return
        if number <= self._last:
            raise Broken(STREAM_CLOSED)
        self._last = number
        if len(self.streams) >= self._limits.streams or (self._final and number > self._final):
            self.transport.write(frame(RST_STREAM, 0, number, struct.pack(">I", REFUSED_STREAM)))
            return
        stream = self.streams[number] = Stream(number, self._initial_window)
        self._application.start(self, stream, headers)
        if flags & END_STREAM and number in self.streams:
            self._end(stream)

    def _check_block(self, payload: bytes, flags: int) -> None:
        if self._block and (len(self._block[2]) > self._limits.header_bytes or not (payload or flags & END_HEADERS)):
            raise Broken(ENHANCE_YOUR_CALM)

    def _on_data(self, number: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        if not number or number > self._last:
            raise Broken(PROTOCOL_ERROR)
        self._received += size
        if self._received > 16 * WINDOW:
            raise Broken(FLOW_CONTROL_ERROR)
        updates = b""
        if self._received >= 4 * WINDOW:
            updates, self._received = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received)), 0
        stream = self.streams.get(number)
        if stream is not None:  # else: of a stream that has been answered already
            if stream.ended:
                raise Broken(STREAM_CLOSED)
            stream.received += size
            if stream.received > WINDOW:
                raise Broken(FLOW_CONTROL_ERROR)
            if stream.received > WINDOW // 2 and not flags & END_STREAM:
                updates += frame(WINDOW_UPDATE, 0, number, struct.pack(">I", stream.received))
                stream.received = 0
        if updates:
            self.transport.write(updates)
        if stream is not None:
            if size:
                self._application.feed(self, stream, unpad(flags, payload))
            if flags & END_STREAM and number in self.streams:
                self._end(stream)

    def _end(self, stream: Stream) -> None:
        stream.ended = True
        self._resets = max(0, self._resets - 1)
        self._application.end(self, stream)

    def _on_other(self, kind: int, number: int, flags: int, payload: bytes) -> None:
        if kind == CONTINUATION:
            if self._block is None or self._block[0] != number:
                raise Broken(PROTOCOL_ERROR)
            number, first, block = self._block
            block += payload
            self._check_block(payload, flags)
            if flags & END_HEADERS:
                self._block = None
                self._on_block(number, first, bytes(block))
        elif kind == WINDOW_UPDATE:
            self._on_window_update(number, payload)
        elif kind == SETTINGS:
            self._on_settings(number, flags, payload)
        elif kind == PING:
            if number or len(payload) != 8:
                raise Broken(PROTOCOL_ERROR if number else FRAME_SIZE_ERROR)
            if not flags & ACK:
                self.transport.write(frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM:
            if len(payload) != 4 or not number or number > self._last:
                raise Broken(FRAME_SIZE_ERROR if len(payload) != 4 else PROTOCOL_ERROR)
            self._resets += 1
            if self._resets > MAX_RESETS:
                raise Broken(ENHANCE_YOUR_CALM)
            stream = self.streams.pop(number, None)
            if stream is not None:
                self._application.lost(stream)
        elif kind == PUSH_PROMISE:
            raise Broken(PROTOCOL_ERROR)

    def _on_settings(self, number: int, flags: int, payload: bytes) -> None:
        if number or len(payload) % 6 or (flags & ACK and payload):
            raise Broken(FRAME_SIZE_ERROR)
        if flags & ACK:
            return
        window = self._initial_window
        for key, value in struct.iter_unpack(">HI", payload):
            if key == 4:
                if value > MAX_WINDOW:
                    raise Broken(FLOW_CONTROL_ERROR)
                window = value
            elif key == 5:
                if not 2**14 <= value < 2**24:
                    raise Broken(PROTOCOL_ERROR)
                self.max_frame = min(value, MAX_FRAME)
        for stream in self.streams.values():  # once, however often the frame names it
            stream.window += window - self._initial_window
        self._initial_window = window
        self.transport.write(frame(SETTINGS, ACK, 0))
        self.send_waiting()

    def _on_window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(FRAME_SIZE_ERROR)
        more = int.from_bytes(payload, "big") & MAX_WINDOW
        if not more or number > self._last:
            raise Broken(PROTOCOL_ERROR)
        if not number:
            self.window += more
            if self.window > MAX_WINDOW:
                raise Broken(FLOW_CONTROL_ERROR)
            self.send_waiting()
        elif (stream := self.streams.get(number)) is not None:
            stream.window += more
            if stream.window > MAX_WINDOW:
                raise Broken(FLOW_CONTROL_ERROR)
            self.flush(stream)
