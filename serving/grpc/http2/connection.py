"""One client's HTTP/2 connection on asyncio (RFC 9113): its requests, what they may cost, and how it ends."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ladle.serving.grpc.http2 import errors, frames
from ladle.serving.grpc.http2.application import Application, Limits
from ladle.serving.grpc.http2.errors import Http2Error
from ladle.serving.grpc.http2.fields import check_request, check_trailers
from ladle.serving.grpc.http2.frames import DATA, END_HEADERS, END_STREAM, FRAME_HEAD, HEAD_BYTES, HEADERS, frame
from ladle.serving.grpc.http2.hpack import Decoder, Headers
from ladle.serving.grpc.http2.reader import MAX_FRAME_BYTES, Frame, FrameReader
from ladle.serving.grpc.http2.sender import DEFAULT_WINDOW, Sender
from ladle.serving.grpc.http2.streams import Stream
from ladle.serving.runtime.arrivals import GAP_S, LAG_S, MUCH_BYTES, Arrivals, busy_spell
from ladle.serving.runtime.turns import TURN_S, Turns

_STREAM_WINDOW = 2**20  # bytes that a client may send on a stream before we credit them
_CONNECTION_WINDOW = 16 * _STREAM_WINDOW  # one stream that stalls must not stop the others
_MAX_RESETS = 256  # streams that were cancelled or faulty, less the answered: rapid reset (CVE-2023-44487) ends here
_RESETS_A_CHECK = 64  # forgiven: a client may give up on every request that takes too long
_MAX_IDLE_FRAMES = 1000  # frames that carry nothing of a request, less those forgiven
_IDLE_A_REQUEST, _IDLE_A_CHECK = 16, 250  # forgiven for a whole request, and by time
_PING_TIMEOUT_S = 20.0
_MIN_FRAMES = 4  # of a turn, however long they take: a request need not wait between its headers and its message


def whole_request(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Stream id, header block and body, if `data` is HEADERS, then DATA that ends the stream, and nothing else.

    Many requests are: they need no list of frames. For None, the frames say what it is.
    """
    size = len(data)
    if not 2 * HEAD_BYTES <= size <= MAX_FRAME_BYTES:
        return None
    head, flags, stream_id = FRAME_HEAD.unpack_from(data)
    at = HEAD_BYTES + (head >> 8)
    behind = at + HEAD_BYTES
    if head & 255 != HEADERS or flags != END_HEADERS or behind > size or stream_id >> 31:
        return None
    # The length, the type DATA, which is 0, the flags and the stream of the frame that would fit.
    if data[at:behind] != FRAME_HEAD.pack((size - behind) << 8, END_STREAM, stream_id):
        return None
    return stream_id, data[HEAD_BYTES:at], data[behind:]


