"""What goes to one HTTP/2 client: answers, within its windows, and what is remembered of streams that have ended."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from ladle.serving.grpc.http2 import errors, frames
from ladle.serving.grpc.http2.frames import DATA, END_HEADERS, END_STREAM, FRAME_HEAD, HEADERS, frame
from ladle.serving.grpc.http2.streams import MAX_REMEMBERED, Stream

DEFAULT_WINDOW = 65535
"""Bytes, of both sides until they say otherwise (RFC 9113 §6.9.2)."""
_IDLE_A_FRAME = 4  # frames that carry nothing of a request which are forgiven for each frame of DATA


class Sender:
    """The sending half of a connection."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.streams: dict[int, Stream] = {}
        self._ended: OrderedDict[int, bool] = OrderedDict()  # the last streams that ended; whether we reset them early
        self._send_window = self._initial_send_window = DEFAULT_WINDOW
        self._max_send_frame = 2**14
        self._resets = 0  # streams that were cancelled or faulty, less the answered
        self._idle_frames = 0  # frames that carry nothing of a request, less those forgiven
        self._last_answered_id = 0  # after the final GOAWAY: later streams are refused

    def close(self, code: int) -> None:
        """Ends the connection."""
        raise NotImplementedError

    def respond(self, stream: Stream, headers: bytes, body: bytes, trailers: bytes) -> None:
        """Sends a whole answer, in one write when the client's windows have room for it."""
        size, number = len(body), stream.id
        if size > self._send_window or size > stream.send_window or size > self._max_send_frame or stream.pending:
            self.send_headers(stream, headers)
            self.send_data(stream, body)
            self.finish(stream, trailers)
            return
        self._send_window -= size
        pack = FRAME_HEAD.pack  # not `frame`: every small answer passes here
        first = pack(len(headers) << 8 | HEADERS, END_HEADERS, number)
        last = pack(len(trailers) << 8 | HEADERS, END_HEADERS | END_STREAM, number)
        self.transport.write(b"".join((first, headers, pack(size << 8 | DATA, 0, number), body, last, trailers)))
        self._forget(stream)

    def send_headers(self, stream: Stream, headers: bytes, end: bool = False) -> None:
        """Sends the answer's headers; with `end` they are the whole answer."""
        self.transport.write(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream.id, headers))
        if end:
            self._forget(stream)

    def send_data(self, stream: Stream, data: bytes) -> None:
        """Sends a part of the answer, or queues it until the client's windows have room."""
        stream.queue(data)
        self._flush(stream)

    def finish(self, stream: Stream, trailers: bytes) -> None:
        """Ends the answer, after the data that wait for the client's windows."""
        stream.trailers = trailers
        self._flush(stream)

    def _flush(self, stream: Stream) -> None:
        """Sends what the windows allow."""
        parts, size = stream.take(self._send_window, self._max_send_frame)
        self._idle_frames = max(0, self._idle_frames - _IDLE_A_FRAME * len(parts))
        self._send_window -= size
        is_done = not stream.pending and stream.trailers is not None
        if is_done:
            parts.append(frame(HEADERS, END_HEADERS | END_STREAM, stream.id, stream.trailers or b""))
        if parts:
            self.transport.write(b"".join(parts))
        if is_done:
            self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)
        self._ended[stream.id] = False  # as `_remember`, in place
        if len(self._ended) > MAX_REMEMBERED:
            self._ended.popitem(last=False)
        if self._resets:
            self._resets -= 1
        if not stream.is_complete:  # answered early: ask the client to stop sending (RFC 9113 §8.1)
            self._reset(stream.id, errors.NO_ERROR)
        if self._last_answered_id and not self.streams:
            self.close(errors.NO_ERROR)

    def _reset(self, stream_id: int, code: int) -> None:
        self._remember(stream_id, True)
        self.transport.write(frames.reset(stream_id, code))

    def _remember(self, stream_id: int, is_reset: bool) -> None:
        """What RFC 9113 §5.1 has for a late frame depends on how its stream ended: after our reset it is no fault."""
        self._ended[stream_id] = is_reset
        if len(self._ended) > MAX_REMEMBERED:
            self._ended.popitem(last=False)