class Connection(Sender, asyncio.Protocol):
    """One client's connection. It is a member of `connections` while it is open.

    turns    connections that have sent more than fits a turn of the event loop
    arrived  `time.monotonic()` seconds at which the frames that are handled now had arrived
    memo     for the application
    """

    def __init__(
        self, application: Application, limits: Limits, connections: set[Connection], turns: Turns | None = None
    ) -> None:
        super().__init__()
        self.arrived = 0.0
        self.memo: Any = None
        self._arrivals: Any = None
        self._application, self._limits, self._connections = application, limits, connections
        # Receiving
        self._turns = turns or Turns()
        self._has_turn_coming = False
        self._reader = FrameReader(limits.header_bytes)
        self._unhandled: tuple[list[Frame], Http2Error | None] = [], None  # read in an earlier turn; what follows them
        self._decoder = Decoder(limits.header_bytes)
        self._last_stream_id = 0
        self._checked_headers: Headers | None = None
        self._checked_length: int | None = None
        self._uncredited = 0
        self._is_write_blocked = False  # the client does not read what we send
        # Ending
        self._is_closing = False
        self._is_ping_pending = False
        self._last_heard = time.monotonic()

    # asyncio

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._arrivals = Arrivals(transport)
        settings = frames.settings(
            (frames.MAX_CONCURRENT_STREAMS, self._limits.streams),
            (frames.INITIAL_WINDOW_SIZE, _STREAM_WINDOW),
            (frames.MAX_FRAME_SIZE, MAX_FRAME_BYTES),
            (frames.MAX_HEADER_LIST_SIZE, self._limits.header_bytes),
        )
        # SETTINGS sizes the windows of streams only; that of the connection grows by WINDOW_UPDATE (RFC 9113 §6.9.2).
        transport.write(settings + frames.window_update(0, _CONNECTION_WINDOW - DEFAULT_WINDOW))
        self._connections.add(self)
        if self._limits.connections and len(self._connections) > self._limits.connections:
            self.close(errors.ENHANCE_YOUR_CALM)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            self._application.on_cancel(stream)
        self._connections.discard(self)

    def pause_writing(self) -> None:
        # A client that does not read its answers is not read from either; else it could make us hold any number.
        self._is_write_blocked, self._last_heard = True, time.monotonic()
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_write_blocked, self._last_heard = False, time.monotonic()
        self._await_turn()  # in which frames that have arrived are handled, before more are read

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        self._last_heard = self.arrived = now = time.monotonic()
        self._is_ping_pending = False
        arrivals, spell = self._arrivals, busy_spell
        if now - spell.ended > GAP_S:
            spell.since = now
        may_have_waited = now - arrivals.read_at > LAG_S and now - spell.since > LAG_S
        if may_have_waited or len(data) >= MUCH_BYTES or arrivals.is_behind:
            self.arrived = arrivals.of(len(data), now)
        arrivals.read_at = now
        request = whole_request(data) if self._reader.is_between else None
        is_done = self._handle_all(data, now + TURN_S) if request is None else self._handle_request(*request)
        if not is_done and not self._is_closing:
            self.transport.pause_reading()
            self._await_turn()
        spell.ended = time.monotonic()

    def _await_turn(self) -> None:
        if not self._has_turn_coming:
            self._has_turn_coming = True
            self._turns.add(self._take_turn)

    def _take_turn(self) -> None:
        self._has_turn_coming = False
        if self._is_write_blocked or self._is_closing or self.transport.is_closing():
            return
        is_done = self._handle_all(b"", time.monotonic() + TURN_S)
        if self._is_write_blocked or self._is_closing:
            return
        if is_done:
            self.transport.resume_reading()
        else:
            self._await_turn()

    # Receiving

    def _handle_request(self, stream_id: int, block: bytes, body: bytes) -> bool:
        """Handles a request that has arrived as a whole, alone; False when a part of it must wait."""
        try:
            self._on_headers(stream_id, END_HEADERS, block)
            if self._is_closing or self._is_write_blocked:
                self._unhandled = [(DATA, END_STREAM, stream_id, body, len(body))], None
                return False
            self._on_data(stream_id, END_STREAM, body, len(body))
        except Http2Error as broken:
            self.close(broken.code)
        return not self._is_closing

    def _handle_all(self, data: bytes, turn_ends: float) -> bool:
        """Handles what has arrived, until the turn's time is up; whether that was all."""
        frames_left, error = self._unhandled
        if not frames_left:
            frames_left, error = self._reader.read(data)
        while True:
            try:
                frames_left = self._handle(frames_left, turn_ends)
            except Http2Error as broken:
                frames_left, error = [], broken
            self._unhandled = frames_left, error
            if frames_left:
                return False
            if error is not None:
                self.close(error.code)
            if not self._reader.has_more or self._is_closing:
                return not self._is_closing
            if self._is_write_blocked or time.monotonic() > turn_ends:
                return False
            frames_left, error = self._reader.read(b"")

    def _handle(self, found: list[Frame], turn_ends: float) -> list[Frame]:
        """Handles frames, until the turn's time is up; the rest."""
        for done, (kind, flags, stream_id, payload, size) in enumerate(found, 1):
            if kind == DATA:
                self._on_data(stream_id, flags, payload, size)
            elif kind == HEADERS:
                self._on_headers(stream_id, flags, payload)
            elif kind == frames.RST_STREAM:
                self._on_reset(stream_id)
            else:
                self._count_idle_frame()
                self._on_control(kind, flags, stream_id, payload)
            if self._is_closing:
                return []
            if self._is_write_blocked or (done >= _MIN_FRAMES and time.monotonic() > turn_ends):
                return found[done:]
        return []

    def _on_control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == frames.SETTINGS:
            self._on_settings(flags, payload)
        elif kind == frames.PING and not flags & frames.ACK:
            self.transport.write(frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.PRIORITY and len(payload) != 5:
            self._fail(stream_id, errors.FRAME_SIZE_ERROR)

    def _count_idle_frame(self) -> None:
        """Counts a frame that carries nothing of a request. A client needs few of them for each request and answer."""
        self._idle_frames += 1
        if self._idle_frames > _MAX_IDLE_FRAMES:
            raise Http2Error(errors.ENHANCE_YOUR_CALM, "got a flood of frames that carry nothing")

    def _on_headers(self, stream_id: int, flags: int, block: bytes) -> None:
        if not stream_id & 1:
            raise Http2Error(errors.PROTOCOL_ERROR, "got HEADERS on a stream that no client opens")
        headers = self._decoder.decode(block)  # always: a block that is skipped would leave HPACK's table wrong
        stream = self.streams.get(stream_id)
        if stream is not None:  # trailers
            if stream.is_complete:
                self._fail(stream_id, errors.STREAM_CLOSED)
            elif not flags & END_STREAM or check_trailers(headers or ()):
                self._fail(stream_id, errors.PROTOCOL_ERROR)
            else:
                self._complete(stream)
            return
        if stream_id <= self._last_stream_id:
            if not self._ended.get(stream_id):
                code = errors.STREAM_CLOSED if stream_id in self._ended else errors.PROTOCOL_ERROR
                raise Http2Error(code, "got HEADERS on a stream that has ended")
            return
        self._last_stream_id = stream_id
        if len(self.streams) >= self._limits.streams or (self._last_answered_id and stream_id > self._last_answered_id):
            self._reset(stream_id, errors.REFUSED_STREAM)
            return
        length = None
        if headers is not None:
            # Equal blocks decode to the same object, and a client repeats its headers: most are known to be right.
            if headers is self._checked_headers:
                length = self._checked_length
            else:
                fault, length = check_request(headers)
                if fault:
                    self._fail(stream_id, errors.PROTOCOL_ERROR)
                    return
                self._checked_headers, self._checked_length = headers, length
        stream = self.streams[stream_id] = Stream(stream_id, self._initial_send_window, length, self.arrived)
        self._application.on_headers(self, stream, headers)
        if flags & END_STREAM and stream_id in self.streams:
            self._complete(stream)

    def _on_data(self, stream_id: int, flags: int, payload: bytes, size: int) -> None:
        if not stream_id or stream_id > self._last_stream_id:
            raise Http2Error(errors.PROTOCOL_ERROR, "got DATA on an idle stream")
        self._uncredited += size
        if self._uncredited > _CONNECTION_WINDOW:
            raise Http2Error(errors.FLOW_CONTROL_ERROR, "got DATA beyond the connection's window")
        # Credit goes back in large steps, a quarter of the connection's window and half of a stream's: a client never
        # waits for it, and a small request costs no WINDOW_UPDATE at all.
        updates = b""
        if self._uncredited >= _CONNECTION_WINDOW // 4:
            updates, self._uncredited = frames.window_update(0, self._uncredited), 0
        stream = self.streams.get(stream_id)
        if stream is None or stream.is_complete:
            if updates:
                self.transport.write(updates)
            if not self._ended.get(stream_id):  # else it was on its way when we reset the stream
                self._fail(stream_id, errors.STREAM_CLOSED)
            return
        stream.uncredited += size
        if stream.uncredited > _STREAM_WINDOW:
            raise Http2Error(errors.FLOW_CONTROL_ERROR, "got DATA beyond the stream's window")
        if stream.uncredited > _STREAM_WINDOW // 2 and not flags & END_STREAM:
            updates += frames.window_update(stream_id, stream.uncredited)
            stream.uncredited = 0
        if updates:
            self.transport.write(updates)
        if stream.expected_bytes is not None:
            stream.expected_bytes -= len(payload)
            if stream.expected_bytes < 0:
                self._fail(stream_id, errors.PROTOCOL_ERROR)
                return
        if flags & END_STREAM:
            self._complete(stream, payload)
        elif payload:
            self._application.on_data(self, stream, payload, False)
        else:
            self._count_idle_frame()

    def _complete(self, stream: Stream, data: bytes = b"") -> None:
        """The client has sent END_STREAM, with the last `data` of its request."""
        if stream.expected_bytes:  # less has come than content-length said
            self._fail(stream.id, errors.PROTOCOL_ERROR)
            return
        stream.is_complete = True
        if self._idle_frames:
            self._idle_frames = max(0, self._idle_frames - _IDLE_A_REQUEST)
        self._application.on_data(self, stream, data, True)

    def _fail(self, stream_id: int, code: int) -> None:
        """A stream error (RFC 9113 §5.4.2): ends one stream, and counts as a reset by the client, which caused it."""
        self._count_reset()
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self._application.on_cancel(stream)
        self._reset(stream_id, code)

    def _count_reset(self) -> None:
        self._resets += 1
        if self._resets > _MAX_RESETS:
            raise Http2Error(errors.ENHANCE_YOUR_CALM, "got too many cancelled or faulty streams")

    def _on_reset(self, stream_id: int) -> None:
        if stream_id > self._last_stream_id:
            raise Http2Error(errors.PROTOCOL_ERROR, "got RST_STREAM on an idle stream")
        self._count_reset()
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self._remember(stream_id, False)
            self._application.on_cancel(stream)

    def _on_settings(self, flags: int, payload: bytes) -> None:
        values = frames.read_settings(flags, payload)
        if flags & frames.ACK:
            return
        self._max_send_frame = min(values.get(frames.MAX_FRAME_SIZE, self._max_send_frame), MAX_FRAME_BYTES)
        # Once for a frame: a frame that names the window 43,000 times must not cost as many rounds over the streams.
        window = values.get(frames.INITIAL_WINDOW_SIZE, self._initial_send_window)
        for stream in self.streams.values():
            stream.send_window += window - self._initial_send_window
        self._initial_send_window = window
        self.transport.write(frame(frames.SETTINGS, frames.ACK, 0))
        self._flush_all()

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        credit = int.from_bytes(payload, "big") & frames.MAX_WINDOW
        if stream_id > self._last_stream_id or (not credit and not stream_id):
            raise Http2Error(errors.PROTOCOL_ERROR, "got a WINDOW_UPDATE of 0, or on an idle stream")
        if not stream_id:
            self._send_window += credit
            if self._send_window > frames.MAX_WINDOW:
                raise Http2Error(errors.FLOW_CONTROL_ERROR, "got credit beyond 2^31 - 1 for the connection")
            self._flush_all()
        elif (stream := self.streams.get(stream_id)) is not None:
            stream.send_window += credit
            if not credit or stream.send_window > frames.MAX_WINDOW:
                self._fail(stream_id, errors.FLOW_CONTROL_ERROR if credit else errors.PROTOCOL_ERROR)
            elif stream.pending:
                self._flush(stream)

    def _flush_all(self) -> None:
        for stream in list(self.streams.values()):
            if stream.pending:
                self._flush(stream)

    # Ending

    def close(self, code: int) -> None:
        """Sends GOAWAY with the error code, then closes."""
        if not self._is_closing:
            self._is_closing = True
            self.transport.write(frames.goaway(self._last_stream_id, code))
            self.transport.close()

    def drain(self, last: bool) -> None:
        """Asks the client to open no more streams; with `last`, streams that open from now on are refused.

        Two GOAWAYs, as RFC 9113 §6.8 advises: streams that are on their way when the first one leaves are answered.
        """
        if self._is_closing or self.transport.is_closing():
            return
        self._last_answered_id = max(self._last_stream_id, 1) if last else 0
        number = self._last_answered_id if last else frames.MAX_WINDOW
        self.transport.write(frames.goaway(number, errors.NO_ERROR))
        if last and not self.streams:
            self.close(errors.NO_ERROR)

    def check_timeouts(self, now: float) -> None:
        """Ends what has taken too long; pings a silent client. `now` in `time.monotonic()` seconds."""
        self._resets = max(0, self._resets - _RESETS_A_CHECK)
        self._idle_frames = max(0, self._idle_frames - _IDLE_A_CHECK)
        limit, keepalive = self._limits.read_timeout_s, self._limits.keepalive_s
        silent_s = now - self._last_heard
        is_stuck = self._is_write_blocked or not self._reader.has_preface or self._is_closing
        if (is_stuck and silent_s > limit) or (self._is_ping_pending and silent_s > keepalive + _PING_TIMEOUT_S):
            self.transport.abort()
            return
        if not self._is_ping_pending and silent_s > keepalive and self._reader.has_preface and not self._is_closing:
            self._is_ping_pending = True
            self.transport.write(frame(frames.PING, 0, 0, b"keepaliv"))
        for stream in list(self.streams.values()):
            if (stream.pending or not stream.is_complete) and now - stream.last_progress > limit:
                self.streams.pop(stream.id, None)
                self._application.on_cancel(stream)
                self._reset(stream.id, errors.CANCEL)
        if self._last_answered_id and not self.streams:  # the last one was cancelled, so `_forget` did not see it
            self.close(errors.NO_ERROR)
